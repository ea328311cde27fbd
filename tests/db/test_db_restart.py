"""When the virtual WAL may begin anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dqlite_py.db.database import Database
from tests.kit.replicated import assert_equal, create, replicate, statement
from tests.kit.slow_reader import SlowReader

MAKE = statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
INSERT = statement("INSERT INTO t(b) VALUES(randomblob(20000))")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Database, Database]]:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    replicate(leader, [follower], MAKE, INSERT)
    yield leader, follower
    assert_equal(leader, follower)
    leader.close()
    follower.close()


def test_a_wal_of_which_only_a_part_is_in_the_file_goes_on(pair: tuple[Database, Database]) -> None:
    leader, follower = pair
    reader = SlowReader(follower, stubborn=True)
    replicate(leader, [follower], INSERT)
    assert not follower.checkpoint().complete
    reader.end()
    assert not follower.backfilled
    generation = follower.position().generation
    assert not follower.restart_wal()
    replicate(leader, [follower], INSERT)
    assert follower.position().generation == generation


def test_a_reader_that_began_late_holds_the_wal_as_well(pair: tuple[Database, Database]) -> None:
    leader, follower = pair
    early = SlowReader(follower, stubborn=True)
    replicate(leader, [follower], INSERT)
    late = SlowReader(follower, stubborn=True)
    early.end()
    assert follower.checkpoint().complete
    generation = follower.position().generation
    assert not follower.restart_wal()
    replicate(leader, [follower], INSERT)
    assert follower.position().generation == generation
    late.end()

"""Taking back speculation: exact, refused while anybody looks, and safe for what was prepared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import InvariantBroken, ReadersBusy, ReadInterrupted
from tests.kit.replicated import (
    Job,
    assert_equal,
    create,
    execute,
    image,
    replicate,
    statement,
    travelled,
)
from tests.kit.slow_reader import SlowReader

MAKE = statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
INSERT = statement("INSERT INTO t(b) VALUES(randomblob(3000))")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Database, Database]]:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    replicate(leader, [follower], MAKE, INSERT)
    yield leader, follower
    leader.close()
    follower.close()


def test_rollback_restores_the_committed_bytes(pair: tuple[Database, Database]) -> None:
    leader, follower = pair
    before = image(leader)
    for _ in range(5):
        execute(leader, INSERT, statement("CREATE INDEX IF NOT EXISTS i ON t(b)"))
    assert leader.speculative
    assert image(leader) != before
    assert leader.rollback_to_committed() == leader.position()
    assert not leader.speculative
    assert image(leader) == before
    assert_equal(leader, follower)


def test_only_what_is_not_committed_is_taken_back(pair: tuple[Database, Database]) -> None:
    leader, follower = pair
    first, second = execute(leader, INSERT), execute(leader, INSERT)
    assert first.batch is not None
    assert second.batch is not None
    leader.set_committed(first.position)
    follower.inject(travelled(first.batch))
    leader.rollback_to_committed()
    assert_equal(leader, follower)


def test_pages_are_injected_only_without_speculation(pair: tuple[Database, Database]) -> None:
    leader, follower = pair
    batch = execute(leader, INSERT).batch
    assert batch is not None
    execute(follower, INSERT)
    with pytest.raises(InvariantBroken):
        follower.inject(batch)
    follower.rollback_to_committed()
    follower.inject(batch)
    leader.set_committed(leader.position())
    assert_equal(leader, follower)


def test_positions_are_committed_in_order(pair: tuple[Database, Database]) -> None:
    leader, _ = pair
    first, second = execute(leader, INSERT), execute(leader, INSERT)
    leader.set_committed(second.position)
    with pytest.raises(InvariantBroken):
        leader.set_committed(first.position)


def test_a_rollback_interrupts_readers_and_waits_for_them(
    pair: tuple[Database, Database],
) -> None:
    leader, follower = pair
    execute(leader, INSERT)
    reader = SlowReader(leader)
    with pytest.raises(ReadersBusy):
        leader.rollback_to_committed()
    reader.end()
    assert reader.error is not None
    leader.rollback_to_committed()
    assert_equal(leader, follower)


def test_a_reader_that_can_not_be_interrupted_blocks_the_rollback(
    pair: tuple[Database, Database],
) -> None:
    leader, follower = pair
    execute(leader, INSERT)
    reader = SlowReader(leader, stubborn=True)
    for _ in range(3):
        with pytest.raises(ReadersBusy):
            leader.rollback_to_committed()
        with pytest.raises(ReadInterrupted):  # nobody new may look at what is being taken back
            leader.read(statement("SELECT 1"))
    reader.end()
    assert leader.speculative
    leader.rollback_to_committed()
    assert leader.read(statement("SELECT count(*) FROM t")) == [(1,)]
    assert_equal(leader, follower)


def test_a_rollback_waits_for_a_checkpoint(pair: tuple[Database, Database]) -> None:
    leader, follower = pair
    found: list[str] = []

    def limit_fixed() -> None:
        execute(leader, INSERT)
        try:
            leader.rollback_to_committed()
        except ReadersBusy:
            found.append("busy")

    assert leader.checkpoint(limit_fixed).complete
    assert found == ["busy"]
    leader.rollback_to_committed()
    assert_equal(leader, follower)


def test_a_statement_prepared_on_lost_schema_is_never_used(
    pair: tuple[Database, Database],
) -> None:
    """The schema cookie comes again with another schema, so it can not tell them apart."""
    leader, follower = pair
    execute(leader, statement("CREATE TABLE z(a, b)"), statement("INSERT INTO z VALUES(1, 2)"))
    query = statement("SELECT * FROM z")
    execute(leader, query)
    for _ in range(2):  # once for each connection of the pool
        assert leader.read(query) == [(1, 2)]
    assert leader.read_now(query) == [(1, 2)]
    leader.rollback_to_committed()
    replicate(
        leader,
        [follower],
        statement("CREATE TABLE z(b, c)"),
        statement("INSERT INTO z VALUES('B', 'C')"),
    )
    for _ in range(2):
        assert leader.read(query) == [("B", "C")]
    assert leader.read_now(query) == [("B", "C")]
    assert execute(leader, query).results == [[("B", "C")]]
    assert_equal(leader, follower)


def test_no_header_ever_comes_again(pair: tuple[Database, Database]) -> None:
    """A page cache is kept while the header is equal; so two states must never share one."""
    leader, follower = pair
    seen = {leader._index.change}

    def note(database: Database) -> None:
        assert database._index.change not in seen
        seen.add(database._index.change)

    for _ in range(3):
        execute(leader, INSERT)
        note(leader)
        leader.rollback_to_committed()
        note(leader)
    batch = execute(leader, INSERT).batch
    assert batch is not None
    leader.set_committed(leader.position())
    note(leader)
    assert leader.checkpoint().complete
    assert leader.restart_wal()
    note(leader)
    follower.inject(batch)
    assert_equal(leader, follower)


def test_a_cache_never_shows_what_was_rolled_back(pair: tuple[Database, Database]) -> None:
    leader, follower = pair
    change: list[Job] = [statement("UPDATE t SET b = ?", (value,)) for value in ("old", "new")]
    query = statement("SELECT b FROM t")
    execute(leader, change[0])
    assert leader.read_now(query) == [("old",)]
    leader.rollback_to_committed()
    outcome = replicate(leader, [follower], change[1])
    assert outcome.batch is not None
    readers: list[Any] = [leader.read_now(query), follower.read_now(query)]
    assert readers == [[("new",)], [("new",)]]


def test_a_pinned_checkpoint_followed_by_a_rollback_loses_nothing(
    pair: tuple[Database, Database],
) -> None:
    """A pinned checkpoint skips pages that have newer frames; those may be the ones taken back."""
    leader, follower = pair
    reader = SlowReader(leader, stubborn=True)
    replicate(leader, [follower], statement("UPDATE t SET b = randomblob(3000)"))
    assert not leader.checkpoint().complete
    execute(leader, statement("UPDATE t SET b = randomblob(3000)"))
    reader.end()
    leader.rollback_to_committed()
    assert_equal(leader, follower)
    replicate(leader, [follower], INSERT)
    assert leader.checkpoint().complete
    assert leader.restart_wal()
    assert_equal(leader, follower)


def test_a_commit_that_restarted_the_wal_can_be_rolled_back(
    pair: tuple[Database, Database],
) -> None:
    leader, follower = pair
    assert leader.checkpoint().complete
    before = leader.position()
    execute(leader, INSERT)
    assert leader.position().generation > before.generation
    assert leader.position().max_frame < before.max_frame + 3
    leader.rollback_to_committed()
    assert leader.position().max_frame == 0
    assert_equal(leader, follower)
    replicate(leader, [follower], INSERT)
    assert_equal(leader, follower)


def test_a_close_waits_for_readers_and_may_be_repeated(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    execute(database, MAKE)
    reader = SlowReader(database, stubborn=True)
    for _ in range(2):
        with pytest.raises(ReadersBusy):
            database.close()
        with pytest.raises(ReadInterrupted):
            database.read(statement("SELECT 1"))
    reader.end()
    database.close()

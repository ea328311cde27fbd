"""What was prepared on a schema that a rollback took back is never used again."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqlite_py.errors import StatementFailed
from tests.kit.replicated import assert_equal, create, execute, replicate, statement


def test_a_column_that_was_taken_back_is_not_found_under_the_same_schema_cookie(
    tmp_path: Path,
) -> None:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    replicate(leader, [follower], statement("CREATE TABLE t(a)"))
    execute(leader, statement("CREATE TABLE z(a, b)"), statement("INSERT INTO z VALUES(1, 2)"))
    query = statement("SELECT a, b FROM z")
    cookie = statement("PRAGMA schema_version")
    before = leader.read(cookie)
    assert execute(leader, query).results == [[(1, 2)]]
    for _ in range(2):  # once for each connection of the pool
        assert leader.read(query) == [(1, 2)]
    assert leader.read_now(query) == [(1, 2)]
    leader.rollback_to_committed()
    make, fill = statement("CREATE TABLE z(b, c)"), statement("INSERT INTO z VALUES('B', 'C')")
    replicate(leader, [follower], make, fill)
    assert leader.read(cookie) == before  # so SQLite can not tell the two schemas apart
    for read in (leader.read, leader.read, leader.read_now):
        with pytest.raises(StatementFailed, match="no such column: a"):
            read(query)
    (refused,) = execute(leader, query).results
    assert isinstance(refused, StatementFailed)
    assert_equal(leader, follower)
    leader.close()
    follower.close()

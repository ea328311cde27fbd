"""What ends a request, what ends a batch, and what is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import (
    BatchTooLarge,
    InvariantBroken,
    KeyNotFound,
    LeaseNotFound,
    RequestTooLarge,
    StatementFailed,
)
from tests.kit.replicated import Job, assert_equal, create, execute, image, replicate, statement

MAKE = statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = create(tmp_path, "one")
    execute(database, MAKE)
    yield database
    database.close()


def rows(database: Database) -> list[Any]:
    return [row[0] for row in database.read(statement("SELECT a FROM t ORDER BY a"))]


def insert(key: int) -> Job:
    return statement("INSERT INTO t(a) VALUES(?)", (key,))


class Counter:
    """A revision counter as a state machine keeps one: moved by jobs, restored by marks."""

    def __init__(self) -> None:
        self.value = 0

    def mark(self) -> int:
        return self.value

    def restore(self, mark: int) -> None:
        self.value = mark

    def job(self, inner: Job) -> Job:
        def run(session: apsw.Connection) -> int:
            self.value += 1
            inner(session)
            return self.value

        return run


def run(database: Database, counter: Counter, *inner: Job) -> list[Any]:
    jobs = [counter.job(job) for job in inner]
    outcome = database.execute_batch(jobs, mark=counter.mark, restore=counter.restore)
    return [type(r) if isinstance(r, Exception) else r for r in outcome.results]


def refuse(session: apsw.Connection) -> None:
    session.execute("INSERT INTO t(a) VALUES(77)")
    raise LeaseNotFound


def test_many_jobs_are_one_commit(database: Database) -> None:
    before = database.position()
    outcome = execute(database, insert(1), insert(2), insert(3))
    assert outcome.batch is not None
    assert outcome.position.max_frame == before.max_frame + len(outcome.batch.pages)
    assert rows(database) == [1, 2, 3]


def test_a_batch_without_changes_has_no_pages(database: Database) -> None:
    position = database.position()
    for jobs in ([], [statement("SELECT a FROM t")], [refuse, refuse]):
        outcome = execute(database, *jobs)
        assert outcome.batch is None
        assert outcome.position == position


def test_a_refused_job_is_undone_alone(database: Database) -> None:
    counter = Counter()
    assert run(database, counter, insert(1), refuse, insert(2)) == [1, LeaseNotFound, 2]
    assert rows(database) == [1, 2]
    assert counter.value == 2


def test_a_failed_statement_is_the_jobs_answer(database: Database) -> None:
    counter = Counter()
    assert run(database, counter, insert(1), insert(1), insert(2)) == [1, StatementFailed, 2]
    assert rows(database) == [1, 2]


@pytest.mark.parametrize("ending", ["or rollback", "raise", "interrupt"])
def test_a_job_that_ends_the_transaction_costs_only_itself(database: Database, ending: str) -> None:
    execute(database, insert(1))
    if ending == "raise":
        trigger = "CREATE TRIGGER g BEFORE INSERT ON t WHEN new.a = 66 "
        execute(database, statement(trigger + "BEGIN SELECT RAISE(ROLLBACK, 'no'); END"))
    culprit = {
        "or rollback": statement("INSERT OR ROLLBACK INTO t(a) VALUES(1)"),
        "raise": insert(66),
        "interrupt": interrupted_write,
    }[ending]
    counter = Counter()
    results = run(database, counter, insert(2), culprit, insert(3), culprit, insert(4))
    assert results == [1, StatementFailed, 2, StatementFailed, 3]
    assert rows(database) == [1, 2, 3, 4]
    assert counter.value == 3


def interrupted_write(session: apsw.Connection) -> None:
    session.create_scalar_function("stop", lambda value: (session.interrupt(), value)[1])
    session.execute(
        "WITH RECURSIVE n(x) AS (SELECT 100 UNION ALL SELECT x + 1 FROM n WHERE x < 100000) "
        "INSERT INTO t(a) SELECT stop(x) FROM n"
    ).fetchall()


def test_deferred_foreign_keys_are_due_at_the_end_of_each_job(database: Database) -> None:
    execute(
        database,
        insert(1),
        statement("CREATE TABLE c(p REFERENCES t DEFERRABLE INITIALLY DEFERRED)"),
    )

    def mends_itself(session: apsw.Connection) -> None:
        session.execute("INSERT INTO c VALUES(5)")
        session.execute("INSERT INTO t(a) VALUES(5)")

    orphan = statement("INSERT INTO c VALUES(99)")
    counter = Counter()
    assert run(database, counter, insert(2), orphan, mends_itself) == [1, StatementFailed, 2]
    assert rows(database) == [1, 2, 5]
    assert database.read(statement("PRAGMA foreign_key_check")) == []


def test_a_job_that_commits_by_itself_is_an_invariant_broken(database: Database) -> None:
    with pytest.raises(InvariantBroken):
        execute(database, statement("COMMIT"))
    other = [statement("COMMIT"), statement("BEGIN")]
    with pytest.raises(InvariantBroken):
        execute(database, lambda session: [job(session) for job in other])


def test_an_unknown_error_undoes_the_whole_batch(database: Database) -> None:
    counter, before = Counter(), image(database)

    def broken(session: apsw.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(database, counter, insert(1), broken)
    assert counter.value == 0
    assert image(database) == before
    execute(database, insert(1))


@pytest.mark.parametrize("cache_kib", [32, 4096])
def test_a_request_above_the_entry_limit_is_refused_before_commit(
    tmp_path: Path, cache_kib: int
) -> None:
    leader = create(tmp_path, "leader", writer_cache_kib=cache_kib)
    follower = create(tmp_path, "follower")
    replicate(leader, [follower], MAKE)
    large = statement("INSERT INTO t(b) VALUES(zeroblob(1000000))")
    outcome = execute(leader, large, max_frames_bytes=200_000)
    assert [type(result) for result in outcome.results] == [RequestTooLarge]
    assert outcome.batch is None
    with pytest.raises(BatchTooLarge):
        execute(leader, insert(1), large, max_frames_bytes=200_000)
    assert leader.wal_bytes == follower.wal_bytes
    assert not leader.speculative
    replicate(leader, [follower], insert(1), large)
    assert_equal(leader, follower)
    leader.close()
    follower.close()


def test_the_entry_limit_counts_from_a_restarted_wal(database: Database) -> None:
    execute(database, statement("INSERT INTO t(b) VALUES(zeroblob(900000))"))
    database.set_committed(database.position())
    assert database.checkpoint().complete
    large = statement("INSERT INTO t(b) VALUES(zeroblob(300000))")
    for _ in range(2):
        outcome = execute(database, large, max_frames_bytes=200_000)
        assert [type(result) for result in outcome.results] == [RequestTooLarge]
        assert not database.speculative
    assert execute(database, large, max_frames_bytes=400_000).batch is not None


def test_no_sql_runs_before_the_replay_is_done(tmp_path: Path) -> None:
    path = tmp_path / "one.sqlite"
    path.write_bytes(Database.create_genesis(4096))
    database = Database(str(path), page_size=4096)
    with pytest.raises(InvariantBroken):
        execute(database, MAKE)
    with pytest.raises(InvariantBroken):
        database.read(statement("SELECT 1"))
    database.close()


def test_a_refusal_keeps_its_own_class(database: Database) -> None:
    def absent(session: apsw.Connection) -> None:
        raise KeyNotFound

    assert [type(result) for result in execute(database, absent).results] == [KeyNotFound]

"""Readers: stable snapshots beside injection, calling back, pausing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import apsw
import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import InvariantBroken, ReadInterrupted, StatementFailed, TooManyRequests
from dqlite_py.vfs.frames import FrameBatch
from tests.kit.replicated import HandClock, assert_equal, create, execute, replicate, statement

MAKE = statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
SELECT = statement("SELECT count(*) FROM t")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = create(tmp_path, "one", readers=1)
    execute(database, MAKE)
    database.set_committed(database.position())
    yield database
    database.close()


def history(leader: Database, count: int) -> list[FrameBatch]:
    """Commits that keep two tables equal, each with a few pages."""
    batches = []
    for number in range(count):
        outcome = execute(
            leader,
            statement("UPDATE p SET n = n + 1, filler = randomblob(5000)"),
            statement("UPDATE q SET n = n + 1, filler = randomblob(5000)"),
            statement("INSERT INTO log VALUES(?)", (number,)),
        )
        assert outcome.batch is not None
        leader.set_committed(outcome.position)
        batches.append(outcome.batch)
        if leader.wal_bytes > 2_000_000:
            assert leader.checkpoint().complete
    return batches


class Racer:
    """Reads without pause; notes the latest state and anything that can not be."""

    def __init__(self, database: Database, stop: Event) -> None:
        self._database, self._stop = database, stop
        self.reads, self.latest = 0, -1
        self.wrong: list[object] = []
        self.thread = Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._database.read(self._query)
            except Exception as error:
                self.wrong.append(error)
                return

    def _query(self, session: apsw.Connection) -> None:
        first = session.execute("SELECT n FROM p").fetchall()[0][0]
        rows = session.execute("SELECT count(*) FROM log").fetchall()[0][0]
        second = session.execute("SELECT n FROM q").fetchall()[0][0]
        if not first == second == rows or first < self.latest:
            self.wrong.append((self.latest, first, second, rows))
        self.latest = first
        self.reads += 1


class Checkpoints:
    """Checkpoints without pause; ``gate`` keeps injection out until the limit is fixed."""

    def __init__(self, database: Database, stop: Event, gate: Any) -> None:
        self._database, self._stop, self._gate = database, stop, gate
        self.complete = 0
        self.wrong: list[object] = []
        self.thread = Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._gate.acquire()
                self.complete += self._database.checkpoint(self._gate.release).complete
            except Exception as error:
                self.wrong.append(error)
                return


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads take turns often, so that they meet in more places."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_threads")
def test_readers_racing_injection_see_whole_commits_in_order(tmp_path: Path) -> None:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower", readers=3)
    replicate(leader, [follower], statement("CREATE TABLE log(k)"))
    for table in ("p", "q"):
        replicate(leader, [follower], statement(f"CREATE TABLE {table}(n, filler)"))
        replicate(leader, [follower], statement(f"INSERT INTO {table} VALUES(0, 0)"))
    count = 1500
    batches = history(leader, count)
    stop, gate = Event(), Lock()
    racers = [Racer(follower, stop) for _ in range(2)]
    checkpoints = Checkpoints(follower, stop, gate)
    for batch in batches:
        with gate:
            follower.inject(batch)
    stop.set()
    for thread in (*(racer.thread for racer in racers), checkpoints.thread):
        thread.join(10)
        assert not thread.is_alive()
    assert [racer.wrong for racer in racers] == [[], []]
    assert checkpoints.wrong == []
    assert checkpoints.complete > 0
    assert sum(racer.reads for racer in racers) > 100
    assert follower._wal.recoveries == 0
    assert follower.read(statement("SELECT n FROM p")) == [(count,)]
    assert_equal(leader, follower)
    leader.close()
    follower.close()


def test_a_snapshot_is_fixed_before_the_first_step(database: Database) -> None:
    sampled: list[object] = []

    def first_step() -> None:
        sampled.append(database.position())
        execute(database, statement("INSERT INTO t VALUES(1, 1)"))

    before = database.position()
    assert database.read_with(first_step, SELECT) == [(0,)]
    assert sampled == [before]
    assert database.read(SELECT) == [(1,)]


def test_reads_beyond_the_pool_are_refused(database: Database) -> None:
    def nested(session: apsw.Connection) -> None:
        database.read(SELECT)

    with pytest.raises(TooManyRequests):
        database.read(nested)
    assert database.read(SELECT) == [(0,)]


def test_paused_readers_are_refused_but_the_event_loops_own(database: Database) -> None:
    database.pause_readers()
    with pytest.raises(ReadInterrupted):
        database.read(SELECT)
    assert database.read_now(SELECT) == [(0,)]
    database.resume_readers()
    assert database.read(SELECT) == [(0,)]


def test_only_reads_older_than_an_age_are_interrupted(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    clock = database._clock
    assert isinstance(clock, HandClock)
    counts: list[int] = []

    def query(session: apsw.Connection) -> None:
        def ask() -> int:
            clock.time_s += 1.0
            counts.append(database.interrupt_readers(older_than_s=2.5))
            return 0

        session.create_scalar_function("ask", ask)
        session.execute(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
            "SELECT count(*) FROM n WHERE x % 1000 = 0 AND ask()"
        ).fetchall()

    with pytest.raises(ReadInterrupted):
        database.read(query)
    assert counts[:3] == [0, 0, 1]
    assert database.interrupt_readers() == 0
    assert database.read(statement("SELECT 1")) == [(1,)]
    database.close()


def test_a_query_can_not_write(database: Database) -> None:
    with pytest.raises(StatementFailed):
        database.read(statement("INSERT INTO t VALUES(1, 1)"))
    assert database.read(SELECT) == [(0,)]


def test_a_query_must_finish_its_statements(database: Database) -> None:
    """One left open would hold its snapshot, and with it the WAL, for ever."""
    kept: list[object] = []
    execute(database, statement("INSERT INTO t VALUES(1, 1), (2, 2)"))
    with pytest.raises(InvariantBroken):
        database.read(lambda session: kept.append(session.execute("SELECT a FROM t")))
    kept.clear()
    assert database.read(SELECT) == [(2,)]


def test_sizes_and_integrity(database: Database) -> None:
    execute(database, statement("INSERT INTO t(b) VALUES(zeroblob(100000))"))
    full = database.size_in_use_bytes()
    assert full == database.size_bytes > 100_000
    execute(database, statement("DELETE FROM t"))
    assert database.size_in_use_bytes() < 20_000 < database.size_bytes
    assert database.integrity_check() == []

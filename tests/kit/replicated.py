"""Databases that follow one another by frames alone, without Raft; and a random workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import apsw

from dqlite_py.db.database import Database
from dqlite_py.db.position import BatchOutcome
from dqlite_py.errors import KeyNotFound
from dqlite_py.vfs.frames import FrameBatch, decode, encode

PAGE_SIZES = (512, 1024, 4096, 8192, 65536)
Job = Callable[[apsw.Connection], Any]


class HandClock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s

    def wall_s(self) -> float:
        return self.time_s


def create(
    folder: Path, name: str, page_size: int = 4096, *, readers: int = 2, **options: Any
) -> Database:
    """Return a new database on the real file system, open for SQL."""
    path = folder / f"{name}.sqlite"
    path.write_bytes(Database.create_genesis(page_size))
    database = Database(str(path), page_size=page_size, clock=HandClock(), **options)
    database.open_sql(readers)
    return database


def execute(database: Database, *jobs: Job, **options: Any) -> BatchOutcome:
    """Execute a batch whose caller keeps no counters."""
    return database.execute_batch(jobs, mark=lambda: None, restore=lambda _: None, **options)


def statement(sql: str, bindings: Sequence[Any] = ()) -> Job:
    """Return a job of one statement."""
    return lambda session: session.execute(sql, bindings).fetchall()


def image(database: Database) -> bytes:
    """Return the whole database as its readers see it."""
    return database.read(lambda session: session.serialize("main"))


def travelled(batch: FrameBatch) -> FrameBatch:
    """Return the batch as it arrives after a journey as bytes."""
    return decode(encode(batch))


def replicate(leader: Database, followers: Sequence[Database], *jobs: Job) -> BatchOutcome:
    """Execute a batch, call it committed and inject it everywhere."""
    outcome = execute(leader, *jobs)
    if outcome.batch is not None:
        leader.set_committed(outcome.position)
        for follower in followers:
            follower.inject(travelled(outcome.batch))
    return outcome


def assert_equal(*databases: Database) -> None:
    """Compare whole images, let SQLite check each, and see that no index was ever recovered."""
    first = image(databases[0])
    for database in databases:
        assert image(database) == first
        assert database.integrity_check() == []
        assert database._wal.recoveries == 0


class Workload:
    """Random jobs: schema changes, rows small and large, savepoints, refusals.

    Each job looks at the schema it finds, so it fits whatever state speculation and rollback left.
    """

    def __init__(self, random: Random, largest_bytes: int = 20_000) -> None:
        self._random = random
        self._largest_bytes = largest_bytes
        self._serial = 0

    def batch(self, most: int = 4) -> list[Job]:
        return [self._job() for _ in range(self._random.randint(1, most))]

    def _job(self) -> Job:
        self._serial += 1
        kinds = (self.insert, self.insert, self.insert, self.update, self.delete, self.create)
        kinds += (self.index, self.drop, self.nested, self.refused, self.many)
        kind, seed = self._random.choice(kinds), self._random.getrandbits(32)
        serial = self._serial
        return lambda session: kind(session, Random(seed), serial)

    def insert(self, session: apsw.Connection, random: Random, serial: int) -> None:
        blob = random.randbytes(
            random.choice((10, 300, 3000, random.randint(1, self._largest_bytes)))
        )
        table = self._table(session, random, serial)
        session.execute(f'INSERT INTO "{table}"(x, y) VALUES(?, ?)', (random.random(), blob))

    def many(self, session: apsw.Connection, random: Random, serial: int) -> None:
        table = self._table(session, random, serial)
        rows = [(random.random(), random.randbytes(200)) for _ in range(random.randint(20, 150))]
        session.executemany(f'INSERT INTO "{table}"(x, y) VALUES(?, ?)', rows)

    def update(self, session: apsw.Connection, random: Random, serial: int) -> None:
        table = self._table(session, random, serial)
        change = (random.randbytes(random.randint(1, 2000)), random.random())
        session.execute(f'UPDATE "{table}" SET y = ? WHERE x < ? AND id % 3 = 1', change)

    def delete(self, session: apsw.Connection, random: Random, serial: int) -> None:
        table = self._table(session, random, serial)
        session.execute(f'DELETE FROM "{table}" WHERE x < ?', (random.random() / 2,))

    def create(self, session: apsw.Connection, random: Random, serial: int) -> None:
        session.execute(f'CREATE TABLE "t{serial}"(id INTEGER PRIMARY KEY, x REAL, y BLOB)')

    def index(self, session: apsw.Connection, random: Random, serial: int) -> None:
        table = self._table(session, random, serial)
        session.execute(f'CREATE INDEX "i{serial}" ON "{table}"(x, y)')

    def drop(self, session: apsw.Connection, random: Random, serial: int) -> None:
        if len(self._tables(session)) > 4:
            session.execute(f'DROP TABLE "{self._table(session, random, serial)}"')

    def nested(self, session: apsw.Connection, random: Random, serial: int) -> None:
        session.execute("SAVEPOINT inner")
        self.many(session, random, serial)
        self.delete(session, random, serial)
        session.execute("ROLLBACK TO inner")
        self.update(session, random, serial)
        session.execute("RELEASE inner")

    def refused(self, session: apsw.Connection, random: Random, serial: int) -> None:
        self.many(session, random, serial)
        self.create(session, random, serial)
        raise KeyNotFound

    def _tables(self, session: apsw.Connection) -> list[str]:
        rows = session.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        return [str(row[0]) for row in rows]

    def _table(self, session: apsw.Connection, random: Random, serial: int) -> str:
        tables = self._tables(session)
        if not tables:
            self.create(session, random, serial * 1_000_000)
            tables = self._tables(session)
        return random.choice(tables)

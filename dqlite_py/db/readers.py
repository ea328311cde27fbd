"""Read connections: who has one, for how long, and how they are called back.

No locks: taking a connection is one ``deque.popleft``, which is atomic, so whoever got it owns it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import apsw

from dqlite_py.db.failures import translate
from dqlite_py.errors import InvariantBroken, ReadInterrupted, TooManyRequests
from dqlite_py.seams import Clock

T = TypeVar("T")


class _Reader:
    """One read connection and, while it is in use, the time when the use began."""

    __slots__ = ("connection", "since_s")

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.since_s: float | None = None


class ReaderPool:
    """A fixed set of read connections, usable from any thread, one query each at a time."""

    def __init__(
        self, connections: Sequence[apsw.Connection], clock: Clock | None, path: str
    ) -> None:
        self._all = [_Reader(connection) for connection in connections]
        self._idle = deque(self._all)
        self._clock = clock
        self._path = path
        self._closed = False
        self._interrupting = 0
        self.paused = False

    def read(self, query: Callable[[apsw.Connection], T], first_step: Callable[[], None]) -> T:
        """Run ``query`` in a read transaction whose snapshot is fixed before ``first_step`` runs.

        Raises ReadInterrupted when paused, closed or interrupted; TooManyRequests when every
        connection is in use; StatementFailed or Fatal for an error of SQLite.
        """
        if self.paused:
            raise ReadInterrupted
        try:
            reader = self._idle.popleft()
        except IndexError:
            raise ReadInterrupted if self._closed or self.paused else TooManyRequests from None
        reader.since_s = 0.0 if self._clock is None else self._clock.now_s()
        try:
            return self._run(reader.connection, query, first_step)
        finally:
            reader.since_s = None
            self._idle.append(reader)

    def _run(
        self,
        connection: apsw.Connection,
        query: Callable[[apsw.Connection], T],
        first_step: Callable[[], None],
    ) -> T:
        try:
            connection.execute("BEGIN")
            try:
                connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
                first_step()
                result = query(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except apsw.InterruptError as error:
            raise ReadInterrupted from error
        except apsw.Error as error:
            raise translate(error, self._path) from error
        if connection.txn_state("main") != apsw.SQLITE_TXN_NONE:
            raise InvariantBroken(detail="a query left its read transaction open")
        return result

    def interrupt(self, older_than_s: float) -> int:
        """Interrupt queries that have run for ``older_than_s`` or longer; return how many."""
        # ``close`` looks at this flag after it has set ``_closed``, and we the other way round, so
        # that a connection is never interrupted while it is being closed.
        self._interrupting += 1
        try:
            if self._closed:
                return 0
            now_s = math.inf if self._clock is None else self._clock.now_s()
            count = 0
            for reader in self._all:
                since_s = reader.since_s
                if since_s is not None and now_s - since_s >= older_than_s:
                    reader.connection.interrupt()
                    count += 1
            return count
        finally:
            self._interrupting -= 1

    def busy(self) -> int:
        """Return how many connections are in use."""
        return len(self._all) - len(self._idle)

    def close(self) -> bool:
        """Close all connections if none is in use; otherwise change nothing and return False."""
        taken: list[_Reader] = []
        self._closed = True
        while self._idle:
            taken.append(self._idle.popleft())
        if len(taken) != len(self._all) or self._interrupting:
            self._closed = False
            self._idle.extend(taken)
            return False
        for reader in taken:
            reader.connection.close()
        self._all.clear()
        return True

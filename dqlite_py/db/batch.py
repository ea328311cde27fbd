"""Group commit: many requests in one SQLite transaction, a savepoint each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from dqlite_py.db.failures import translate
from dqlite_py.errors import (
    BatchTooLarge,
    DqliteError,
    Fatal,
    InvariantBroken,
    RequestRefused,
    RequestTooLarge,
    StatementFailed,
)
from dqlite_py.vfs.wal import NO_LIMIT, VirtualWal
from dqlite_py.vfs.wal_index import WalIndex

Job = Callable[[apsw.Connection], Any]

_DEFERRED_KEYS = apsw.SQLITE_DBSTATUS_DEFERRED_FKS


class _TransactionEnded(Exception):
    """Job ``culprit`` ended the whole transaction, not only its savepoint."""

    def __init__(self, culprit: int, refusal: DqliteError) -> None:
        super().__init__(culprit)
        self.culprit = culprit
        self.refusal = refusal


class BatchRunner:
    """Runs batches on the writer's connection; leaves no transaction open, whatever happens."""

    def __init__(
        self, connection: apsw.Connection, wal: VirtualWal, index: WalIndex, path: str
    ) -> None:
        self._connection = connection
        self._wal = wal
        self._index = index
        self._path = path

    def run(
        self,
        jobs: Sequence[Job],
        mark: Callable[[], Any],
        restore: Callable[[Any], None],
        max_frames: int,
    ) -> list[Any]:
        """Execute and commit ``jobs`` in order; return their results, or the error of each.

        A job that raises is undone alone and its error (a DqliteError) is its result; counters of
        the caller go back with ``restore(mark())``. A job that ends the transaction (OR ROLLBACK,
        RAISE(ROLLBACK), an interruption) costs a rerun of all others without it. Deferred foreign
        keys must hold at the end of each job, because a failure at COMMIT has no single culprit.
        Raises BatchTooLarge, or Fatal, or whatever else a job raised, with everything undone;
        more than ``max_frames`` frames make a single job RequestTooLarge and several jobs
        BatchTooLarge.
        """
        refused: dict[int, DqliteError] = {}
        start = mark()
        before = self._index.max_frame
        while True:
            self._wal.frame_limit = self._index.max_frame + max_frames
            self._wal.limit_hit = False
            done = False
            try:
                results = self._attempt(jobs, refused, mark, restore)
                done = True
            except _TransactionEnded as ended:
                refused[ended.culprit] = ended.refusal
            except apsw.FullError as error:
                self._name_the_large_one(jobs, refused, error)
            except apsw.Error as error:
                raise self._as_fatal(error) from error
            finally:
                self._wal.frame_limit = NO_LIMIT
                if not done:
                    self._undo(before)
                    restore(start)
            if done:
                return results

    def run_alone(self, statement: str, max_frames: int) -> None:
        """Execute one statement that must not be in a transaction (VACUUM), as its own commit.

        Raises StatementFailed or RequestTooLarge with everything undone.
        """
        before = self._index.max_frame
        self._wal.frame_limit = self._index.max_frame + max_frames
        self._wal.limit_hit = False
        done = False
        try:
            self._connection.execute(statement).fetchall()
            done = True
        except apsw.Error as error:
            if self._wal.limit_hit:
                raise RequestTooLarge from error
            raise translate(error, self._path) from error
        finally:
            self._wal.frame_limit = NO_LIMIT
            if not done:
                self._undo(before)

    def _attempt(
        self,
        jobs: Sequence[Job],
        refused: dict[int, DqliteError],
        mark: Callable[[], Any],
        restore: Callable[[Any], None],
    ) -> list[Any]:
        execute = self._connection.execute
        results: list[Any] = []
        execute("BEGIN")
        for number, job in enumerate(jobs):
            if number in refused:
                results.append(refused[number])
                continue
            before = mark()
            execute("SAVEPOINT request")
            result = self._run_job(number, job)
            if isinstance(result, DqliteError):
                execute("ROLLBACK TO request")
                restore(before)
            execute("RELEASE request")
            results.append(result)
        # Undoing a savepoint leaves its pages dirty, though unchanged: nothing of them is needed.
        nothing_done = all(isinstance(result, DqliteError) for result in results)
        execute("ROLLBACK" if nothing_done else "COMMIT")
        return results

    def _run_job(self, number: int, job: Job) -> Any:
        """Return the job's result, or the DqliteError that it ended with."""
        connection = self._connection
        result: Any
        try:
            result = job(connection)
        except Fatal:
            raise
        except DqliteError as error:
            result = error
        except apsw.Error as error:
            if self._wal.limit_hit:
                raise
            result = translate(error, self._path)
            if isinstance(result, Fatal):
                raise result from error
        if self._wal.limit_hit:
            raise apsw.FullError("transaction exceeds the entry limit")
        if not connection.in_transaction:
            if not isinstance(result, DqliteError):
                raise InvariantBroken(detail="a request committed by itself")
            raise _TransactionEnded(number, result)
        if connection.status(_DEFERRED_KEYS)[0] and not isinstance(result, DqliteError):
            return StatementFailed(detail="FOREIGN KEY constraint failed")
        return result

    def _name_the_large_one(
        self, jobs: Sequence[Job], refused: dict[int, DqliteError], error: apsw.FullError
    ) -> None:
        if not self._wal.limit_hit:
            raise translate(error, self._path) from error
        alive = [number for number in range(len(jobs)) if number not in refused]
        if len(alive) > 1:
            raise BatchTooLarge from error
        refused[alive[0]] = RequestTooLarge()

    def _as_fatal(self, error: apsw.Error) -> DqliteError:
        """Name an error of BEGIN, SAVEPOINT, RELEASE or COMMIT; no request explains it."""
        failure = translate(error, self._path)
        if isinstance(failure, RequestRefused):
            return InvariantBroken(detail=f"transaction control failed: {error}")
        return failure

    def _undo(self, before: int) -> None:
        """Roll back; no frame may be left, though the WAL may have been restarted meanwhile."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
        if self._index.max_frame not in (before, 0):
            raise InvariantBroken(detail="a transaction that was rolled back left frames")
        self._wal.drop_from(self._index.max_frame)

"""The thread for all files but the log: what the operating system refuses stops the replica."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from dqlite_py.errors import DiskFailed
from dqlite_py.seams import Worker

T = TypeVar("T")


class FileWorker:
    """A ``Worker`` whose jobs raise DiskFailed in place of ``OSError``.

    After an error of the disk nothing that was written is sure, so no job's caller may go on; as a
    Fatal error it stops the replica wherever it comes up.
    """

    def __init__(self, worker: Worker, directory: str) -> None:
        """``directory`` is named when the operating system names no file."""
        self._worker = worker
        self._directory = directory

    def run(self, job: Callable[[], T]) -> Awaitable[T]:
        """Queue ``job``; see ``Worker.run``."""
        directory = self._directory

        def guarded() -> T:
            try:
                return job()
            except OSError as error:
                path = str(error.filename or directory)
                raise DiskFailed(path=path, detail=str(error)) from error

        return self._worker.run(guarded)

    def close(self) -> None:
        """Refuse further jobs; see ``Worker.close``."""
        self._worker.close()

"""Copying committed frames from the virtual WAL into the database file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import apsw

from dqlite_py.db.failures import translate
from dqlite_py.errors import InvariantBroken, ReadersBusy
from dqlite_py.vfs.wal import CheckpointWal
from dqlite_py.vfs.wal_index import WalIndex


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """``complete``: all ``frames`` that were in the WAL at the start are in the synced file."""

    complete: bool
    frames: int


class Checkpointer:
    """The checkpoint thread's connection. Closing it fails while a checkpoint runs."""

    def __init__(
        self,
        connection: apsw.Connection,
        wal: CheckpointWal,
        index: WalIndex,
        file: apsw.VFSFile,
        path: str,
    ) -> None:
        self._idle = deque([connection])
        self._wal = wal
        self._index = index
        self._file = file
        self._path = path

    def run(self, on_limit_fixed: Callable[[], None] | None) -> CheckpointResult:
        """Run one PASSIVE checkpoint; it never waits for readers or writers.

        See ``Database.checkpoint``. A page reaches the file only after ``on_limit_fixed`` has
        returned; an error raised there aborts the checkpoint and is raised here.
        """
        try:
            connection = self._idle.popleft()
        except IndexError:
            raise ReadersBusy from None
        told = False

        def tell() -> None:
            nonlocal told
            told = True
            if on_limit_fixed is not None:
                on_limit_fixed()

        limit = self._index.max_frame

        def limit_fixed() -> None:
            if self._index.max_frame != limit:
                raise InvariantBroken(detail="frames were added before the checkpoint's limit")
            tell()

        try:
            self._wal.on_sync = limit_fixed
            frames, copied = self._copy(connection)
            complete = frames == limit == copied
            if complete and frames:
                # SQLite leaves the file unsynced if frames were added while it copied.
                self._file.xSync(apsw.SQLITE_SYNC_NORMAL)
        except apsw.Error as error:
            raise translate(error, self._path) from error
        finally:
            self._wal.on_sync = None
            self._idle.append(connection)
            if not told:
                tell()
        return CheckpointResult(complete, limit)

    def _copy(self, connection: apsw.Connection) -> tuple[int, int]:
        try:
            return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.BusyError:
            return -1, 0

    def close(self) -> bool:
        """Close the connection if it is idle; otherwise return False."""
        try:
            connection = self._idle.popleft()
        except IndexError:
            return False
        connection.close()
        return True

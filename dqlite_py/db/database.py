"""One replicated SQLite database on one member."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import apsw

from dqlite_py.db.batch import BatchRunner, Job
from dqlite_py.db.checkpoint import CheckpointResult
from dqlite_py.db.connections import open_bare
from dqlite_py.db.failures import translate_at_open
from dqlite_py.db.image import copy_image
from dqlite_py.db.opened import OpenedDatabase
from dqlite_py.db.position import BatchOutcome, Position
from dqlite_py.errors import (
    BatchTooLarge,
    CorruptFile,
    DiskFailed,
    InvariantBroken,
    ReadersBusy,
    ReadInterrupted,
)
from dqlite_py.seams import Clock
from dqlite_py.vfs.capture import capture
from dqlite_py.vfs.capture_vfs import MainFileOpener, NodeVFS, open_real_file
from dqlite_py.vfs.frames import FrameBatch
from dqlite_py.vfs.genesis import HEADER_BYTES, genesis_image, page_size_of
from dqlite_py.vfs.inject import inject
from dqlite_py.vfs.rollback import rollback
from dqlite_py.vfs.wal import VirtualWal
from dqlite_py.vfs.wal_index import WRITE_LOCK, WalIndex

__all__ = ["BatchOutcome", "BatchTooLarge", "CheckpointResult", "Database", "Position"]

T = TypeVar("T")
UNLIMITED_BYTES: Final = 1 << 50


def _nothing() -> None:
    """Hook of reads that need none."""


class Database:
    """A database file, its virtual WAL and its connections.

    First it replays: only ``inject`` is allowed. ``open_sql`` ends that. Blocking methods belong
    to the one writer thread unless they say otherwise. This process never opens the file but
    through SQLite, because closing any other descriptor would drop SQLite's lock on it.
    """

    def __init__(
        self,
        path: str,
        *,
        page_size: int,
        clock: Clock | None = None,
        open_main_file: MainFileOpener | None = None,
        writer_cache_kib: int = 4096,
        reader_cache_kib: int = 1024,
    ) -> None:
        """Lock the file and describe an empty WAL. ``page_size`` is in bytes.

        Without a ``clock`` every read under way counts as old in ``interrupt_readers``.

        Raises CorruptFile if the file is no database of that page size in WAL format or another
        program left files beside it, DiskFailed if it can not be opened or is in use elsewhere.
        """
        self.path = path
        self.page_size = page_size
        self._clock = clock
        self._writer_cache_kib = writer_cache_kib
        self._reader_cache_kib = reader_cache_kib
        self._wal = VirtualWal(page_size)
        self._vfs = NodeVFS(self._wal, open_main_file or open_real_file)
        self._vfs.refuse_foreign_files(path)
        self._opened: OpenedDatabase | None = None
        self._reader_count = 0
        self._replaying = True
        self._open_locker()
        self._position = Position(self._wal.generation, 0, 0)
        self._committed = self._position

    @staticmethod
    def create_genesis(page_size: int) -> bytes:
        """Return the first content of a database file, equal on all members."""
        return genesis_image(page_size)

    def _open_locker(self) -> None:
        """Open the connection that holds the file lock and the wal-index, and runs no SQL."""
        try:
            self._locker = open_bare(self._vfs, self.path)
            file = self._vfs.latest_main_file
            if file is None:
                raise InvariantBroken(detail="SQLite did not open the database file")
            self._file = file
            file.xLock(apsw.SQLITE_LOCK_SHARED)
            header = file.xRead(HEADER_BYTES, 0)
        except apsw.Error as error:
            raise DiskFailed(path=self.path, detail=f"{type(error).__name__}: {error}") from error
        found = page_size_of(header)
        if found != self.page_size:
            raise CorruptFile(path=self.path, detail=f"page size {found}, not {self.page_size}")
        self._index = WalIndex(self._locker, self.page_size)
        self._vfs.refuse_foreign_files(self.path)  # also: the index is not in a -shm file
        self._index.initialise()

    # --- life -------------------------------------------------------------------------------------
    def open_sql(self, readers: int) -> None:
        """End replay: open the writer, the checkpointer, ``readers`` read connections and one more.

        Raises CorruptFile or DiskFailed if SQLite can not read the database.
        """
        self._replaying = False
        self._reader_count = readers
        self._open_connections()

    def _open_connections(self) -> None:
        if self._opened is not None:
            raise InvariantBroken(detail="the database is open for SQL already")
        try:
            self._opened = OpenedDatabase(
                vfs=self._vfs,
                wal=self._wal,
                index=self._index,
                file=self._file,
                path=self.path,
                clock=self._clock,
                readers=self._reader_count,
                writer_cache_kib=self._writer_cache_kib,
                reader_cache_kib=self._reader_cache_kib,
            )
        except apsw.Error as error:
            raise translate_at_open(error, self.path) from error

    def close(self) -> None:
        """Close everything without a checkpoint; what is not in the file is in the Raft log.

        Raises ReadersBusy, having interrupted them, while a reader or a checkpoint is at work.
        """
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        self._index.unmap()
        self._locker.close()
        self._vfs.unregister()

    # --- positions --------------------------------------------------------------------------------
    def position(self) -> Position:
        """Return where the WAL ends now; callable from any thread."""
        return self._position

    def set_committed(self, position: Position) -> None:
        """Declare everything up to ``position`` committed by Raft; callable from any thread.

        Positions come in the order in which ``execute_batch`` returned them.
        """
        committed, end = self._committed, self._position
        if position.generation != committed.generation or not (
            committed.max_frame <= position.max_frame <= end.max_frame
        ):
            raise InvariantBroken(detail=f"committed {position} after {committed}, before {end}")
        self._committed = position

    @property
    def speculative(self) -> bool:
        """Tell whether the WAL holds frames that are not committed; callable from any thread."""
        return self._position != self._committed

    @property
    def wal_bytes(self) -> int:
        """Memory held by the virtual WAL, in bytes; callable from any thread."""
        return self._wal.held_bytes

    @property
    def backfilled(self) -> bool:
        """Tell whether every frame has been copied into the file; callable from any thread."""
        return self._index.backfilled == self._index.max_frame

    @property
    def size_bytes(self) -> int:
        """The database's size in bytes, speculation included; callable from any thread."""
        return self._index.page_count * self.page_size or self._file.xFileSize()

    # --- writing ----------------------------------------------------------------------------------
    def inject(self, batch: FrameBatch) -> Position:
        """Make a committed batch visible to readers; return the new end, which is committed.

        Allowed from the start. Raises InvariantBroken if there is speculation or a local write.
        """
        if self.speculative:
            raise InvariantBroken(detail="pages arrive on top of speculation")
        inject(self._wal, self._index, batch)
        self._position = self._committed = self._end()
        return self._position

    def execute_batch(
        self,
        jobs: Sequence[Job],
        *,
        mark: Callable[[], Any],
        restore: Callable[[Any], None],
        max_frames_bytes: int = UNLIMITED_BYTES,
    ) -> BatchOutcome:
        """Execute ``jobs`` in one transaction, a savepoint each, and take the resulting pages.

        The outcome is visible to readers at once but speculative until ``set_committed``. Raises
        BatchTooLarge when several jobs together would change more than ``max_frames_bytes`` of
        pages: nothing has happened then, and fewer may be tried. See ``BatchRunner.run``.
        """
        runner = self._running()
        max_frames = max(1, max_frames_bytes // self.page_size)
        results: list[Any] = []

        def work() -> None:
            results.extend(runner.run(jobs, mark, restore, max_frames))

        batch = self._capture_after(work)
        return BatchOutcome(results, batch, self._position)

    def execute_alone(
        self, statement: str, max_frames_bytes: int = UNLIMITED_BYTES
    ) -> FrameBatch | None:
        """Execute one statement that SQLite refuses inside a transaction; take its pages.

        For VACUUM and the pragmas it needs. Raises StatementFailed or RequestTooLarge with
        nothing changed.
        """
        runner = self._running()
        max_frames = max(1, max_frames_bytes // self.page_size)
        return self._capture_after(lambda: runner.run_alone(statement, max_frames))

    def _running(self) -> BatchRunner:
        opened = self._sql()
        if self._index.max_frame != self._position.max_frame:
            raise InvariantBroken(detail="the WAL moved outside of a batch")
        return opened.runner

    def _capture_after(self, work: Callable[[], None]) -> FrameBatch | None:
        """Run ``work``, then take the frames of its commit; keep the positions right on failure."""
        first, generation = self._position.max_frame, self._wal.generation
        committed = False
        try:
            work()
            committed = True
        finally:
            if self._wal.generation != generation:
                # SQLite restarted the WAL: it was wholly in the file, so it was committed.
                first = 0
                self._committed = Position(self._wal.generation, 0, self._committed.page_count)
            if not committed:
                self._settle(first)
        end = self._index.max_frame
        if end == first:
            self._settle(first)
            return None
        batch = capture(self._wal, first, end)
        if batch.page_count != self._index.page_count:
            raise InvariantBroken(detail="the commit and the wal-index differ in size")
        self._position = self._end()
        return batch

    def _settle(self, frames: int) -> None:
        """After a transaction without effect: drop its leftovers, keep the old size."""
        self._wal.drop_from(frames)
        size = self._position.page_count
        self._position = Position(self._wal.generation, frames, size)

    def _end(self) -> Position:
        return Position(self._wal.generation, self._index.max_frame, self._index.page_count)

    def rollback_to_committed(self) -> Position:
        """Take back all speculation; return the committed position, the new end.

        New reads are refused (ReadInterrupted) from the first attempt until it has succeeded.
        Raises ReadersBusy, having interrupted readers, while one or a checkpoint is at work: call
        again. Every connection is opened anew, so nothing prepared before survives.
        """
        committed = self._committed
        if committed.generation != self._wal.generation:
            raise InvariantBroken(detail=f"committed {committed} is of an older WAL generation")
        was_open = self._opened is not None
        if self._opened is not None:
            self._opened.close()
            self._opened = None
        rollback(self._wal, self._index, committed.max_frame, committed.page_count)
        self._position = committed
        if was_open:
            self._open_connections()
        return committed

    def restart_wal(self) -> bool:
        """Free the WAL's memory if it is wholly in the file and no reader needs it.

        Returns whether the WAL is empty now. The next write would do the same by itself.
        """
        if not self._index.try_lock(WRITE_LOCK):
            raise InvariantBroken(detail="WAL restart while a local write transaction is open")
        try:
            if self._index.restart():
                self._wal.restart()
                size = self._position.page_count
                self._position = self._committed = Position(self._wal.generation, 0, size)
        finally:
            self._index.unlock(WRITE_LOCK)
        return self._index.max_frame == 0

    # --- reading ----------------------------------------------------------------------------------
    def read(self, query: Callable[[apsw.Connection], T]) -> T:
        """Run ``query`` in one read transaction; for reader threads, at most ``readers`` at once.

        What it sees may be speculative. Raises ReadInterrupted (run it again), TooManyRequests,
        StatementFailed, or Fatal.
        """
        return self._sql().readers.read(query, _nothing)

    def read_with(self, first_step: Callable[[], None], query: Callable[[apsw.Connection], T]) -> T:
        """Like ``read``; ``first_step`` runs when the snapshot is fixed, before ``query``.

        Whatever ``first_step`` samples is at least as new as all that ``query`` sees.
        """
        return self._sql().readers.read(query, first_step)

    def read_now(self, query: Callable[[apsw.Connection], T]) -> T:
        """Like ``read`` on a connection of its own; for the event loop thread and short queries.

        Not subject to ``pause_readers``; raises ReadInterrupted during a rollback.
        """
        return self._sql().loop_reader.read(query, _nothing)

    def pause_readers(self) -> None:
        """Refuse new reads with ReadInterrupted; those under way go on. From any thread."""
        opened = self._opened
        if opened is not None:
            opened.readers.paused = True

    def resume_readers(self) -> None:
        """Admit reads again. From any thread."""
        opened = self._opened
        if opened is not None:
            opened.readers.paused = False

    def interrupt_readers(self, older_than_s: float = 0.0) -> int:
        """Interrupt reads older than ``older_than_s``; return how many. From any thread."""
        opened = self._opened
        return 0 if opened is None else opened.readers.interrupt(older_than_s)

    def integrity_check(self) -> list[str]:
        """Return what SQLite's integrity check finds wrong, empty when all is well; a ``read``."""

        def check(connection: apsw.Connection) -> list[Any]:
            return connection.execute("PRAGMA integrity_check").fetchall()

        found = [str(row[0]) for row in self.read(check)]
        return [] if found == ["ok"] else found

    def size_in_use_bytes(self) -> int:
        """Return the size without free pages, in bytes; like ``read_now``."""

        def free_pages(connection: apsw.Connection) -> Any:
            return connection.execute("PRAGMA freelist_count").fetchall()[0][0]

        return self.size_bytes - int(self.read_now(free_pages)) * self.page_size

    def _sql(self) -> OpenedDatabase:
        opened = self._opened
        if opened is None:
            if self._replaying:
                raise InvariantBroken(detail="SQL before the replay is done")
            raise ReadInterrupted  # between the closing and the opening of a rollback
        return opened

    # --- checkpoint thread ------------------------------------------------------------------------
    def checkpoint(self, on_limit_fixed: Callable[[], None] | None = None) -> CheckpointResult:
        """Copy committed frames into the file and sync it; for the checkpoint thread.

        No batch may be executed from the call until ``on_limit_fixed`` is called (once, whatever
        happens; before the first page is written), so that nothing speculative can be copied.
        Raises InvariantBroken if there is speculation, ReadersBusy during a rollback or another
        checkpoint, DiskFailed.
        """
        if self.speculative:
            raise InvariantBroken(detail="checkpoint with uncommitted frames in the WAL")
        opened = self._opened
        if opened is None:
            raise ReadersBusy
        return opened.checkpointer.run(on_limit_fixed)

    def copy_image(self, write: Callable[[bytes], None], chunk_bytes: int) -> int:
        """Pass the file's content to ``write`` in chunks, whole pages; return its length in bytes.

        Any thread; the caller sees to it that no checkpoint runs meanwhile, and that the last one
        was complete. Raises DiskFailed.
        """
        try:
            return copy_image(self._file, self.page_size, write, chunk_bytes)
        except apsw.Error as error:
            raise DiskFailed(path=self.path, detail=f"{type(error).__name__}: {error}") from error

"""All connections through which SQL runs, opened together and closed together."""

from __future__ import annotations

import apsw

from dqlite_py.db.batch import BatchRunner
from dqlite_py.db.checkpoint import Checkpointer
from dqlite_py.db.connections import open_configured
from dqlite_py.db.image import require_pages
from dqlite_py.db.readers import ReaderPool
from dqlite_py.errors import ReadersBusy
from dqlite_py.seams import Clock
from dqlite_py.vfs.capture_vfs import NodeVFS
from dqlite_py.vfs.wal import CheckpointWal, VirtualWal
from dqlite_py.vfs.wal_index import WalIndex


class OpenedDatabase:
    """The writer, the checkpointer, the pool of readers, and the event loop's own reader."""

    def __init__(
        self,
        *,
        vfs: NodeVFS,
        wal: VirtualWal,
        index: WalIndex,
        file: apsw.VFSFile,
        path: str,
        clock: Clock | None,
        readers: int,
        writer_cache_kib: int,
        reader_cache_kib: int,
    ) -> None:
        require_pages(file, wal, index, path)

        def reader() -> apsw.Connection:
            return open_configured(vfs, path, cache_kib=reader_cache_kib, query_only=True)

        # A connection opens its WAL while it is configured, so this one gets the WAL that reports.
        checkpoint_wal = CheckpointWal(wal)
        vfs.wal_file = checkpoint_wal
        try:
            checkpoint_connection = reader()
        finally:
            vfs.wal_file = wal
        self._writer = open_configured(vfs, path, cache_kib=writer_cache_kib, query_only=False)
        self.runner = BatchRunner(self._writer, wal, index, path)
        self.checkpointer = Checkpointer(checkpoint_connection, checkpoint_wal, index, file, path)
        self.readers = ReaderPool([reader() for _ in range(readers)], clock, path)
        self.loop_reader = ReaderPool([reader()], clock, path)

    def close(self) -> None:
        """Close every connection, without a checkpoint; new reads are refused from now on.

        Raises ReadersBusy, having interrupted them, while a reader or a checkpoint is at work; the
        call may then be repeated.
        """
        self.readers.paused = True
        self.readers.interrupt(0.0)
        self.loop_reader.interrupt(0.0)
        if not (self.readers.close() and self.loop_reader.close() and self.checkpointer.close()):
            raise ReadersBusy
        self._writer.close()

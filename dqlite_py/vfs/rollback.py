"""Take back frames that Raft did not commit."""

from __future__ import annotations

from dqlite_py.errors import InvariantBroken
from dqlite_py.vfs.wal import VirtualWal
from dqlite_py.vfs.wal_index import WRITE_LOCK, WalIndex


def rollback(wal: VirtualWal, index: WalIndex, max_frame: int, page_count: int) -> None:
    """Make the first ``max_frame`` frames of this generation, and no more, the whole WAL.

    ``page_count`` is the database's size in pages there. Every connection that runs SQL must have
    been closed before and be opened anew afterwards: a schema cookie may come again with another
    schema, which a prepared statement would not notice. Raises InvariantBroken if a reader or a
    writer is still there, or if ``max_frame`` is ahead of what is committed in the index.
    """
    if max_frame > index.max_frame:
        raise InvariantBroken(detail=f"rollback from {index.max_frame} up to {max_frame}")
    if not index.try_lock(WRITE_LOCK):
        raise InvariantBroken(detail="rollback while a local write transaction is open")
    try:
        index.rewind(max_frame, page_count)
        wal.drop_from(max_frame)
    finally:
        index.unlock(WRITE_LOCK)

"""Follower side: make a committed batch of pages visible without running SQL."""

from __future__ import annotations

from dqlite_py.errors import InvariantBroken
from dqlite_py.vfs.frames import FrameBatch
from dqlite_py.vfs.wal import VirtualWal
from dqlite_py.vfs.wal_index import WRITE_LOCK, WalIndex


def inject(wal: VirtualWal, index: WalIndex, batch: FrameBatch) -> None:
    """Append ``batch`` to the WAL and show it to readers, as one commit.

    Readers with an open snapshot keep theirs. A WAL that is wholly checkpointed and free of
    readers is restarted first. Holds WAL_WRITE_LOCK throughout: without it a reader could find two
    unequal header copies and start a recovery. Raises InvariantBroken if a local transaction holds
    that lock, and if the batch has another page size or no pages.
    """
    if batch.page_size != wal.page_size or not batch.pages or not batch.page_count:
        raise InvariantBroken(detail=f"batch of {len(batch.pages)} pages of {batch.page_size}")
    if not index.try_lock(WRITE_LOCK):
        raise InvariantBroken(detail="pages arrive while a local write transaction is open")
    try:
        if index.restart():
            wal.restart()
        first = index.max_frame
        wal.drop_from(first)
        if len(wal.images) != first:
            raise InvariantBroken(detail=f"WAL of {len(wal.images)} frames, index of {first}")
        numbers = [number for number, _ in batch.pages]
        count = len(numbers)
        wal.numbers += numbers
        wal.images += [image for _, image in batch.pages]
        wal.commit_sizes += [0] * (count - 1)
        wal.commit_sizes.append(batch.page_count)
        index.append(first + 1, numbers)
        index.publish(first + count, batch.page_count)
    finally:
        index.unlock(WRITE_LOCK)

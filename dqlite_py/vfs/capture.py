"""Leader side: take the frames of the commit that SQLite has just made."""

from __future__ import annotations

from dqlite_py.errors import InvariantBroken
from dqlite_py.vfs.frames import FrameBatch
from dqlite_py.vfs.wal import VirtualWal


def capture(wal: VirtualWal, first: int, max_frame: int) -> FrameBatch:
    """Return what the one commit in frames ``first`` (from 0) up to ``max_frame`` changed.

    ``max_frame`` comes from the wal-index: frames behind it are leftovers of aborted transactions.
    A page written twice (a transaction larger than the cache) keeps its last image. Raises
    InvariantBroken unless the last frame, and no other, ends a commit.
    """
    sizes = wal.commit_sizes[first:max_frame]
    page_count = sizes.pop()
    if not page_count or any(sizes) or max_frame > len(wal.images):
        raise InvariantBroken(detail=f"frames {first}..{max_frame} are not exactly one commit")
    pages = dict(zip(wal.numbers[first:max_frame], wal.images[first:max_frame], strict=True))
    return FrameBatch(wal.page_size, page_count, tuple(pages.items()))

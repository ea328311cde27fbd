"""The database file as a whole: copying it at rest, and seeing that no page is missing."""

from __future__ import annotations

from collections.abc import Callable

import apsw

from dqlite_py.errors import CorruptFile
from dqlite_py.vfs.genesis import HEADER_BYTES, page_count_of
from dqlite_py.vfs.wal import VirtualWal
from dqlite_py.vfs.wal_index import WalIndex

_LOCK_BYTE = 1 << 30  # SQLite never writes the page that holds it (file format, section 1.4)


def copy_image(
    file: apsw.VFSFile, page_size: int, write: Callable[[bytes], None], chunk_bytes: int
) -> int:
    """Pass the pages that page 1 counts to ``write``, in chunks; return their bytes.

    Reads through SQLite's own file object. The file may be longer: frames that arrived while a
    checkpoint copied keep SQLite from cutting off what a shrunk database no longer uses.
    """
    total = page_count_of(file.xRead(HEADER_BYTES, 0)) * page_size
    step = max(1, chunk_bytes // page_size) * page_size
    for at in range(0, total, step):
        write(file.xRead(min(step, total - at), at))
    return total


def require_pages(file: apsw.VFSFile, wal: VirtualWal, index: WalIndex, path: str) -> None:
    """Raise CorruptFile if a page of the database is neither in the file nor in the WAL.

    To be called after replay: only then does a crash in a checkpoint leave no such page. SQLite
    would read it as zeros, or take a file without its last pages for a smaller database.
    """
    size_bytes, page_size = file.xFileSize(), wal.page_size
    page_count = index.page_count or page_count_of(file.xRead(HEADER_BYTES, 0))
    missing = set(range(size_bytes // page_size + 1, page_count + 1))
    missing.difference_update(wal.numbers[: index.max_frame], (_LOCK_BYTE // page_size + 1,))
    if missing:
        raise CorruptFile(
            path=path,
            detail=f"{size_bytes} bytes long, without page {min(missing)} of {page_count}",
        )

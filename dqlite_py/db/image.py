"""Copying a database file whose content is at rest."""

from __future__ import annotations

from collections.abc import Callable

import apsw

from dqlite_py.vfs.genesis import HEADER_BYTES, page_count_of


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

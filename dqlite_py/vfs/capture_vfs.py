"""The VFS of one database: its WAL is virtual, everything else is SQLite's own ``unix-excl``.

``unix-excl`` keeps the wal-index in this process's heap and holds an fcntl lock on the database
file, so no other process can open it while the server runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import apsw

from dqlite_py.errors import CorruptFile
from dqlite_py.vfs.wal import VirtualWal

BASE_VFS = "unix-excl"
MainFileOpener = Callable[[Any, list[int]], apsw.VFSFile]
_serial = itertools.count(1)


def open_real_file(name: Any, flags: list[int]) -> apsw.VFSFile:
    """Open the main database file on the real file system."""
    return apsw.VFSFile(BASE_VFS, name, flags)


class NodeVFS(apsw.VFS):
    """Gives every connection of one database the same virtual WAL.

    ``open_main_file`` opens the main database file; a simulator substitutes its own. Its result
    must derive from ``apsw.VFSFile`` over ``unix-excl``, whose locks and shared memory are needed.
    """

    def __init__(self, wal: VirtualWal, open_main_file: MainFileOpener) -> None:
        self.vfs_name = f"dqlite-{next(_serial)}"
        super().__init__(self.vfs_name, BASE_VFS)
        self.wal_file: Any = wal  # what the next connection gets as its WAL
        self.latest_main_file: apsw.VFSFile | None = None
        self._open_main_file = open_main_file

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        """Open a file: the virtual WAL, the main file, or what SQLite needs besides."""
        if flags[0] & apsw.SQLITE_OPEN_WAL:
            flags[1] = flags[0]
            return self.wal_file
        if flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            self.latest_main_file = self._open_main_file(name, flags)
            return self.latest_main_file
        return apsw.VFSFile(BASE_VFS, name, flags)

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        """Tell whether a file exists; a WAL file never does."""
        return not pathname.endswith("-wal") and super().xAccess(pathname, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        """Delete a file; a WAL file never exists."""
        if not filename.endswith("-wal"):
            super().xDelete(filename, syncdir)

    def refuse_foreign_files(self, path: str) -> None:
        """Raise CorruptFile if another program left a WAL, its index or a journal beside ``path``.

        A WAL may hold commits that are not in the Raft log, so it is never removed silently.
        """
        for suffix in ("-wal", "-shm", "-journal"):
            if super().xAccess(path + suffix, apsw.SQLITE_ACCESS_EXISTS):
                raise CorruptFile(
                    path=path + suffix, detail="another program has opened the database file"
                )

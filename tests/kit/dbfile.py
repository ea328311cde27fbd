"""SQLite's main database files on a simulated disk, so that a power cut tears them too."""

from __future__ import annotations

import hashlib
from typing import Any

import apsw

from dqlite_py.seams import Disk, DiskFile
from dqlite_py.vfs.capture_vfs import BASE_VFS


class DiskBackedFile(apsw.VFSFile):
    """Content from a ``DiskFile``; locks and shared memory from SQLite's own file object.

    The latter needs an empty real file, ``scratch``, one for each database.
    """

    def __init__(self, scratch: str, flags: list[int], file: DiskFile) -> None:
        opened = [flags[0] | apsw.SQLITE_OPEN_CREATE, 0]
        super().__init__(BASE_VFS, scratch, opened)
        flags[1] = flags[0]
        self._content = file

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        try:
            return self._content.pread(amount, offset)
        except OSError as error:
            raise apsw.IOError(str(error)) from error

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        try:
            self._content.pwrite(data, offset)
        except OSError as error:
            raise apsw.IOError(str(error)) from error

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        try:
            self._content.truncate(newsize)
        except OSError as error:
            raise apsw.IOError(str(error)) from error

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            self._content.fdatasync()
        except OSError as error:
            raise apsw.IOError(str(error)) from error

    def xFileSize(self) -> int:  # noqa: N802
        return self._content.size()

    def xClose(self) -> None:  # noqa: N802
        self._content.close()
        super().xClose()


class SimulatedMainFiles:
    """The ``open_main_file`` seam of ``Database`` over a simulated disk.

    ``scratch_directory`` is a real, empty directory of this member's own.
    """

    def __init__(self, disk: Disk, scratch_directory: str) -> None:
        self._disk = disk
        self._scratch_directory = scratch_directory

    def __call__(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        path = name if isinstance(name, str) else name.filename()
        scratch = hashlib.sha256(path.encode()).hexdigest()[:16]
        try:
            file = self._disk.open(path)
        except OSError as error:
            raise apsw.CantOpenError(f"{path}: {error}") from error
        return DiskBackedFile(f"{self._scratch_directory}/{scratch}", flags, file)

"""The real file system behind the ``Disk`` seam."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable


class OsFile:
    """One open file descriptor.

    Reads and writes carry their own offset, so that any number of threads may use one object.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def pread(self, length: int, offset: int) -> bytes:
        """Return up to ``length`` bytes from ``offset``; shorter only at end of file."""
        data = os.pread(self._descriptor, length, offset)
        if len(data) == length or not data:
            return data
        pieces = [data]
        got = len(data)
        while got < length:
            data = os.pread(self._descriptor, length - got, offset + got)
            if not data:
                break
            pieces.append(data)
            got += len(data)
        return b"".join(pieces)

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``; durable only after ``fdatasync``."""
        written = os.pwrite(self._descriptor, data, offset)
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], offset + written)

    def fdatasync(self) -> None:
        """Make written data, and the length needed to read it, durable."""
        os.fdatasync(self._descriptor)

    def truncate(self, length: int) -> None:
        """Set the file's length; durable only after ``fdatasync``."""
        os.ftruncate(self._descriptor, length)

    def size(self) -> int:
        """Return the file's length in bytes."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the descriptor; a second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


class OsDisk:
    """The machine's file system; new files are 0600 and new directories 0700."""

    def open(self, path: str, *, create: bool = False) -> OsFile:
        """Open for reading and writing; with ``create`` the file must not exist yet."""
        return OsFile(self.descriptor(path, create=create))

    def descriptor(self, path: str, *, create: bool) -> int:
        """Return a new descriptor for ``open``; the caller owns it."""
        flags = os.O_RDWR | os.O_CLOEXEC
        if create:
            flags |= os.O_CREAT | os.O_EXCL
        return os.open(path, flags, 0o600)

    def read(self, path: str) -> bytes:
        """Return a whole file; raise ``FileNotFoundError`` if absent."""
        with open(path, "rb") as file:
            return file.read()

    def rename(self, source: str, target: str) -> None:
        """Atomically replace ``target``; durable only after ``sync_dir`` of its directory."""
        os.rename(source, target)

    def unlink(self, path: str) -> None:
        """Remove a file; durable only after ``sync_dir``."""
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        """Create a directory and its parents, unless it exists.

        The last directory gets mode 0700. Each new name is made durable in its parent, because
        files synced inside a directory that vanishes at a power cut vanish with it.
        """
        if os.path.isdir(path):
            return
        parent = os.path.dirname(os.path.abspath(path))
        self.mkdir(parent)
        os.mkdir(path, 0o700)
        self.sync_dir(parent)

    def rmtree(self, path: str) -> None:
        """Remove a directory and all below it; absent is not an error."""
        if os.path.lexists(path):
            shutil.rmtree(path)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        return sorted(os.listdir(path))

    def exists(self, path: str) -> bool:
        """Tell whether a file or directory is there."""
        return os.path.lexists(path)

    def sync_dir(self, path: str) -> None:
        """Make creations, renames and removals in a directory durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def lock(self, path: str) -> Callable[[], None]:
        """Take the exclusive lock file ``path``; return its release.

        Raises ``BlockingIOError`` when another process holds it. The kernel drops the lock when
        the process ends, however it ends; the file itself stays.
        """
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        return lambda: os.close(descriptor)

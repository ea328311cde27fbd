"""A file system that tells how long making data durable took."""

from __future__ import annotations

import time
from collections.abc import Callable

from dqlite_py.system.disk import OsDisk, OsFile

Observe = Callable[[float], None]


class TimedFile(OsFile):
    """A file that reports the seconds of each successful ``fdatasync``."""

    def __init__(self, descriptor: int, observe: Observe) -> None:
        super().__init__(descriptor)
        self._observe = observe

    def fdatasync(self) -> None:
        """Make written data, and the length needed to read it, durable."""
        began_s = time.perf_counter()
        super().fdatasync()
        self._observe(time.perf_counter() - began_s)


class TimedDisk(OsDisk):
    """The machine's file system; files below ``directory`` report to ``observe``, on any thread."""

    def __init__(self, directory: str, observe: Observe) -> None:
        self._prefix = directory.rstrip("/") + "/"
        self._observe = observe

    def open(self, path: str, *, create: bool = False) -> OsFile:
        """Open for reading and writing; with ``create`` the file must not exist yet."""
        if not path.startswith(self._prefix):
            return super().open(path, create=create)
        return TimedFile(self.descriptor(path, create=create), self._observe)

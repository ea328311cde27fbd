"""Segments made ready ahead of their use: zeroed, of full length, durable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dqlite_py.errors import DiskFailed
from dqlite_py.seams import Disk, DiskFile

SUFFIX: Final = ".tmp"


@dataclass(frozen=True, slots=True)
class Spare:
    """A zeroed file that becomes a segment by being written and renamed."""

    path: str
    file: DiskFile
    length: int


class SparePool:
    """Keeps one spare segment ready.

    ``prepare`` may run on a thread of its own, at most one at a time, while another calls
    ``take``: the only thing they share is one reference, set by one side when it is empty and
    emptied by the other when it is set.
    """

    def __init__(self, disk: Disk, directory: str, segment_bytes: int, step_bytes: int) -> None:
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._step_bytes = step_bytes
        self._ready: Spare | None = None
        self._growing: Spare | None = None
        self._made = 0  # by ``take``
        self._ahead = 0  # by ``prepare``
        self._closed = False

    def prepare(self) -> bool:
        """Do one step of zeroing; return whether another is needed.

        A step writes and syncs ``step_bytes``. Raises DiskFailed.
        """
        if self._ready is not None or self._closed:
            return False
        grown = self._growing
        if grown is None:
            # A name of its own: the one before may not have been renamed yet by the other thread.
            self._ahead += 1
            grown = self._create(f"ahead-{self._ahead}", 0)
        length = self._extend(grown, min(self._step_bytes, self._segment_bytes - grown.length))
        grown = Spare(grown.path, grown.file, length)
        if length < self._segment_bytes:
            self._growing = grown
            return True
        self._growing = None
        self._ready = grown
        return False

    def take(self, needed_bytes: int, otherwise_bytes: int) -> Spare:
        """Return a spare of at least ``needed_bytes``, making one of at least ``otherwise_bytes``
        on the spot if none is ready. Raises DiskFailed.
        """
        spare = self._ready
        if spare is not None and spare.length >= needed_bytes:
            self._ready = None
            return spare
        self._made += 1
        made = self._create(f"now-{self._made}", 0)
        length = self._extend(made, max(needed_bytes, otherwise_bytes))
        return Spare(made.path, made.file, length)

    def close(self) -> None:
        """Let go of the files held; the next start removes them.

        One that is just growing is not closed under the thread that writes to it: its descriptor
        might by then belong to another file. It closes when the last reference goes.
        """
        self._closed = True
        if self._ready is not None:
            self._ready.file.close()
        self._ready = self._growing = None

    def _create(self, label: str, length: int) -> Spare:
        path = f"{self._directory}/spare-{label}{SUFFIX}"
        try:
            return Spare(path, self._disk.open(path, create=True), length)
        except OSError as error:
            raise DiskFailed(path=path, detail=str(error)) from error

    def _extend(self, spare: Spare, more_bytes: int) -> int:
        end = spare.length + more_bytes
        zeros = bytes(min(more_bytes, self._step_bytes))
        try:
            for at in range(spare.length, end, len(zeros) or 1):
                spare.file.pwrite(zeros[: end - at], at)
            spare.file.fdatasync()
        except OSError as error:
            raise DiskFailed(path=spare.path, detail=str(error)) from error
        return end

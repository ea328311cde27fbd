"""The write-ahead log that SQLite believes to be a file: frames kept in memory.

The durable copy of every frame is a Raft log entry, so nothing here is ever written or synced.
Frame ``i`` (from 0) sits at offset ``32 + i * (page size + 24)``: a 24-byte header, then the page.
Source: SQLite WAL format, sections 1.1 to 1.3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import apsw

from dqlite_py.errors import InvariantBroken

WAL_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
NO_LIMIT = 1 << 62
_TWO_WORDS = struct.Struct(">II")
_FRAME_HEADER = struct.Struct(">6I")
_MAGIC_LITTLE_ENDIAN_SUMS = 0x377F0682
_WAL_FORMAT_VERSION = 3_007_000
_SALTS = (0x64716C70, 0x79000001)  # any constant: the frames offered to a recovery all carry it
_MASK = 0xFFFFFFFF


class VirtualWal:
    """One database's WAL, shared as the file object of all its connections.

    Writes come from whoever holds WAL_WRITE_LOCK; reads from any thread, and only of frames that
    the wal-index shows. SQLite overwrites frames (a spilled page written again, a savepoint or a
    transaction rolled back), so the number of frames held says nothing about what is committed:
    only the wal-index does.
    """

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.frame_bytes = page_size + FRAME_HEADER_BYTES
        self.numbers: list[int] = []
        self.commit_sizes: list[int] = []  # database size in pages, 0 unless the frame commits
        self.images: list[bytes] = []
        self.generation = 1
        self.frame_limit = NO_LIMIT
        self.limit_hit = False
        self.recoveries = 0  # times SQLite rebuilt the wal-index from the frames: expected never
        self._recovery_headers: list[bytes] | None = None

    @property
    def held_bytes(self) -> int:
        """Bytes of memory in frames, committed or not; callable from any thread."""
        return len(self.images) * self.frame_bytes

    def append(self, number: int, commit_size: int, image: bytes) -> None:
        """Add one frame; the caller holds WAL_WRITE_LOCK."""
        self.numbers.append(number)
        self.commit_sizes.append(commit_size)
        self.images.append(image)

    def drop_from(self, frames: int) -> None:
        """Forget all frames after the first ``frames``; the caller holds WAL_WRITE_LOCK."""
        if len(self.numbers) > frames:
            del self.numbers[frames:]
            del self.commit_sizes[frames:]
            del self.images[frames:]
        self._recovery_headers = None

    def restart(self) -> None:
        """Forget all frames and begin a new generation; no reader may be on any frame."""
        self.drop_from(0)
        self.generation += 1

    # --- the file interface that SQLite calls ---------------------------------------------------
    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        """Return ``amount`` bytes at ``offset``, fewer at the end of the WAL."""
        frame, rest = divmod(offset - WAL_HEADER_BYTES, self.frame_bytes)
        if rest == FRAME_HEADER_BYTES and amount == self.page_size:
            return self.images[frame] if frame < len(self.images) else b""
        return self._read_rarely(amount, offset, frame, rest)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        """Take a WAL header, a frame header or a page image; FullError above ``frame_limit``."""
        frame, rest = divmod(offset - WAL_HEADER_BYTES, self.frame_bytes)
        length = len(data)
        if rest == FRAME_HEADER_BYTES and length == self.page_size:
            self.images[frame] = data
        elif rest == 0 and length == FRAME_HEADER_BYTES:
            number, commit_size = _TWO_WORDS.unpack_from(data)
            if frame < len(self.numbers):
                self.numbers[frame] = number
                self.commit_sizes[frame] = commit_size
            elif frame == len(self.numbers):
                if frame >= self.frame_limit:
                    self.limit_hit = True
                    raise apsw.FullError("transaction exceeds the entry limit")
                self.append(number, commit_size, b"")
            else:
                raise InvariantBroken(detail=f"WAL frame {frame} after {len(self.numbers)}")
        elif offset == 0 and length == WAL_HEADER_BYTES:
            self._header_written(data)
        else:
            raise InvariantBroken(detail=f"WAL write of {length} bytes at {offset}")
        self._recovery_headers = None

    def xTruncate(self, size: int) -> None:  # noqa: N802
        """Cut the WAL to ``size`` bytes, a whole number of frames."""
        frames, rest = divmod(max(0, size - WAL_HEADER_BYTES), self.frame_bytes)
        if rest:
            raise InvariantBroken(detail=f"WAL truncated to {size} bytes, inside a frame")
        self.drop_from(frames)

    def xFileSize(self) -> int:  # noqa: N802
        """Return the WAL's length in bytes."""
        return WAL_HEADER_BYTES + len(self.images) * self.frame_bytes if self.images else 0

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Do nothing: durability is the Raft log's."""

    def xClose(self) -> None:  # noqa: N802
        """Keep the frames: they belong to the database, not to one connection."""

    def xLock(self, level: int) -> None:  # noqa: N802
        """Do nothing: SQLite takes no file lock on a WAL."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """Do nothing: SQLite takes no file lock on a WAL."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        """Return False: SQLite takes no file lock on a WAL."""
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: ARG002, N802
        """Return False: no file control is understood."""
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        """Return 512 bytes; never used for padding because frames need none."""
        return 512

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        """Return that a write never damages neighbouring bytes."""
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE

    def _header_written(self, data: bytes) -> None:
        stored = int.from_bytes(data[8:12], "big")
        if (65536 if stored == 1 else stored) != self.page_size:
            raise InvariantBroken(detail=f"WAL header of page size {stored}")
        if self.frame_limit != NO_LIMIT:  # it counts from the WAL's start, which moves
            self.frame_limit -= len(self.images)
        self.restart()

    def _read_rarely(self, amount: int, offset: int, frame: int, rest: int) -> bytes:
        """Serve walRewriteChecksums (any checksum will do) and a recovery (needs all of them)."""
        if offset == 0 and amount == WAL_HEADER_BYTES:
            return self._begin_recovery()
        if rest == 0 and amount == self.frame_bytes:
            if frame >= len(self.images):
                return b""
            if self._recovery_headers is not None:
                return self._recovery_headers[frame] + self.images[frame]
            words = (self.numbers[frame], self.commit_sizes[frame], *_SALTS, 0, 0)
            return _FRAME_HEADER.pack(*words) + self.images[frame]
        if amount == 8 and offset + amount <= self.xFileSize():  # a stored checksum
            return bytes(8)
        raise InvariantBroken(detail=f"WAL read of {amount} bytes at {offset}")

    def _begin_recovery(self) -> bytes:
        """Return a WAL header and prepare frame headers with a valid checksum chain."""
        if not self.images:
            return b""
        self.recoveries += 1
        words = (_MAGIC_LITTLE_ENDIAN_SUMS, _WAL_FORMAT_VERSION, self.page_size, 0, *_SALTS)
        start = _FRAME_HEADER.pack(*words)
        sums = _checksum(start, (0, 0))
        header = start + _TWO_WORDS.pack(*sums)
        headers = []
        for number, size, image in zip(self.numbers, self.commit_sizes, self.images, strict=True):
            lead = _TWO_WORDS.pack(number, size)
            sums = _checksum(image, _checksum(lead, sums))
            headers.append(lead + _TWO_WORDS.pack(*_SALTS) + _TWO_WORDS.pack(*sums))
        self._recovery_headers = headers
        return header


class CheckpointWal:
    """The checkpointing connection's view of the WAL: tells when the frame limit is fixed.

    SQLite syncs the WAL once in a checkpoint, after it has fixed which frames it will copy and
    before it writes the first page into the database file.
    """

    def __init__(self, wal: VirtualWal) -> None:
        self._wal = wal
        self.on_sync: Callable[[], None] | None = None
        for name in (
            "xRead", "xWrite", "xTruncate", "xFileSize", "xClose", "xLock", "xUnlock",
            "xCheckReservedLock", "xFileControl", "xSectorSize", "xDeviceCharacteristics",
        ):  # fmt: skip
            setattr(self, name, getattr(wal, name))

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        """Call ``on_sync``, once for each checkpoint; its error aborts the checkpoint."""
        on_sync, self.on_sync = self.on_sync, None
        if on_sync is not None:
            on_sync()


def _checksum(data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    """Continue the WAL checksum over ``data``, a multiple of 8 bytes, as little-endian words."""
    s0, s1 = start
    words = struct.unpack(f"<{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        s0 = (s0 + words[at] + s1) & _MASK
        s1 = (s1 + words[at + 1] + s0) & _MASK
    return s0, s1

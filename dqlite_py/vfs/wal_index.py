"""The wal-index: SQLite's shared table of which WAL frame holds which page.

SQLite keeps it in 32 KiB regions that all connections of a database share. ``WalIndex`` reads and
writes those regions, and takes the locks in them, through the very functions that SQLite uses
(``sqlite3_io_methods`` version 2). Source: SQLite WAL-mode file format, section 2.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Sequence

import apsw

from dqlite_py.errors import InvariantBroken

REGION_BYTES = 32768
FIRST_REGION_FRAMES = 4062
REGION_FRAMES = 4096
WRITE_LOCK = 0
FIRST_READ_LOCK = 4  # WAL_READ_LOCK(1); WAL_READ_LOCK(0), slot 3, readers of the database file
READ_LOCKS = 4
MARK_UNUSED = 0xFFFFFFFF

_INDEX_VERSION = 3_007_000
_IS_INITIALISED = 1  # byte 12; byte 13 is 0 (little-endian sums); bytes 14, 15 the page size
_HASH_SLOTS = 8192
_HASH_MASK = _HASH_SLOTS - 1
_HASH_FACTOR = 383
_UNLOCK, _LOCK, _EXCLUSIVE = 1, 2, 8
_HEADER_WORDS = 12
_CHANGE, _FORMAT, _MAX_FRAME, _PAGE_COUNT, _SALT = 2, 3, 4, 5, 8
_BACKFILL, _MARKS, _BACKFILL_ATTEMPTED = 24, 25, 32
_MASK = 0xFFFFFFFF
# Positions in sqlite3_io_methods after iVersion.
_SHM_MAP, _SHM_LOCK, _SHM_BARRIER, _SHM_UNMAP = 12, 13, 14, 15

# PYFUNCTYPE keeps the GIL: these calls take well under a microsecond and call back into no Python.
_P = ctypes.c_void_p
_I = ctypes.c_int
_MapCall = ctypes.PYFUNCTYPE(_I, _P, _I, _I, _I, ctypes.POINTER(_P))
_LockCall = ctypes.PYFUNCTYPE(_I, _P, _I, _I, _I)
_BarrierCall = ctypes.PYFUNCTYPE(None, _P)
_UnmapCall = ctypes.PYFUNCTYPE(_I, _P, _I)

_PACK_HEADER = struct.Struct(f"={_HEADER_WORDS}I").pack
_ZERO_HASH = memoryview(bytes(2 * _HASH_SLOTS)).cast("H")
_ZERO_NUMBERS = memoryview(bytes(4 * REGION_FRAMES)).cast("I")


class WalIndex:
    """One database's wal-index, reached through a connection that stays open all its life.

    The connection must already hold SQLITE_LOCK_SHARED on the database file: unix-excl decides at
    the first mapping whether the index lives in the heap, and does so only then. All methods but
    ``max_frame`` and ``backfilled`` are for the thread that writes to this database.
    """

    def __init__(self, connection: apsw.Connection, page_size: int) -> None:
        if sys.byteorder != "little":
            raise InvariantBroken(detail="the wal-index is written for little-endian machines")
        pointer = ctypes.c_void_p()
        connection.file_control("main", apsw.SQLITE_FCNTL_FILE_POINTER, ctypes.addressof(pointer))
        if not pointer.value:
            raise InvariantBroken(detail="SQLite gave no file pointer")
        methods = ctypes.cast(pointer, ctypes.POINTER(_P))[0]
        if not methods or ctypes.c_int.from_address(methods).value < 2:
            raise InvariantBroken(detail="the file has no shared memory methods")
        table = (_P * 17).from_address(methods + 8)
        self._file = pointer.value
        self._shm_map = _MapCall(table[_SHM_MAP] or 0)
        self._shm_lock = _LockCall(table[_SHM_LOCK] or 0)
        self._barrier = _BarrierCall(table[_SHM_BARRIER] or 0)
        self._shm_unmap = _UnmapCall(table[_SHM_UNMAP] or 0)
        self._format = _IS_INITIALISED | ((page_size & 0xFF00) | (page_size >> 16)) << 16
        self._numbers: list[memoryview] = []
        self._hashes: list[memoryview] = []
        self._words = self._map_region()

    def unmap(self) -> None:
        """Give the regions back; nothing may be called afterwards."""
        self._numbers.clear()
        self._hashes.clear()
        self._words = memoryview(bytearray(REGION_BYTES)).cast("I")
        self._shm_unmap(self._file, 0)

    # --- reading --------------------------------------------------------------------------------
    @property
    def max_frame(self) -> int:
        """The number of committed frames that readers see; callable from any thread."""
        return self._words[_MAX_FRAME]

    @property
    def backfilled(self) -> int:
        """How many frames a checkpoint has copied into the database; callable from any thread."""
        return self._words[_BACKFILL]

    @property
    def page_count(self) -> int:
        """The database's size in pages, 0 when only the file's size tells."""
        return self._words[_PAGE_COUNT]

    @property
    def change(self) -> int:
        """The header's change counter (iChange)."""
        return self._words[_CHANGE]

    @property
    def initialised(self) -> bool:
        """Tell whether a header has been written since the regions were created."""
        return bool(self._words[_FORMAT] & 0xFF)

    # --- locks ----------------------------------------------------------------------------------
    def try_lock(self, slot: int, count: int = 1) -> bool:
        """Take ``count`` locks from ``slot`` exclusively; return False if one is held."""
        result = self._shm_lock(self._file, slot, count, _LOCK | _EXCLUSIVE)
        if result == apsw.SQLITE_OK:
            return True
        if result == apsw.SQLITE_BUSY:
            return False
        raise InvariantBroken(detail=f"wal-index lock {slot}: SQLite error {result}")

    def unlock(self, slot: int, count: int = 1) -> None:
        """Release locks taken by ``try_lock``."""
        result = self._shm_lock(self._file, slot, count, _UNLOCK | _EXCLUSIVE)
        if result != apsw.SQLITE_OK:
            raise InvariantBroken(detail=f"wal-index unlock {slot}: SQLite error {result}")

    # --- writing; the caller holds WRITE_LOCK -----------------------------------------------------
    def initialise(self) -> None:
        """Describe an empty WAL in regions that are still zero, before any SQL has run."""
        if self.initialised:
            raise InvariantBroken(detail="the wal-index was initialised before replay")
        self._words[_BACKFILL] = 0
        self._words[_MARKS] = 0
        for mark in range(1, READ_LOCKS + 1):
            self._words[_MARKS + mark] = MARK_UNUSED
        self.publish(0, 0)

    def append(self, first_frame: int, numbers: Sequence[int]) -> None:
        """Enter frames ``first_frame`` (from 1) on, which hold pages ``numbers``.

        Readers do not see them until ``publish``.
        """
        done, total, frame = 0, len(numbers), first_frame
        while done < total:
            region, position, capacity = _locate(frame)
            pages, slots = self._region(region)
            if position == 0:
                pages[:] = _ZERO_NUMBERS[:capacity]
                slots[:] = _ZERO_HASH
            elif pages[position]:
                self._cleanup(region, position)
            take = min(total - done, capacity - position)
            for number in numbers[done : done + take]:
                slot = number * _HASH_FACTOR & _HASH_MASK
                while slots[slot]:
                    slot = (slot + 1) & _HASH_MASK
                pages[position] = number
                position += 1
                slots[slot] = position
            done += take
            frame += take

    def publish(self, max_frame: int, page_count: int) -> None:
        """Show readers ``max_frame`` frames and a database of ``page_count`` pages.

        The change counter grows by one each time and is never reset, so that no two headers of
        this database are ever equal and a page cache can not survive by accident.
        """
        words = self._words
        change = (words[_CHANGE] + 1) & _MASK
        salt0, salt1 = words[_SALT], words[_SALT + 1]
        s0 = _INDEX_VERSION
        s1 = s0
        s0 = (s0 + change + s1) & _MASK
        s1 = (s1 + self._format + s0) & _MASK
        s0 = (s0 + max_frame + s1) & _MASK
        s1 = (s1 + page_count + s0) & _MASK
        s0 = (s0 + s1) & _MASK  # the frame checksums, words 6 and 7, are 0
        s1 = (s1 + s0) & _MASK
        s0 = (s0 + salt0 + s1) & _MASK
        s1 = (s1 + salt1 + s0) & _MASK
        header = memoryview(
            _PACK_HEADER(
                _INDEX_VERSION, 0, change, self._format, max_frame, page_count,
                0, 0, salt0, salt1, s0, s1,
            )
        ).cast("I")  # fmt: skip
        self._barrier(self._file)
        words[_HEADER_WORDS : 2 * _HEADER_WORDS] = header
        self._barrier(self._file)
        words[0:_HEADER_WORDS] = header

    def restart(self) -> bool:
        """Begin the WAL anew if it is wholly checkpointed and no reader is on its frames.

        Like SQLite's writer: new salts, no frames, no backfill, read marks cleared. Returns False,
        having changed nothing, when there is nothing to restart or a reader is in the way.
        """
        words = self._words
        frames = words[_MAX_FRAME]
        if frames == 0 or words[_BACKFILL] != frames:
            return False
        if not self.try_lock(FIRST_READ_LOCK, READ_LOCKS):
            return False
        try:
            words[_SALT] = (words[_SALT] + 1) & _MASK
            words[_SALT + 1] = (words[_SALT + 1] * 0x9E3779B1 + 1) & _MASK
            self.publish(0, words[_PAGE_COUNT])
            words[_BACKFILL] = 0
            words[_BACKFILL_ATTEMPTED] = 0
            words[_MARKS + 1] = 0
            for mark in range(2, READ_LOCKS + 1):
                words[_MARKS + mark] = MARK_UNUSED
        finally:
            self.unlock(FIRST_READ_LOCK, READ_LOCKS)
        return True

    def rewind(self, max_frame: int, page_count: int) -> None:
        """Take back all frames after ``max_frame``; no reader may be open.

        The backfill count goes back to 0 as well: a checkpoint pinned by a reader skips pages that
        have newer frames, and if those are the frames taken back, the older image is in no other
        place than the WAL.
        """
        words = self._words
        if not self.try_lock(FIRST_READ_LOCK, READ_LOCKS):
            raise InvariantBroken(detail="rollback of the WAL under an open reader")
        try:
            for mark in range(1, READ_LOCKS + 1):
                words[_MARKS + mark] = MARK_UNUSED
            words[_BACKFILL] = 0
            words[_BACKFILL_ATTEMPTED] = 0
            if max_frame:
                region, position, _ = _locate(max_frame)
                self._cleanup(region, position + 1)
            self.publish(max_frame, page_count)
        finally:
            self.unlock(FIRST_READ_LOCK, READ_LOCKS)

    def _cleanup(self, region: int, keep: int) -> None:
        """Remove entries behind the first ``keep`` of a region: leftovers of aborted commits."""
        pages, slots = self._region(region)
        for slot in range(_HASH_SLOTS):
            if slots[slot] > keep:
                slots[slot] = 0
        pages[keep:] = _ZERO_NUMBERS[: len(pages) - keep]

    def _region(self, region: int) -> tuple[memoryview, memoryview]:
        """Return page numbers and hash slots of a region, which SQLite may have made by itself."""
        while region >= len(self._numbers):
            self._map_region()
        return self._numbers[region], self._hashes[region]

    def _map_region(self) -> memoryview:
        region = len(self._numbers)
        pointer = ctypes.c_void_p()
        result = self._shm_map(self._file, region, REGION_BYTES, 1, ctypes.byref(pointer))
        if result != apsw.SQLITE_OK or not pointer.value:
            raise InvariantBroken(detail=f"wal-index region {region}: SQLite error {result}")
        raw = memoryview((ctypes.c_char * REGION_BYTES).from_address(pointer.value)).cast("B")
        words = raw.cast("I")
        first = REGION_FRAMES - FIRST_REGION_FRAMES if region == 0 else 0
        self._numbers.append(words[first:REGION_FRAMES])
        self._hashes.append(raw.cast("H")[_HASH_SLOTS:])
        return words


def _locate(frame: int) -> tuple[int, int, int]:
    """Return (region, position from 0 in it, frames it can hold) of ``frame`` (from 1)."""
    if frame <= FIRST_REGION_FRAMES:
        return 0, frame - 1, FIRST_REGION_FRAMES
    region, position = divmod(frame - FIRST_REGION_FRAMES - 1, REGION_FRAMES)
    return region + 1, position, REGION_FRAMES

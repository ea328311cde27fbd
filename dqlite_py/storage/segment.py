"""The byte format of one log segment: pure functions from values to bytes and back.

``storage/DESIGN.md`` has the byte tables and the reasons.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from dqlite_py.errors import CorruptFile, NewerFormat
from dqlite_py.raft import Entry, EntryKind, HardState

VERSION: Final = 1
SECTOR_BYTES: Final = 512  # what a disk writes whole or not at all
DATA_START: Final = SECTOR_BYTES  # batches begin behind the header's own sector

_MAGIC: Final = b"DQPYLOG\n"
_HEADER: Final = struct.Struct("<8sIIQQQQQ")
_CRC: Final = struct.Struct("<I")
_RESTARTS: Final = 1  # header flag

BATCH_MAGIC: Final = 0xB47C4EAD
_END_MAGIC: Final = 0xE9D0FB47
_BATCH: Final = struct.Struct("<IIIIQ")
_BATCH_CHECKED: Final = struct.Struct("<IIQ")
_END: Final = struct.Struct("<II")
BATCH_OVERHEAD_BYTES: Final = _BATCH.size + _END.size

_RECORD: Final = struct.Struct("<BBBxIQQI")
_RECORD_CHECKED: Final = struct.Struct("<BBBxIQQ")
RECORD_HEADER_BYTES: Final = _RECORD.size
_VOTE: Final = struct.Struct("<Q")
_ENTRY: Final = 1
_HARD_STATE: Final = 2
_STUFFED: Final = 1  # record flag

# A sector of zeros means "never written", so no written sector may be all zeros. Data with a run
# this long is stored with a 1 after each RUN bytes; then every sector holds at least two bytes
# that are not zero, and one damaged byte can not make it look unwritten.
_RUN_BYTES: Final = 255
_ZERO_RUN: Final = bytes(_RUN_BYTES)
_PADDING: Final = (b"", bytes(7), bytes(6), bytes(5), bytes(4), bytes(3), bytes(2), bytes(1))


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself and its predecessor.

    ``first_index`` is the index after the last entry when the segment was begun, ``previous_term``
    the term of the entry before that. ``previous_end`` is the durable length of the segment with
    the preceding ``sequence``. With ``restarts`` all earlier segments are void (snapshot install).
    """

    sequence: int
    first_index: int
    previous_term: int
    previous_end: int
    length: int
    restarts: bool = False

    def encode(self) -> bytes:
        """Return the header's sector."""
        flags = _RESTARTS if self.restarts else 0
        body = _HEADER.pack(
            _MAGIC,
            VERSION,
            flags,
            self.sequence,
            self.first_index,
            self.previous_term,
            self.previous_end,
            self.length,
        )
        return (body + _CRC.pack(crc32(body))).ljust(DATA_START, b"\0")


def decode_header(path: str, data: bytes) -> SegmentHeader:
    """Read the first sector of ``path``; raise ``CorruptFile`` or ``NewerFormat``."""
    if len(data) < DATA_START:
        raise CorruptFile(path=path, detail="the file is too short for its header")
    body = data[: _HEADER.size]
    (checksum,) = _CRC.unpack_from(data, _HEADER.size)
    if checksum != crc32(body) or any(data[_HEADER.size + _CRC.size : DATA_START]):
        raise CorruptFile(path=path, detail="the header's checksum is wrong")
    magic, version, flags, sequence, first, term, previous_end, length = _HEADER.unpack(body)
    if magic != _MAGIC:
        raise CorruptFile(path=path, detail="not a log segment")
    if version != VERSION:
        raise NewerFormat(path=path, found=version, supported=VERSION)
    return SegmentHeader(
        sequence, first, term, previous_end, length, restarts=bool(flags & _RESTARTS)
    )


def seed_of(sequence: int) -> int:
    """Return the checksum seed of a segment; a position's seed is this XOR its offset.

    CRC-32 maps different seeds to different results for the same bytes, so a record copied from
    another place or another segment never validates.
    """
    return crc32(sequence.to_bytes(8, "little"))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one entry lies: ``stored_bytes`` of data behind the record header at ``offset``."""

    index: int
    term: int
    offset: int
    stored_bytes: int


def encode_batch(
    seed: int, offset: int, hard_state: HardState | None, entries: Sequence[Entry]
) -> tuple[bytes, list[Placement]]:
    """Lay out one batch for ``offset`` (a multiple of eight) of the segment with ``seed``.

    Returns its bytes, a multiple of eight, and where each entry will lie.
    """
    parts = [b""]
    at = offset + _BATCH.size
    if hard_state is not None:
        vote = _VOTE.pack(hard_state.vote)
        at += _add_record(
            parts, seed ^ at, _HARD_STATE, 0, hard_state.term, hard_state.commit, vote
        )
    placements = []
    for entry in entries:
        size = _add_record(
            parts, seed ^ at, _ENTRY, entry.kind.value, entry.term, entry.index, entry.data
        )
        placements.append(Placement(entry.index, entry.term, at, len(parts[-2])))
        at += size
    count = len(entries) + (hard_state is not None)
    body_bytes = at - offset - _BATCH.size
    checksum = crc32(_BATCH_CHECKED.pack(body_bytes, count, offset), seed ^ offset)
    parts[0] = _BATCH.pack(BATCH_MAGIC, checksum, body_bytes, count, offset)
    parts.append(_END.pack(_END_MAGIC, checksum))
    return b"".join(parts), placements


def _add_record(
    parts: list[bytes], seed: int, tag: int, kind: int, term: int, index: int, data: bytes
) -> int:
    """Append header, data and padding of one record to ``parts``; return its length."""
    flags = 0
    if _ZERO_RUN in data:
        data = _stuff(data)
        flags = _STUFFED
    length = len(data)
    checked = _RECORD_CHECKED.pack(tag, kind, flags, length, term, index)
    parts.append(checked + _CRC.pack(crc32(data, crc32(checked, seed))))
    parts.append(data)
    size = _RECORD.size + length
    parts.append(_PADDING[size & 7])
    return (size + 7) & ~7


def _stuff(data: bytes) -> bytes:
    return b"\1".join(data[i : i + _RUN_BYTES] for i in range(0, len(data), _RUN_BYTES))


def _unstuff(data: bytes) -> bytes:
    step = _RUN_BYTES + 1
    return b"".join(data[i : i + _RUN_BYTES] for i in range(0, len(data), step))


def batch_bytes_at_most(entries: Sequence[Entry]) -> int:
    """Return an upper bound of what a batch of a hard state and ``entries`` occupies."""
    stored = sum(len(entry.data) + len(entry.data) // _RUN_BYTES for entry in entries)
    records = (len(entries) + 1) * (RECORD_HEADER_BYTES + 8)
    return stored + records + BATCH_OVERHEAD_BYTES + _VOTE.size


def batch_length_at(data: bytes, seed: int, offset: int) -> int:
    """Return the whole length of the batch whose header lies at ``offset``, or 0 if none does."""
    if offset + BATCH_OVERHEAD_BYTES > len(data):
        return 0
    magic, checksum, body_bytes, count, durable = _BATCH.unpack_from(data, offset)
    if magic != BATCH_MAGIC or durable != offset:
        return 0
    if checksum != crc32(_BATCH_CHECKED.pack(body_bytes, count, durable), seed ^ offset):
        return 0
    total: int = body_bytes + BATCH_OVERHEAD_BYTES
    return total if offset + total <= len(data) else 0


@dataclass(frozen=True, slots=True)
class Batch:
    """The records of one valid batch, in the order written."""

    hard_state: HardState | None
    placements: list[Placement]
    end: int


def decode_batch(data: bytes, seed: int, offset: int) -> Batch | None:
    """Check every byte of the batch at ``offset``; ``None`` if anything is wrong."""
    total = batch_length_at(data, seed, offset)
    if total == 0:
        return None
    _, checksum, _, count, _ = _BATCH.unpack_from(data, offset)
    end = offset + total
    if _END.unpack_from(data, end - _END.size) != (_END_MAGIC, checksum):
        return None
    at = offset + _BATCH.size
    hard_state = None
    placements = []
    for _ in range(count):
        stored = _checked_record(data, seed, at, end - _END.size)
        if stored is None:
            return None
        tag, _, _, length, term, index, _ = _RECORD.unpack_from(data, at)
        if tag == _ENTRY:
            placements.append(Placement(index, term, at, length))
        else:
            hard_state = HardState(term, _VOTE.unpack(stored)[0], index)
        at += (_RECORD.size + length + 7) & ~7
    if at != end - _END.size:
        return None
    return Batch(hard_state, placements, end)


def _checked_record(data: bytes, seed: int, at: int, limit: int) -> bytes | None:
    """Return the stored bytes of the record at ``at`` if it and its padding are intact."""
    if at + _RECORD.size > limit:
        return None
    tag, kind, flags, length, term, index, checksum = _RECORD.unpack_from(data, at)
    start = at + _RECORD.size
    end = start + length
    padded = (end + 7) & ~7
    if tag not in (_ENTRY, _HARD_STATE) or padded > limit:
        return None
    stored = data[start:end]
    checked = _RECORD_CHECKED.pack(tag, kind, flags, length, term, index)
    if checksum != crc32(stored, crc32(checked, seed ^ at)) or any(data[end:padded]):
        return None
    if data[at + 3] or (tag == _HARD_STATE and length != _VOTE.size):
        return None
    return stored


def decode_entry(data: bytes, start: int, seed: int, placement: Placement) -> Entry | None:
    """Return the entry of ``placement`` from ``data``, which begins at file offset ``start``.

    ``None`` if it is not the record that was written there.
    """
    at = placement.offset - start
    stored = _checked_record_at(data, at, seed ^ placement.offset)
    if stored is None:
        return None
    tag, kind, flags, _, term, index, _ = _RECORD.unpack_from(data, at)
    if (tag, term, index) != (_ENTRY, placement.term, placement.index):
        return None
    return Entry(term, index, EntryKind(kind), _unstuff(stored) if flags & _STUFFED else stored)


def _checked_record_at(data: bytes, at: int, seed: int) -> bytes | None:
    tag, kind, flags, length, term, index, checksum = _RECORD.unpack_from(data, at)
    stored = data[at + _RECORD.size : at + _RECORD.size + length]
    checked = _RECORD_CHECKED.pack(tag, kind, flags, length, term, index)
    if len(stored) != length or checksum != crc32(stored, crc32(checked, seed)):
        return None
    return stored

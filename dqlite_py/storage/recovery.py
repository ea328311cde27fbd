"""Reading the log back: what a crash may leave is repaired, anything else is refused.

Only the last batch of the newest segment can be torn, because every batch is synced before the
next one is written; so finding any later batch proves that a damaged one was durable.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from dqlite_py.errors import CorruptFile, DamagedTail
from dqlite_py.raft import HardState
from dqlite_py.seams import Disk, DiskFile
from dqlite_py.storage.log_index import LogIndex
from dqlite_py.storage.segment import (
    BATCH_MAGIC,
    DATA_START,
    SECTOR_BYTES,
    SegmentHeader,
    batch_length_at,
    decode_batch,
    decode_header,
    seed_of,
)
from dqlite_py.storage.spare import SUFFIX as SPARE_SUFFIX

_SEGMENT_SUFFIX: Final = ".seg"
_MAGIC_BYTES: Final = BATCH_MAGIC.to_bytes(4, "little")
_BATCH_HEADER_BYTES: Final = 24


@dataclass(slots=True)
class Segment:
    """An open segment; ``max_index`` is the highest entry ever written into it."""

    header: SegmentHeader
    path: str
    file: DiskFile
    max_index: int = 0


@dataclass(slots=True)
class Recovered:
    """The log as found; ``end`` is where the next batch goes in the last segment."""

    segments: list[Segment]
    index: LogIndex
    hard_state: HardState
    end: int
    torn_bytes: int


def segment_path(directory: str, sequence: int) -> str:
    """Return the path of the segment numbered ``sequence``."""
    return f"{directory}/{sequence:016x}{_SEGMENT_SUFFIX}"


def recover(disk: Disk, directory: str) -> Recovered | None:
    """Read the log in ``directory``; ``None`` if it holds no segment.

    Removes unfinished files and erases a torn tail; durable on return. Raises CorruptFile when
    something durable is damaged or missing (nothing is changed then), NewerFormat, OSError.
    """
    names = disk.listdir(directory)
    headers = [_read_header(disk, directory, name) for name in names if _is_segment(name)]
    start = max((i for i, header in enumerate(headers) if header.restarts), default=0)
    live = headers[start:]
    _require_contiguous(directory, live)
    found = _scan(disk, directory, live) if live else None
    for name in names:
        if name.endswith(SPARE_SUFFIX):
            disk.unlink(f"{directory}/{name}")
    for header in headers[:start]:
        disk.unlink(segment_path(directory, header.sequence))
    disk.sync_dir(directory)
    return found


def _is_segment(name: str) -> bool:
    return name.endswith(_SEGMENT_SUFFIX)


def _read_header(disk: Disk, directory: str, name: str) -> SegmentHeader:
    path = f"{directory}/{name}"
    file = disk.open(path)
    try:
        header = decode_header(path, file.pread(DATA_START, 0))
        if segment_path(directory, header.sequence) != path:
            raise CorruptFile(path=path, detail="the name and the header disagree")
        if file.size() != header.length:
            raise CorruptFile(
                path=path, detail=f"{file.size()} bytes long instead of {header.length}"
            )
    finally:
        file.close()
    return header


def _require_contiguous(directory: str, headers: list[SegmentHeader]) -> None:
    for before, after in pairwise(headers):
        if after.sequence != before.sequence + 1:
            path = segment_path(directory, before.sequence + 1)
            raise CorruptFile(path=path, detail="the segment is missing")


def _scan(disk: Disk, directory: str, headers: list[SegmentHeader]) -> Recovered:
    index = LogIndex(headers[0].first_index - 1, headers[0].previous_term)
    state = Recovered([], index, HardState(), DATA_START, 0)
    try:
        for header, following in zip(headers, [*headers[1:], None], strict=True):
            path = segment_path(directory, header.sequence)
            segment = Segment(header, path, disk.open(path))
            state.segments.append(segment)
            _scan_segment(state, segment, following)
    except Exception:
        for segment in state.segments:
            segment.file.close()
        raise
    return state


def _scan_segment(state: Recovered, segment: Segment, following: SegmentHeader | None) -> None:
    """Take in every batch of ``segment``; only the newest may end in a torn one."""
    path, header = segment.path, segment.header
    data = segment.file.pread(header.length, 0)
    at, newest = _read_batches(state, segment, data)
    used = len(data.rstrip(b"\0"))
    if at == DATA_START:
        # The first batch is durable before the file gets its name.
        raise CorruptFile(path=path, detail="the first batch is damaged")
    if following is None:
        if newest < state.index.start:
            raise CorruptFile(path=path, detail="entries are missing before the log's start")
        state.end = at
        if used > at:
            judge_tail(path, data, seed_of(header.sequence), at, used)
            segment.file.pwrite(bytes(used - at), at)
            segment.file.fdatasync()
            state.torn_bytes = used - at
    elif at != following.previous_end or used > at:
        raise CorruptFile(path=path, detail=f"damage at {at}, below the sync watermark")


def _read_batches(state: Recovered, segment: Segment, data: bytes) -> tuple[int, int]:
    """Take in valid batches until none follows; return where, and the last entry's index."""
    seed = seed_of(segment.header.sequence)
    at = DATA_START
    newest = state.index.last
    while (batch := decode_batch(data, seed, at)) is not None:
        if batch.hard_state is not None:
            state.hard_state = batch.hard_state
        elif at == DATA_START:
            raise CorruptFile(path=segment.path, detail="it does not begin with a hard state")
        for placement in batch.placements:
            if placement.index > state.index.last + 1:
                raise CorruptFile(
                    path=segment.path, detail=f"entries before {placement.index} are missing"
                )
            state.index.place(segment.header.sequence, placement)
            newest = placement.index
            segment.max_index = max(segment.max_index, newest)
        at = batch.end
    return at, newest


def judge_tail(path: str, data: bytes, seed: int, at: int, used: int) -> None:
    """Return if the bytes in [at, used) are what a crash leaves of one batch, else raise.

    A crash leaves some sectors of the batch unwritten, that is zero, and a batch once whole has no
    such sector. Raises CorruptFile if the damage lies below the recorded watermark or the batch is
    whole, DamagedTail if neither can be told.
    """
    later = _find_batch(data, seed, at + 8, used)
    if later:
        raise CorruptFile(
            path=path, detail=f"damage at {at}, below the sync watermark recorded at {later}"
        )
    length = batch_length_at(data, seed, at)
    if length:
        if used > at + length:
            raise CorruptFile(path=path, detail=f"unexpected bytes behind the batch at {at}")
        if not _has_unwritten_sector(data, at, at + length):
            raise CorruptFile(path=path, detail=f"the batch at {at} is whole but damaged")
    elif not _has_unwritten_sector(data, at, _sector_end(at + _BATCH_HEADER_BYTES - 1)):
        raise DamagedTail(path=path, detail=f"the header of the last batch, at {at}, is damaged")


def _sector_end(offset: int) -> int:
    return offset - offset % SECTOR_BYTES + SECTOR_BYTES


def _has_unwritten_sector(data: bytes, start: int, end: int) -> bool:
    """Tell whether the part of some sector that lies in [start, end) is all zero."""
    while start < end:
        stop = min(_sector_end(start), end)
        if not any(data[start:stop]):
            return True
        start = stop
    return False


def _find_batch(data: bytes, seed: int, start: int, end: int) -> int:
    """Return the offset of the first valid batch header in [start, end), or 0."""
    at = data.find(_MAGIC_BYTES, start, end)
    while at >= 0:
        if at % 8 == 0 and batch_length_at(data, seed, at):
            return at
        at = data.find(_MAGIC_BYTES, at + 1, end)
    return 0

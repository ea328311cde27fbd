"""The first and last frame of a region, and what an overwritten frame forgets."""

from __future__ import annotations

import struct

import pytest

from dqlite_py.vfs.wal import FRAME_HEADER_BYTES, WAL_HEADER_BYTES, VirtualWal
from dqlite_py.vfs.wal_index import FIRST_REGION_FRAMES, REGION_FRAMES, _locate

PAGE_SIZE = 512
SECOND_END = FIRST_REGION_FRAMES + REGION_FRAMES


@pytest.mark.parametrize(
    ("frame", "region", "position", "capacity"),
    [
        (1, 0, 0, FIRST_REGION_FRAMES),
        (FIRST_REGION_FRAMES, 0, FIRST_REGION_FRAMES - 1, FIRST_REGION_FRAMES),
        (FIRST_REGION_FRAMES + 1, 1, 0, REGION_FRAMES),
        (SECOND_END, 1, REGION_FRAMES - 1, REGION_FRAMES),
        (SECOND_END + 1, 2, 0, REGION_FRAMES),
    ],
)
def test_frames_at_the_ends_of_regions_are_found(
    frame: int, region: int, position: int, capacity: int
) -> None:
    assert _locate(frame) == (region, position, capacity)


def test_an_overwritten_frame_does_not_stay_a_commit() -> None:
    wal = VirtualWal(PAGE_SIZE)
    for number, commit_size in ((7, 9), (8, 0)):
        header = struct.pack(">II", number, commit_size).ljust(FRAME_HEADER_BYTES, b"\0")
        wal.xWrite(header, WAL_HEADER_BYTES)
        wal.xWrite(bytes(PAGE_SIZE), WAL_HEADER_BYTES + FRAME_HEADER_BYTES)
        assert (wal.numbers, wal.commit_sizes) == ([number], [commit_size])

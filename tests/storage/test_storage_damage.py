"""Rule 12: damage no crash explains is refused; nothing acknowledged vanishes quietly."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from dqlite_py.errors import CorruptFile, DamagedTail, Fatal, NewerFormat
from dqlite_py.raft import ConfState, Entry, EntryKind, HardState
from dqlite_py.storage import AppendBatch, DataDir, Identity, Manifest, RaftStorage, StorageLimits
from dqlite_py.storage import base_index as base
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.recovery import judge_tail
from dqlite_py.storage.segment import (
    BATCH_MAGIC,
    DATA_START,
    SegmentHeader,
    encode_batch,
    seed_of,
)
from tests.kit.disk import SECTOR_BYTES, SimulatedDisk
from tests.kit.log_model import read_all

LOG = "/log"
START = Manifest(1, 0, 0, ConfState((1,)))
LIMITS = StorageLimits(segment_bytes=2048, first_segment_bytes=2048, step_bytes=2048)
FIRST, SECOND = f"{LOG}/{1:016x}.seg", f"{LOG}/{2:016x}.seg"


def open_log(disk: SimulatedDisk) -> RaftStorage:
    return RaftStorage.open(disk, LOG, START, LIMITS, create=False)


@pytest.fixture
def disk() -> SimulatedDisk:
    """Two segments; the second holds three batches of one entry each, the last unconfirmed."""
    disk = SimulatedDisk(Random(1))
    storage = RaftStorage.open(disk, LOG, START, LIMITS)
    random = Random(2)
    for index, length in enumerate((600, 500, 700, 40, 200), start=1):
        entry = Entry(1, index, EntryKind.NORMAL, random.randbytes(length))
        storage.publish(storage.write([AppendBatch((entry,), HardState(1, 2, index - 1))]))
    assert disk.listdir(LOG) == [FIRST[5:], SECOND[5:]]
    return disk


def everything(disk: SimulatedDisk) -> tuple[tuple[Entry, ...], HardState]:
    storage = open_log(disk)
    return read_all(storage), storage.initial_state()[0]


@pytest.mark.parametrize("path", [FIRST, SECOND])
def test_any_flipped_byte_of_the_log_is_refused_or_harmless(disk: SimulatedDisk, path: str) -> None:
    whole = everything(disk.copy(Random(0)))
    assert len(whole[0]) == 5
    written = len(disk.files()[path].rstrip(b"\0"))
    for offset in range(len(disk.files()[path])):
        damaged = disk.copy(Random(0))
        damaged.flip(path, offset, 1 << offset % 8)
        try:
            found = everything(damaged)
        except Fatal as error:
            assert path in str(error)
        else:
            assert found == whole, offset
            assert offset >= written, "only where nothing was ever written"


@pytest.mark.parametrize("path", [FIRST, SECOND])
def test_a_segment_of_any_other_length_is_refused(disk: SimulatedDisk, path: str) -> None:
    for length in [*range(0, 2048, 37), 2047]:
        damaged = disk.copy(Random(0))
        damaged.cut_file(path, length)
        with pytest.raises(CorruptFile, match=path):
            open_log(damaged)
    longer = disk.copy(Random(0))
    longer.open(path).pwrite(b"\0", 2048)
    with pytest.raises(CorruptFile, match="2049 bytes long"):
        open_log(longer)


def test_a_missing_segment_is_refused(disk: SimulatedDisk) -> None:
    third = open_log(disk)
    entry = Entry(1, 6, EntryKind.NORMAL, bytes([1]) * 1200)
    third.write([AppendBatch((entry,))])
    middle = disk.copy(Random(0))
    middle.unlink(SECOND)
    with pytest.raises(CorruptFile, match="missing"):
        open_log(middle)
    disk.unlink(FIRST)
    with pytest.raises(CorruptFile, match="the log begins at"):
        open_log(disk)


def test_an_emptied_log_directory_is_refused_once_the_member_has_an_identity() -> None:
    with pytest.raises(CorruptFile, match="missing"):
        open_log(SimulatedDisk(Random(0)))


@pytest.mark.parametrize("sector", range(1, 4))
def test_a_zeroed_sector_below_the_watermark_is_refused(disk: SimulatedDisk, sector: int) -> None:
    disk.open(FIRST).pwrite(bytes(SECTOR_BYTES), sector * SECTOR_BYTES)
    with pytest.raises(CorruptFile):
        open_log(disk)


def test_a_damaged_batch_followed_by_another_is_below_the_watermark(disk: SimulatedDisk) -> None:
    disk.flip(SECOND, DATA_START + 800)  # within the second batch of the second segment
    with pytest.raises(CorruptFile, match="below the sync watermark recorded at"):
        open_log(disk)


def test_a_full_segment_must_end_where_its_successor_says(disk: SimulatedDisk) -> None:
    end = len(disk.files()[FIRST].rstrip(b"\0"))
    stray = disk.copy(Random(0))
    stray.open(FIRST).pwrite(b"\1", end + 100)
    vanished = disk.copy(Random(0))
    second = disk.files()[FIRST].rfind(BATCH_MAGIC.to_bytes(4, "little"))
    vanished.open(FIRST).pwrite(bytes(end - second), second)
    for damaged in (stray, vanished):
        with pytest.raises(CorruptFile, match="below the sync watermark"):
            open_log(damaged)


def test_bytes_behind_a_torn_batch_are_refused(disk: SimulatedDisk) -> None:
    image, start, end = batch_of(2000)
    torn = bytearray(image)
    torn[2 * SECTOR_BYTES : 3 * SECTOR_BYTES] = bytes(SECTOR_BYTES)
    judge(bytes(torn), start)
    torn[end + 700] = 1
    with pytest.raises(CorruptFile, match="unexpected bytes behind"):
        judge(bytes(torn), start)


def write_segment(
    first: int, state: HardState, entry: Entry, previous_term: int = 0
) -> SimulatedDisk:
    """Return a disk with one segment that no correct run writes."""
    disk = SimulatedDisk(Random(0))
    disk.mkdir(LOG)
    header = SegmentHeader(1, first, previous_term, 0, 2048).encode()
    batch, _ = encode_batch(seed_of(1), DATA_START, state, (entry,))
    disk.open(FIRST, create=True).pwrite((header + batch).ljust(2048, b"\0"), 0)
    return disk


def test_a_log_that_ends_before_its_commit_index_is_refused() -> None:
    disk = write_segment(1, HardState(1, 1, 5), Entry(1, 1))
    with pytest.raises(CorruptFile, match="entries up to 5 were committed, the log ends at 1"):
        open_log(disk)


def test_a_log_that_contradicts_the_manifest_in_what_was_committed_is_refused() -> None:
    disk = write_segment(1, HardState(1, 1, 0), Entry(1, 1), previous_term=1)
    with pytest.raises(CorruptFile, match="the committed entry 0 is not the manifest's"):
        open_log(disk)


def test_a_log_that_ends_before_its_own_start_is_refused() -> None:
    disk = write_segment(4, HardState(1, 1, 1), Entry(1, 2))
    with pytest.raises(CorruptFile, match="entries are missing before the log's start"):
        open_log(disk)


def batch_of(length: int) -> tuple[bytes, int, int]:
    """Return a segment's image with one batch at an odd place, the batch's start and its end."""
    start = DATA_START + 8 * 60  # the batch's header straddles a sector boundary
    entry = Entry(1, 1, EntryKind.NORMAL, bytes(length))
    data, _ = encode_batch(seed_of(9), start, HardState(1, 1, 0), (entry,))
    image = bytes(start) + data
    return image.ljust(8192, b"\0"), start, start + len(data)


def judge(image: bytes, start: int) -> None:
    judge_tail("segment", image, seed_of(9), start, len(image.rstrip(b"\0")))


@pytest.mark.parametrize("length", [0, 300, 2000])
def test_a_batch_that_lost_any_of_its_sectors_is_torn(length: int) -> None:
    image, start, end = batch_of(length)
    for lost in range(start // SECTOR_BYTES, (end - 1) // SECTOR_BYTES + 1):
        torn = bytearray(image)
        torn[lost * SECTOR_BYTES : (lost + 1) * SECTOR_BYTES] = bytes(SECTOR_BYTES)
        if any(torn):
            judge(bytes(torn), start)


@pytest.mark.parametrize("length", [0, 300, 2000])
def test_no_single_damaged_byte_makes_a_whole_batch_look_torn(length: int) -> None:
    image, start, end = batch_of(length)
    header = 0
    for offset in range(start, end):
        for value in {0, image[offset] ^ 1, 255 - image[offset]} - {image[offset]}:
            damaged = image[:offset] + bytes([value]) + image[offset + 1 :]
            with pytest.raises(CorruptFile) as caught:
                judge(damaged, start)
            header += isinstance(caught.value, DamagedTail)
    assert header >= 24  # whether the batch was whole can not be told without its header


def test_an_old_entry_damaged_while_running_is_refused_when_read(disk: SimulatedDisk) -> None:
    storage = open_log(disk)
    disk.flip(FIRST, DATA_START + 200)
    with pytest.raises(CorruptFile, match="entry 1 is damaged"):
        storage.entries(1, 2, 1 << 20)


def test_newer_segments_are_refused(disk: SimulatedDisk) -> None:
    from zlib import crc32

    newer = bytearray(disk.files()[SECOND])
    newer[8] = 2
    newer[56:60] = crc32(newer[:56]).to_bytes(4, "little")
    disk.open(SECOND).pwrite(bytes(newer), 0)
    with pytest.raises(NewerFormat):
        open_log(disk)


def small_files() -> dict[str, tuple[SimulatedDisk, str, Callable[[SimulatedDisk], object]]]:
    """Return each small file with a function that reads it."""
    disk = SimulatedDisk(Random(0))
    directory = DataDir.open(disk, "/d")
    directory.store_identity(Identity(0x1234, 0xABCDEF, "näme"))
    manifests.store(disk, "/d", Manifest(3, 70, 4, ConfState((1, 2), (1,), (5,)), b"catalogue"))
    base.store(disk, "/d/etcd.base", base.BaseIndex(70, 66))
    return {
        "identity": (disk, "/d/identity.json", lambda d: DataDir.open(d, "/d").identity),
        "manifest": (disk, "/d/manifest", lambda d: manifests.load(d, "/d")),
        "base": (disk, "/d/etcd.base", lambda d: base.load(d, "/d/etcd.base")),
    }


@pytest.mark.parametrize("name", ["identity", "manifest", "base"])
def test_any_flipped_byte_or_truncation_of_a_small_file_is_refused(name: str) -> None:
    disk, path, load = small_files()[name]
    length = len(disk.files()[path])
    for offset in range(length):
        for bit in range(8):
            damaged = disk.copy(Random(0))
            damaged.flip(path, offset, 1 << bit)
            with pytest.raises(Fatal, match=path):
                load(damaged)
        shorter = disk.copy(Random(0))
        shorter.cut_file(path, offset)
        with pytest.raises(CorruptFile, match=path):
            load(shorter)

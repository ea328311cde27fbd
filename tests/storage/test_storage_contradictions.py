"""Files whose checksums are right and whose content is not: no crash writes them (rule 12)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from zlib import crc32

import msgpack
import pytest

from dqlite_py.errors import CorruptFile, DiskFailed
from dqlite_py.raft import ConfState, Entry, EntryKind, HardState
from dqlite_py.storage import AppendBatch, DataDir, Identity, Manifest, RaftStorage, StorageLimits
from dqlite_py.storage import base_index as base
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.sealed import store_sealed
from dqlite_py.storage.segment import (
    DATA_START,
    Placement,
    SegmentHeader,
    decode_batch,
    decode_entry,
    decode_header,
    encode_batch,
    seed_of,
)
from dqlite_py.storage.spare import SparePool
from tests.kit.disk import SimulatedDisk

LOG = "/log"
START = Manifest(1, 0, 0, ConfState((1,)))
LIMITS = StorageLimits(segment_bytes=2048, first_segment_bytes=2048, step_bytes=2048)
FIRST = f"{LOG}/{1:016x}.seg"
SEED = seed_of(1)
ENTRY = Entry(1, 1, EntryKind.NORMAL, b"data")


def write(disk: SimulatedDisk, path: str, data: bytes) -> None:
    file = disk.open(path, create=not disk.exists(path))
    file.pwrite(data, 0)
    file.fdatasync()
    file.close()


def segment(sequence: int, hard_state: HardState | None, *entries: Entry) -> bytes:
    header = SegmentHeader(sequence, 1, 0, 0, 2048)
    batch, _ = encode_batch(seed_of(sequence), DATA_START, hard_state, entries)
    return (header.encode() + batch).ljust(2048, b"\0")


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (segment(2, HardState(1, 0, 0), ENTRY), "the name and the header disagree"),
        (segment(1, None, ENTRY), "does not begin with a hard state"),
        (segment(1, HardState(1, 0, 0), Entry(1, 3)), "entries before 3 are missing"),
    ],
)
def test_segment_that_no_writer_makes_is_refused_and_kept(data: bytes, detail: str) -> None:
    disk = SimulatedDisk(Random(1))
    disk.mkdir(LOG)
    write(disk, FIRST, data)
    with pytest.raises(CorruptFile, match=detail):
        RaftStorage.open(disk, LOG, START, LIMITS)
    assert disk.files()[FIRST] == data


def test_sector_with_another_magic_and_a_right_checksum_is_no_segment() -> None:
    body = b"SOMETHIN" + SegmentHeader(1, 1, 0, 0, 2048).encode()[8:56]
    data = (body + struct.pack("<I", crc32(body))).ljust(DATA_START, b"\0")
    with pytest.raises(CorruptFile, match="not a log segment"):
        decode_header(FIRST, data)


def recounted(count: int) -> bytes:
    """Return a batch of one entry whose header, checksum and all, speaks of ``count`` records."""
    batch, _ = encode_batch(SEED, 0, None, [ENTRY])
    magic, _, body_bytes, _, durable = struct.unpack_from("<IIIIQ", batch)
    checksum = crc32(struct.pack("<IIQ", body_bytes, count, durable), SEED)
    head = struct.pack("<IIIIQ", magic, checksum, body_bytes, count, durable)
    (end_magic,) = struct.unpack_from("<I", batch, len(batch) - 8)
    return head + batch[24:-8] + struct.pack("<II", end_magic, checksum)


@pytest.mark.parametrize("count", [0, 2])
def test_batch_with_more_or_fewer_records_than_it_names_is_not_valid(count: int) -> None:
    assert decode_batch(recounted(1), SEED, 0) is not None
    assert decode_batch(recounted(count), SEED, 0) is None


@pytest.mark.parametrize("other", [{"index": 2}, {"term": 2}])
def test_record_of_another_entry_is_not_taken_for_the_one_wanted(other: dict[str, int]) -> None:
    batch, (placement,) = encode_batch(SEED, 0, None, [ENTRY])
    assert decode_entry(batch, 0, SEED, placement) == ENTRY
    wanted = {"index": 1, "term": 1} | other
    elsewhere = Placement(offset=placement.offset, stored_bytes=placement.stored_bytes, **wanted)
    assert decode_entry(batch, 0, SEED, elsewhere) is None


def test_log_cut_short_while_it_is_read_is_damaged() -> None:
    disk = SimulatedDisk(Random(1))
    limits = StorageLimits(
        segment_bytes=2048, first_segment_bytes=2048, step_bytes=2048, cache_bytes=1
    )
    storage = RaftStorage.open(disk, LOG, START, limits)
    for index in (1, 2):
        entry = Entry(1, index, EntryKind.NORMAL, b"x" * 300)
        storage.publish(storage.write([AppendBatch((entry,), HardState(1, 0, index - 1))]))
    (reader,) = storage._readers.values()
    short = reader.file.pread
    reader.file.pread = lambda length, offset: short(length - 1, offset)  # type: ignore[method-assign]
    with pytest.raises(CorruptFile, match="entry 1 is damaged"):
        storage.entries(1, 2, 1 << 20)


def test_base_index_of_another_length_is_refused() -> None:
    disk = SimulatedDisk(Random(1))
    store_sealed(disk, "/a.base", b"DQPB", base.VERSION, bytes(15))
    with pytest.raises(CorruptFile, match="not a base index"):
        base.load(disk, "/a.base")


@pytest.mark.parametrize("content", [[1, 2], [1, 2, 3, [1], b""], 7])
def test_manifest_of_another_shape_is_refused(content: object) -> None:
    disk = SimulatedDisk(Random(1))
    body = msgpack.packb(content)
    store_sealed(disk, f"/{manifests.FILE_NAME}", b"DQPM", manifests.VERSION, body)
    with pytest.raises(CorruptFile, match="not a manifest"):
        manifests.load(disk, "")


def failing(disk: SimulatedDisk, part: str) -> None:
    disk.fault = lambda operation, path: OSError(5, "I/O") if part in path else None


@pytest.mark.parametrize(
    ("part", "act"),
    [
        ("/db", lambda disk, opened: DataDir.open(disk, "/e")),
        ("token", lambda disk, opened: opened.load_token()),
        ("token", lambda disk, opened: opened.store_token("secret")),
        ("identity", lambda disk, opened: opened.store_identity(Identity(1, 2, "n"))),
    ],
)
def test_failing_disk_under_the_directory_is_named(
    part: str, act: Callable[[SimulatedDisk, DataDir], object]
) -> None:
    disk = SimulatedDisk(Random(1))
    opened = DataDir.open(disk, "/d")
    disk.mkdir("/e")
    failing(disk, part)
    with pytest.raises(DiskFailed) as caught:
        act(disk, opened)
    assert part in caught.value.path


def test_full_disk_while_a_segment_is_prepared_is_a_failed_disk() -> None:
    disk = SimulatedDisk(Random(1))
    disk.mkdir(LOG)
    pool = SparePool(disk, LOG, 4096, 1024)
    disk.fault = lambda operation, path: OSError(28, "full") if operation == "pwrite" else None
    with pytest.raises(DiskFailed, match="full"):
        pool.take(100, 2048)

"""What the Raft core may rely on when it reads the log."""

from __future__ import annotations

from random import Random

import pytest

from dqlite_py.errors import DiskFailed, InvariantBroken
from dqlite_py.raft import (
    NO_LIMIT,
    Compacted,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Unavailable,
)
from dqlite_py.raft.messages import ENTRY_OVERHEAD_BYTES
from dqlite_py.storage import AppendBatch, Manifest, RaftStorage, StorageLimits
from dqlite_py.storage.log_index import RecentEntries
from tests.kit.disk import SimulatedDisk
from tests.kit.log_model import SMALL, START, read_all

LOG = "/log"


def entry(index: int, term: int = 1, data: bytes = b"x") -> Entry:
    return Entry(term, index, EntryKind.NORMAL, data)


def entries(first: int, last: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(entry(i, term, b"%d/%d" % (i, term) * 20) for i in range(first, last + 1))


def append(storage: RaftStorage, *new: Entry, state: HardState | None = None) -> None:
    storage.publish(storage.write([AppendBatch(new, state)]))


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(Random(0))


@pytest.fixture
def storage(disk: SimulatedDisk) -> RaftStorage:
    return RaftStorage.open(disk, LOG, START, SMALL)


def test_a_fresh_log_is_empty_and_knows_the_configuration(storage: RaftStorage) -> None:
    assert (storage.first_index(), storage.last_index()) == (1, 0)
    assert storage.initial_state() == (HardState(), ConfState((1,)))
    assert storage.term(0) == 0


def test_written_entries_are_readable_only_once_published(storage: RaftStorage) -> None:
    result = storage.write([AppendBatch(entries(1, 3))])
    with pytest.raises(Unavailable):
        storage.term(1)
    storage.publish(result)
    assert read_all(storage) == entries(1, 3)


def test_all_batches_of_one_call_cost_one_write_and_one_sync(
    disk: SimulatedDisk, storage: RaftStorage
) -> None:
    disk.trace.clear()
    storage.write([AppendBatch(entries(1, 2), HardState(1, 1, 0)), AppendBatch(entries(3, 3))])
    assert [line.split()[0] for line in disk.trace] == ["pwrite", "fdatasync"]


def test_a_moved_commit_index_alone_costs_nothing_and_goes_with_the_next_write(
    disk: SimulatedDisk, storage: RaftStorage
) -> None:
    append(storage, *entries(1, 2), state=HardState(1, 1, 0))
    disk.trace.clear()
    result = storage.write([AppendBatch((), HardState(1, 1, 2), must_sync=False)])
    assert (result.written_bytes, result.synced, disk.trace) == (0, False, [])
    append(storage, entry(3))
    disk.crash()
    reopened = RaftStorage.open(disk, LOG, START, SMALL)
    assert reopened.initial_state()[0] == HardState(1, 1, 2)


def test_an_entry_replaces_everything_from_its_index_on(
    disk: SimulatedDisk, storage: RaftStorage
) -> None:
    append(storage, *entries(1, 9))
    append(storage, *entries(4, 5, term=2))
    expected = entries(1, 3) + entries(4, 5, term=2)
    assert read_all(storage) == expected
    disk.crash()
    assert read_all(RaftStorage.open(disk, LOG, START, SMALL)) == expected


def test_a_replaced_tail_stays_replaced_when_the_segment_before_it_is_gone(
    disk: SimulatedDisk, storage: RaftStorage
) -> None:
    append(storage, *(entry(i, 1, bytes([1]) * 1000) for i in (1, 2, 3)))
    append(storage, *(entry(i, 1, bytes([2]) * 3000) for i in (4, 5, 6)))
    append(storage, entry(3, 2, bytes([3]) * 3000))
    append(storage, state=HardState(2, 1, 3))
    manifest = Manifest(1, 3, 2, ConfState((1,)))
    storage.publish_compact(storage.compact(manifest))
    assert f"{1:016x}.seg" not in disk.listdir(LOG)
    disk.crash()
    reopened = RaftStorage.open(disk, LOG, manifest, SMALL)
    assert (reopened.first_index(), reopened.last_index(), reopened.term(3)) == (4, 3, 2)


def test_old_entries_are_read_back_from_disk(disk: SimulatedDisk, storage: RaftStorage) -> None:
    written = []
    random = Random(1)
    for index in range(1, 60):
        written.append(entry(index, 1, random.choice((random.randbytes, bytes))(index * 30)))
        append(storage, written[-1])
    assert len(disk.listdir(LOG)) > 3
    assert read_all(storage) == tuple(written)


def test_entries_stop_before_the_size_limit_but_return_one(storage: RaftStorage) -> None:
    written = tuple(entry(i, 1, bytes(300)) for i in range(1, 20))
    append(storage, *written)
    size = 300 + ENTRY_OVERHEAD_BYTES
    for first in (1, 15):  # from disk and from memory
        assert storage.entries(first, 20, 0) == [written[first - 1]]
        assert len(storage.entries(first, 20, 3 * size - 1)) == 2
        assert len(storage.entries(first, 20, 3 * size)) == 3
        assert len(storage.entries(first, 20, NO_LIMIT)) == 20 - first


def test_positions_outside_the_log_are_named(storage: RaftStorage) -> None:
    append(storage, *entries(1, 5), state=HardState(1, 1, 5))
    storage.publish_compact(storage.compact(Manifest(1, 3, 1, ConfState((1, 2)))))
    assert (storage.first_index(), storage.last_index(), storage.term(3)) == (4, 5, 1)
    assert storage.initial_state()[1] == ConfState((1, 2))
    with pytest.raises(Compacted):
        storage.term(2)
    with pytest.raises(Compacted):
        storage.entries(3, 5, NO_LIMIT)
    with pytest.raises(Unavailable):
        storage.entries(4, 7, NO_LIMIT)
    with pytest.raises(Unavailable):
        storage.term(6)


def test_compaction_removes_whole_segments_oldest_first(
    disk: SimulatedDisk, storage: RaftStorage
) -> None:
    for index in range(1, 13):
        append(storage, entry(index, 1, b"y" * 2000), state=HardState(1, 1, index - 1))
    before = disk.listdir(LOG)
    disk.trace.clear()
    manifest = Manifest(1, 8, 1, ConfState((1,)))
    storage.publish_compact(storage.compact(manifest))
    dropped = [line for line in disk.trace if line.startswith("unlink")]
    assert dropped == sorted(dropped)
    assert 0 < len(dropped) < len(before)
    assert [line.split()[0] for line in disk.trace] == ["unlink", "sync_dir"] * len(dropped)
    assert [e.index for e in read_all(storage)] == [9, 10, 11, 12]


def test_an_installed_snapshot_restarts_the_log_and_keeps_the_vote(
    disk: SimulatedDisk, storage: RaftStorage
) -> None:
    append(storage, *entries(1, 9), state=HardState(3, 2, 1))
    manifest = Manifest(2, 100, 3, ConfState((1, 2, 3)))
    storage.publish_install(storage.install(manifest))
    assert (storage.first_index(), storage.last_index(), storage.term(100)) == (101, 100, 3)
    append(storage, *entries(101, 102, term=3))
    disk.crash()
    reopened = RaftStorage.open(disk, LOG, manifest, SMALL)
    assert reopened.initial_state() == (HardState(3, 2, 100), ConfState((1, 2, 3)))
    assert read_all(reopened) == entries(101, 102, term=3)


def test_a_log_that_disagrees_with_the_manifest_is_begun_anew(disk: SimulatedDisk) -> None:
    storage = RaftStorage.open(disk, LOG, START, SMALL)
    append(storage, *entries(1, 9), state=HardState(4, 2, 1))
    disk.crash()
    reopened = RaftStorage.open(disk, LOG, Manifest(2, 5, 3, ConfState((1,))), SMALL)
    assert (reopened.first_index(), reopened.last_index()) == (6, 5)
    assert reopened.initial_state()[0] == HardState(4, 2, 5)


def test_term_vote_and_commit_never_go_back(storage: RaftStorage) -> None:
    append(storage, *entries(1, 9), state=HardState(5, 2, 7))
    storage.publish(storage.store_hard_state(HardState(4, 3, 6)))
    assert storage.initial_state()[0] == HardState(5, 2, 7)
    storage.publish(storage.store_hard_state(HardState(5, 0, 8)))
    assert storage.initial_state()[0] == HardState(5, 2, 8)
    with pytest.raises(InvariantBroken, match="second vote"):
        storage.store_hard_state(HardState(5, 3, 8))


def test_a_stored_commit_index_is_durable(disk: SimulatedDisk, storage: RaftStorage) -> None:
    append(storage, *entries(1, 9), state=HardState(1, 1, 0))
    storage.publish(storage.store_commit(6))
    disk.trace.clear()
    storage.publish(storage.store_commit(6))
    assert disk.trace == []
    disk.crash()
    assert RaftStorage.open(disk, LOG, START, SMALL).initial_state()[0] == HardState(1, 1, 6)


@pytest.mark.parametrize("index", [2, 5, 11])
def test_entries_that_would_break_the_log_are_refused(storage: RaftStorage, index: int) -> None:
    append(storage, *entries(1, 9), state=HardState(1, 1, 5))
    with pytest.raises(InvariantBroken):
        storage.write([AppendBatch((entry(index, 2),))])


def test_a_commit_index_beyond_the_log_is_refused(storage: RaftStorage) -> None:
    with pytest.raises(InvariantBroken):
        storage.write([AppendBatch(entries(1, 2), HardState(1, 1, 3))])


def test_after_a_failed_sync_nothing_is_written_any_more(
    disk: SimulatedDisk, storage: RaftStorage
) -> None:
    disk.fault = lambda operation, path: OSError(5, "I/O") if operation == "fdatasync" else None
    with pytest.raises(DiskFailed):
        append(storage, entry(1))
    disk.fault = None
    with pytest.raises(DiskFailed):
        append(storage, entry(1))
    disk.trace.clear()
    storage.close()
    assert not any(line.startswith(("pwrite", "fdatasync")) for line in disk.trace)


@pytest.mark.parametrize("operation", ["create", "pwrite", "rename", "sync_dir", "unlink"])
def test_every_failing_operation_stops_the_log(disk: SimulatedDisk, operation: str) -> None:
    storage = RaftStorage.open(disk, LOG, START, SMALL)
    disk.fault = lambda found, path: OSError(28, "full") if found == operation else None
    with pytest.raises(DiskFailed):
        for index in range(1, 20):
            append(storage, entry(index, 1, bytes([7]) * 3000), state=HardState(1, 1, index - 1))
        storage.compact(Manifest(1, 15, 1, ConfState((1,))))


def test_a_failing_read_stops_the_reader(disk: SimulatedDisk, storage: RaftStorage) -> None:
    append(storage, *(entry(i, 1, bytes([7]) * 900) for i in range(1, 9)))
    disk.fault = lambda found, path: OSError(5, "I/O") if found == "pread" else None
    with pytest.raises(DiskFailed):
        storage.entries(1, 2, NO_LIMIT)


def test_a_prepared_segment_is_used_and_leftovers_are_removed(disk: SimulatedDisk) -> None:
    storage = RaftStorage.open(disk, LOG, START, SMALL)
    steps = 1
    while storage.prepare():
        steps += 1
    assert steps == SMALL.segment_bytes // SMALL.step_bytes
    assert not storage.prepare() or steps > 1
    append(storage, entry(1, 1, bytes([1]) * 4000))
    sizes = [len(data) for path, data in disk.files().items() if path.endswith(".seg")]
    assert sizes == [SMALL.first_segment_bytes, SMALL.segment_bytes]
    storage.prepare()
    disk.crash()
    RaftStorage.open(disk, LOG, START, SMALL)
    assert not [name for name in disk.listdir(LOG) if name.endswith(".tmp")]


def test_the_tail_is_bounded_by_entries_and_by_bytes(storage: RaftStorage) -> None:
    for index in range(1, 11):
        append(storage, entry(index, 1, bytes(100)))
    assert storage.tail_start(10, 4, 1 << 20) == 6
    assert storage.tail_start(10, 100, 1 << 20) == 0
    assert 7 <= storage.tail_start(10, 100, 350) <= 8
    assert storage.tail_start(10, 100, 0) == 10


def test_the_memory_of_recent_entries_is_bounded() -> None:
    recent = RecentEntries(10_000)
    for index in range(1, 200):
        recent.add([entry(index, 1, bytes(500))])
    held = [index for index in range(1, 200) if recent.get(index)]
    assert held == list(range(199 - len(held) + 1, 200))
    assert 10 <= len(held) <= 20
    recent.add([entry(195, 2, b"")])
    assert recent.get(196) is None
    recent.add([entry(300, 2, b"")])
    assert recent.get(195) is None
    recent.add([entry(301, 2, bytes(20_000))])
    assert recent.get(301) is None


def test_many_entries_cost_little_memory(disk: SimulatedDisk) -> None:
    limits = StorageLimits(segment_bytes=1 << 20, first_segment_bytes=1 << 20, cache_bytes=0)
    storage = RaftStorage.open(disk, LOG, START, limits)
    append(storage, *(entry(i, 1, b"") for i in range(1, 5001)))
    columns = storage._index._terms, storage._index._segments, storage._index._offsets
    assert sum(c.itemsize for c in (*columns, storage._index._lengths)) <= 24
    assert storage.last_index() == 5000

"""The WAL that SQLite takes for a file: every kind of access, and the index beside it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import InvariantBroken
from dqlite_py.vfs.capture import capture
from dqlite_py.vfs.frames import FrameBatch
from dqlite_py.vfs.inject import inject
from dqlite_py.vfs.rollback import rollback
from dqlite_py.vfs.wal import FRAME_HEADER_BYTES, WAL_HEADER_BYTES, VirtualWal
from dqlite_py.vfs.wal_index import FIRST_READ_LOCK, WRITE_LOCK
from tests.kit.replicated import (
    PAGE_SIZES,
    create,
    execute,
    image,
    replicate,
    statement,
)

MAKE = statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
INSERT = statement("INSERT INTO t(b) VALUES(randomblob(9000))")
PAGE = b"p" * 512
STRIDE = 512 + FRAME_HEADER_BYTES


def frame_header(number: int, commit_size: int) -> bytes:
    return struct.pack(">6I", number, commit_size, 0, 0, 0, 0)


def filled(*frames: tuple[int, int]) -> VirtualWal:
    wal = VirtualWal(512)
    for at, (number, commit_size) in enumerate(frames):
        wal.xWrite(frame_header(number, commit_size), WAL_HEADER_BYTES + at * STRIDE)
        wal.xWrite(PAGE, WAL_HEADER_BYTES + at * STRIDE + FRAME_HEADER_BYTES)
    return wal


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = create(tmp_path, "one")
    database.set_committed(execute(database, MAKE, INSERT).position)
    yield database
    database.close()


# --- the file ---------------------------------------------------------------------------------
def test_frames_may_be_overwritten() -> None:
    wal = filled((3, 0), (4, 9))
    wal.xWrite(frame_header(5, 0), WAL_HEADER_BYTES)
    wal.xWrite(b"q" * 512, WAL_HEADER_BYTES + FRAME_HEADER_BYTES)
    assert wal.numbers == [5, 4]
    assert wal.xRead(512, WAL_HEADER_BYTES + FRAME_HEADER_BYTES) == b"q" * 512
    assert wal.xFileSize() == WAL_HEADER_BYTES + 2 * STRIDE


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (frame_header(1, 0), WAL_HEADER_BYTES + 5 * STRIDE),
        (frame_header(1, 0), WAL_HEADER_BYTES + 1),
        (PAGE, WAL_HEADER_BYTES),
        (b"x" * 100, WAL_HEADER_BYTES),
        (struct.pack(">8I", 0x377F0682, 3007000, 4096, 0, 0, 0, 0, 0), 0),
    ],
)
def test_writes_that_sqlite_never_makes_are_refused(data: bytes, offset: int) -> None:
    with pytest.raises(InvariantBroken):
        filled((3, 1)).xWrite(data, offset)


def test_reads_that_sqlite_never_makes_are_refused() -> None:
    with pytest.raises(InvariantBroken):
        filled((3, 1)).xRead(100, WAL_HEADER_BYTES)


def test_truncation_drops_whole_frames() -> None:
    wal = filled((3, 0), (4, 9))
    wal.xTruncate(WAL_HEADER_BYTES + STRIDE)
    assert wal.numbers == [3]
    wal.xTruncate(0)
    assert wal.xFileSize() == 0
    with pytest.raises(InvariantBroken):
        filled((3, 1)).xTruncate(WAL_HEADER_BYTES + 7)


def test_the_frame_limit_refuses_new_frames_only() -> None:
    wal = filled((3, 0), (4, 9))
    wal.frame_limit = 2
    wal.xWrite(frame_header(5, 0), WAL_HEADER_BYTES)
    assert not wal.limit_hit
    with pytest.raises(apsw.FullError):
        wal.xWrite(frame_header(5, 0), WAL_HEADER_BYTES + 2 * STRIDE)
    assert wal.limit_hit


# --- capture ----------------------------------------------------------------------------------
def test_a_capture_is_exactly_one_commit() -> None:
    assert capture(filled((1, 0), (2, 0), (1, 7)), 0, 3).page_count == 7
    assert capture(filled((1, 4), (2, 0), (3, 7)), 1, 3).pages == ((2, PAGE), (3, PAGE))
    for frames, end in (([(1, 0), (2, 0)], 2), ([(1, 4), (2, 7)], 2), ([(1, 4)], 2)):
        with pytest.raises(InvariantBroken):
            capture(filled(*frames), 0, end)


# --- recovery: expected never, but it must be right -------------------------------------------
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_sqlite_can_rebuild_the_index_from_the_frames(tmp_path: Path, page_size: int) -> None:
    leader = create(tmp_path, "leader", page_size)
    follower = create(tmp_path, "follower", page_size)
    replicate(leader, [follower], MAKE, INSERT)
    replicate(leader, [follower], INSERT, statement("UPDATE t SET b = randomblob(2000)"))
    before = image(leader)
    for database in (leader, follower):
        words = database._index._words
        words[0:24] = memoryview(bytes(96)).cast("I")
        assert image(database) == before
        assert database._wal.recoveries == 1
        assert database._index.max_frame == database.position().max_frame
        assert database.integrity_check() == []
        database.close()


# --- the wal-index ----------------------------------------------------------------------------
def test_our_header_is_the_one_that_sqlite_would_write(database: Database) -> None:
    """Only the change counter and the frame checksums, which nobody reads, may differ."""
    index = database._index
    theirs = index._words[0:12].tolist()
    index.publish(index.max_frame, index.page_count)
    ours = index._words[0:12].tolist()
    assert index._words[12:24].tolist() == ours
    assert ours[2] == theirs[2] + 1
    same = [0, 1, 3, 4, 5, 8, 9]
    assert [ours[word] for word in same] == [theirs[word] for word in same]
    assert header_sum(theirs) == theirs[10:12]
    assert header_sum(ours) == ours[10:12]


def header_sum(words: list[int]) -> list[int]:
    s0 = s1 = 0
    for at in range(0, 10, 2):
        s0 = (s0 + words[at] + s1) & 0xFFFFFFFF
        s1 = (s1 + words[at + 1] + s0) & 0xFFFFFFFF
    return [s0, s1]


def test_our_index_entries_are_the_ones_that_sqlite_would_make(tmp_path: Path) -> None:
    leader, follower = create(tmp_path, "leader", 512), create(tmp_path, "follower", 512)
    replicate(leader, [follower], MAKE)
    for _ in range(500):
        replicate(leader, [follower], INSERT)
    frames = leader.position().max_frame
    assert frames == follower.position().max_frame > 8158
    for number in range(3):
        leader_pages, leader_slots = leader._index._region(number)
        pages, slots = follower._index._region(number)
        assert pages.tolist() == leader_pages.tolist()
        assert slots.tolist() == leader_slots.tolist()
    leader.close()
    follower.close()


def test_the_index_lives_in_the_heap(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    execute(database, MAKE, INSERT)
    assert [path.name for path in tmp_path.iterdir()] == ["one.sqlite"]
    database.close()


def test_a_local_write_transaction_excludes_injection_and_rollback(database: Database) -> None:
    index, wal = database._index, database._wal
    batch = FrameBatch(4096, 2, ((2, bytes(4096)),))
    found: list[str] = []

    def inside(session: apsw.Connection) -> None:
        session.execute("INSERT INTO t(b) VALUES(1)").fetchall()
        for attempt in (lambda: inject(wal, index, batch), lambda: rollback(wal, index, 0, 1)):
            try:
                attempt()
            except InvariantBroken as error:
                found.append(str(error))

    execute(database, inside)
    assert len(found) == 2
    assert index.try_lock(WRITE_LOCK)
    index.unlock(WRITE_LOCK)


def test_locks_show_readers(database: Database) -> None:
    index = database._index

    def inside(session: apsw.Connection) -> bool:
        session.execute("SELECT * FROM t").fetchall()
        taken = index.try_lock(FIRST_READ_LOCK, 4)
        if taken:
            index.unlock(FIRST_READ_LOCK, 4)
        return taken

    assert database.read(inside) is False
    assert index.try_lock(FIRST_READ_LOCK, 4)
    index.unlock(FIRST_READ_LOCK, 4)


def test_a_second_initialisation_is_refused(database: Database) -> None:
    with pytest.raises(InvariantBroken):
        database._index.initialise()


@pytest.mark.parametrize(
    "batch",
    [
        FrameBatch(512, 1, ((1, bytes(512)),)),
        FrameBatch(4096, 1, ()),
        FrameBatch(4096, 0, ((1, bytes(4096)),)),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(database: Database, batch: FrameBatch) -> None:
    position = database.position()
    with pytest.raises(InvariantBroken):
        database.inject(batch)
    assert database.position() == position

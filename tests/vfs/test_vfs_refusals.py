"""What SQLite never asks of the virtual files, and contradictions that stop the member."""

from __future__ import annotations

import struct
from pathlib import Path

import apsw
import pytest

from dqlite_py.db.database import Database, open_bare
from dqlite_py.errors import InvariantBroken
from dqlite_py.vfs import frames
from dqlite_py.vfs.capture_vfs import NodeVFS, open_real_file
from dqlite_py.vfs.frames import FrameBatch
from dqlite_py.vfs.rollback import rollback
from dqlite_py.vfs.wal import FRAME_HEADER_BYTES, WAL_HEADER_BYTES, CheckpointWal, VirtualWal
from dqlite_py.vfs.wal_index import FIRST_READ_LOCK, WRITE_LOCK, WalIndex
from tests.kit.replicated import create, execute, statement

PAGE_SIZE = 512


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return create(tmp_path, PAGE_SIZE)


def test_batch_that_unpacks_to_less_than_it_claims_is_refused() -> None:
    whole = frames.encode(FrameBatch(PAGE_SIZE, 2, ((1, b"a" * PAGE_SIZE), (2, b"b" * PAGE_SIZE))))
    one = frames.encode(FrameBatch(PAGE_SIZE, 2, ((1, b"a" * PAGE_SIZE),)))
    header = struct.calcsize("<BxHIII")
    with pytest.raises(InvariantBroken, match="holds"):
        frames.decode(whole[:header] + one[header:])


def test_rollback_goes_back_only(database: Database) -> None:
    wal, index = database._wal, database._index
    with pytest.raises(InvariantBroken, match="rollback from 0 up to 1"):
        rollback(wal, index, 1, 1)


def test_rollback_under_a_reader_stops_the_member(database: Database) -> None:
    execute(database, statement("CREATE TABLE t(a)"))
    index = database._index
    connection = open_bare(database._vfs, database.path)
    reader = WalIndex(connection, PAGE_SIZE)
    assert reader.try_lock(FIRST_READ_LOCK)
    with pytest.raises(InvariantBroken, match="under an open reader"):
        rollback(database._wal, index, 0, 1)
    reader.unlock(FIRST_READ_LOCK)
    assert index.try_lock(WRITE_LOCK)  # the failed attempt has left nothing locked
    index.unlock(WRITE_LOCK)
    rollback(database._wal, index, 0, 1)
    assert index.max_frame == 0
    reader.unmap()
    connection.close()


def test_frames_behind_the_end_read_as_nothing() -> None:
    wal = VirtualWal(PAGE_SIZE)
    assert wal.xRead(FRAME_HEADER_BYTES + PAGE_SIZE, WAL_HEADER_BYTES) == b""
    assert wal.xRead(PAGE_SIZE, WAL_HEADER_BYTES + FRAME_HEADER_BYTES) == b""


def test_recovery_of_an_empty_wal_finds_nothing_and_is_not_counted() -> None:
    wal = VirtualWal(PAGE_SIZE)
    assert wal.xRead(WAL_HEADER_BYTES, 0) == b""
    assert wal.recoveries == 0


def test_a_header_without_a_limit_leaves_none() -> None:
    wal = VirtualWal(PAGE_SIZE)
    before = wal.frame_limit
    generation = wal.generation
    wal.xWrite(bytes(8) + PAGE_SIZE.to_bytes(4, "big") + bytes(20), 0)
    assert (wal.frame_limit, wal.generation) == (before, generation + 1)


def test_checkpoint_is_told_of_its_limit_once() -> None:
    told = []
    wal = CheckpointWal(VirtualWal(PAGE_SIZE))
    wal.on_sync = lambda: told.append("fixed")
    wal.xSync(0)
    wal.xSync(0)
    assert told == ["fixed"]


def test_wal_answers_as_a_file_that_nobody_locks() -> None:
    wal = VirtualWal(PAGE_SIZE)
    assert wal.xCheckReservedLock() is False
    assert wal.xFileControl(0, 0) is False
    assert wal.xSectorSize() == 512
    assert wal.xDeviceCharacteristics() == apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE


def test_other_files_are_sqlites_own_and_a_wal_is_never_deleted(tmp_path: Path) -> None:
    vfs = NodeVFS(VirtualWal(PAGE_SIZE), open_real_file)
    journal, wal = tmp_path / "a-journal", tmp_path / "a-wal"
    for path in (journal, wal):
        path.write_bytes(b"x")
        vfs.xDelete(str(path), False)
    assert not journal.exists()
    assert wal.exists()
    flags = apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_READWRITE
    opened = vfs.xOpen(str(journal), [flags, 0])
    opened.xClose()
    assert journal.exists()
    vfs.unregister()

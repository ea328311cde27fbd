"""The log and the seam on the machine's own file system."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqlite_py.raft import ConfState, Entry, EntryKind, HardState
from dqlite_py.seams import replace_file
from dqlite_py.storage import AppendBatch, Manifest, RaftStorage
from dqlite_py.system.disk import OsDisk
from tests.kit.log_model import SMALL, START, read_all


def test_a_log_survives_restarts_rolls_and_compaction(tmp_path: Path) -> None:
    path = str(tmp_path / "raft")
    manifest = START
    written: list[Entry] = []
    for _ in range(4):
        storage = RaftStorage.open(OsDisk(), path, manifest, SMALL)
        assert read_all(storage) == tuple(written[manifest.index :])
        while storage.prepare():
            pass
        for _ in range(20):
            index = len(written) + 1
            entry = Entry(1, index, EntryKind.NORMAL, b"%d" % index * 300)
            written.append(entry)
            result = storage.write([AppendBatch((entry,), HardState(1, 1, index - 1))])
            storage.publish(result)
        manifest = Manifest(1, len(written) - 5, 1, ConfState((1,)))
        storage.publish_compact(storage.compact(manifest))
        assert read_all(storage) == tuple(written[-5:])
        storage.close()
    assert len(list((tmp_path / "raft").iterdir())) < 6


def test_a_process_killed_without_close_loses_nothing_written(tmp_path: Path) -> None:
    path = str(tmp_path / "raft")
    storage = RaftStorage.open(OsDisk(), path, START, SMALL)
    entry = Entry(2, 1, EntryKind.NORMAL, b"kept")
    storage.write([AppendBatch((entry,), HardState(2, 3, 0))])
    reopened = RaftStorage.open(OsDisk(), path, START, SMALL)
    assert read_all(reopened) == (entry,)
    assert reopened.initial_state()[0] == HardState(2, 3, 0)
    reopened.close()
    storage.close()


def test_files_behave_as_the_seam_promises(tmp_path: Path) -> None:
    disk = OsDisk()
    directory = str(tmp_path / "a" / "b")
    disk.mkdir(directory)
    disk.mkdir(directory)
    path = f"{directory}/file"
    file = disk.open(path, create=True)
    with pytest.raises(FileExistsError):
        disk.open(path, create=True)
    file.pwrite(b"hello", 3)
    file.fdatasync()
    assert file.pread(100, 0) == b"\0\0\0hello"
    file.truncate(4)
    assert file.size() == 4
    file.close()
    file.close()
    replace_file(disk, path, b"new")
    assert disk.read(path) == b"new"
    assert disk.listdir(directory) == ["file"]
    disk.rmtree(directory)
    disk.rmtree(directory)
    assert not disk.exists(directory)
    with pytest.raises(FileNotFoundError):
        disk.open(path)

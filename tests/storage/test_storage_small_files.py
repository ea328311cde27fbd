"""Each small file of a data directory: damaged, absent, newer. Refused by name, and unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from zlib import crc32

import pytest

from dqlite_py.errors import CorruptFile, Fatal, NewerFormat
from dqlite_py.raft import ConfState
from dqlite_py.storage import DataDir, Identity, Manifest, RaftStorage, token_file
from dqlite_py.storage import base_index as base
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import _check
from tests.kit.disk import SimulatedDisk

START = Manifest(3, 70, 4, ConfState((1, 2), (1,), (5,)), b"catalogue")


def member() -> SimulatedDisk:
    """Return a disk with everything that belongs to a member."""
    disk = SimulatedDisk(Random(0))
    directory = DataDir.open(disk, "/d")
    directory.store_token("open-sesame")
    manifests.store(disk, "/d", START)
    disk.mkdir(directory.generation_path(3))
    base.store(disk, directory.base_path(3, "etcd"), base.BaseIndex(70, 66))
    RaftStorage.open(disk, directory.raft_path, START).close()
    directory.store_identity(Identity(0x1234, 0xABCDEF, "näme"))
    directory.close()
    return disk


READERS: dict[str, Callable[[SimulatedDisk], object]] = {
    "/d/identity.json": lambda disk: DataDir.open(disk, "/d").identity,
    "/d/token": lambda disk: DataDir.open(disk, "/d").load_token(),
    "/d/manifest": lambda disk: manifests.load(disk, "/d"),
    "/d/db/3/etcd.base": lambda disk: base.load(disk, "/d/db/3/etcd.base"),
    f"/d/raft/{1:016x}.seg": lambda disk: RaftStorage.open(disk, "/d/raft", START, create=False),
}
SMALL = [path for path in READERS if not path.endswith(".seg")]


def refused(disk: SimulatedDisk, path: str, kind: type[Fatal]) -> str:
    before = disk.files()
    with pytest.raises(kind) as caught:
        READERS[path](disk)
    assert disk.files() == before
    text = str(caught.value)
    assert path in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("path", SMALL)
def test_every_bit_counts(path: str) -> None:
    disk = member()
    for offset in range(len(disk.files()[path])):
        for bit in range(8):
            damaged = disk.copy(Random(0))
            damaged.flip(path, offset, 1 << bit)
            refused(damaged, path, CorruptFile)


@pytest.mark.parametrize("path", SMALL)
def test_every_length_counts(path: str) -> None:
    disk = member()
    length = len(disk.files()[path])
    for shorter in range(length):
        damaged = disk.copy(Random(0))
        damaged.cut_file(path, shorter)
        refused(damaged, path, CorruptFile)
    longer = disk.copy(Random(0))
    longer.open(path).pwrite(b"\n", length)
    refused(longer, path, CorruptFile)


@pytest.mark.parametrize("path", SMALL)
def test_two_files_of_different_kinds_are_not_mixed_up(path: str) -> None:
    for other in SMALL:
        if other != path:
            disk = member()
            content = disk.files()[other]
            disk.cut_file(path, 0)
            disk.open(path).pwrite(content, 0)
            refused(disk, path, CorruptFile)


def newer_sealed(data: bytes) -> bytes:
    head = data[:4] + (2).to_bytes(4, "little") + data[8:12]
    return head + crc32(data[16:], crc32(head)).to_bytes(4, "little") + data[16:]


def newer_segment(data: bytes) -> bytes:
    head = data[:8] + (2).to_bytes(4, "little") + data[12:56]
    return head + crc32(head).to_bytes(4, "little") + data[60:]


def newer_identity(data: bytes) -> bytes:
    document = json.loads(data)
    document |= {"format": 2, "something": "new"}
    document["check"] = _check(document)
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


NEWER: dict[str, Callable[[bytes], bytes]] = {
    "/d/identity.json": newer_identity,
    "/d/token": lambda data: token_file.encode(data.decode().splitlines()[0], version=2),
    "/d/manifest": newer_sealed,
    "/d/db/3/etcd.base": newer_sealed,
    f"/d/raft/{1:016x}.seg": newer_segment,
}


@pytest.mark.parametrize("path", READERS)
def test_a_file_of_a_newer_version_is_refused_unchanged(path: str) -> None:
    disk = member()
    newer = NEWER[path](disk.files()[path])
    disk.cut_file(path, 0)
    disk.open(path).pwrite(newer, 0)
    assert "found=2, supported=1" in refused(disk, path, NewerFormat)


def test_databases_without_an_identity_are_never_taken_for_a_new_directory() -> None:
    disk = member()
    disk.unlink("/d/identity.json")
    assert "missing" in refused(disk, "/d/identity.json", CorruptFile)
    DataDir.open(member(), "/d").close()


def test_a_set_up_that_was_cut_short_may_begin_again() -> None:
    disk = member()
    disk.unlink("/d/identity.json")
    disk.unlink("/d/db/3/etcd.base")  # set-up makes the directory of the first generation
    assert DataDir.open(disk, "/d").identity is None

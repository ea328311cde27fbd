"""Who may use a data directory, and what its small files say after a crash."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from random import Random

import pytest

from dqlite_py.errors import DataDirInUse, DiskFailed, NewerFormat, StartRefused
from dqlite_py.raft import ConfState
from dqlite_py.storage import DataDir, Identity, Manifest
from dqlite_py.storage import base_index as base
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import _check
from dqlite_py.storage.sealed import load_sealed, store_sealed
from dqlite_py.system.disk import OsDisk
from tests.kit.disk import PowerCut, SimulatedDisk

IDENTITY = Identity(0xFFFF_0000_1234_5678, 0x8E9E05C52164694D, "alpha")


def test_a_new_directory_belongs_to_nobody_until_its_identity_is_stored() -> None:
    disk = SimulatedDisk(Random(0))
    directory = DataDir.open(disk, "/d")
    assert directory.identity is None
    directory.store_identity(IDENTITY)
    directory.close()
    assert DataDir.open(disk, "/d").identity == IDENTITY


def test_another_cluster_is_refused_and_nothing_changes() -> None:
    disk = SimulatedDisk(Random(0))
    directory = DataDir.open(disk, "/d", cluster_id=IDENTITY.cluster_id)
    directory.store_identity(IDENTITY)
    directory.close()
    before = disk.files()
    with pytest.raises(StartRefused, match="belongs to cluster ffff000012345678, not to 7"):
        DataDir.open(disk, "/d", cluster_id=7)
    assert disk.files() == before
    DataDir.open(disk, "/d", cluster_id=IDENTITY.cluster_id).close()


def test_a_newer_format_is_refused() -> None:
    import json

    disk = SimulatedDisk(Random(0))
    disk.mkdir("/d")
    document = {"format": 2, "cluster_id": "1", "member_id": "2", "name": "x"}
    document["check"] = _check(document)
    text = json.dumps(document, indent=2, sort_keys=True) + "\n"
    disk.open("/d/identity.json", create=True).pwrite(text.encode(), 0)
    with pytest.raises(NewerFormat):
        DataDir.open(disk, "/d")


def test_a_directory_in_use_is_refused_and_free_again_afterwards(tmp_path: Path) -> None:
    path = str(tmp_path / "data")
    first = DataDir.open(OsDisk(), path)
    with pytest.raises(DataDirInUse, match="in use by another running server"):
        DataDir.open(OsDisk(), path)
    first.close()
    DataDir.open(OsDisk(), path).close()


def test_only_the_owner_can_read_the_directory_and_the_token(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    directory = DataDir.open(OsDisk(), str(path))
    directory.store_token("K10secret")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path / "token").st_mode) == 0o600
    assert directory.load_token() == "K10secret"
    directory.close()


def test_the_token_is_optional() -> None:
    assert DataDir.open(SimulatedDisk(Random(0)), "/d").load_token() is None


def test_paths_name_generation_and_database() -> None:
    directory = DataDir.open(SimulatedDisk(Random(0)), "/d")
    assert directory.raft_path == "/d/raft"
    assert directory.database_path(3, "etcd") == "/d/db/3/etcd.sqlite"
    assert directory.base_path(3, "etcd") == "/d/db/3/etcd.base"


def test_disk_errors_are_fatal() -> None:
    disk = SimulatedDisk(Random(0))
    disk.mkdir("/d")
    disk.fault = lambda operation, path: OSError(5, "I/O")
    with pytest.raises(DiskFailed):
        DataDir.open(disk, "/d")
    with pytest.raises(DiskFailed):
        manifests.load(disk, "/d")
    with pytest.raises(DiskFailed):
        base.store(disk, "/d/x.base", base.BaseIndex(1, 1))


@pytest.mark.parametrize("seed", range(5))
def test_a_power_cut_while_replacing_the_manifest_leaves_the_old_or_the_new(seed: int) -> None:
    old = Manifest(1, 10, 2, ConfState((1, 2, 3)), b"old" * 300)
    new = Manifest(2, 99, 5, ConfState((1,), (1, 2), (4,), (2,), True), b"new" * 200)
    seen = set()
    for cut in range(8):
        disk = SimulatedDisk(Random(100 * seed + cut))
        disk.mkdir("/d")
        manifests.store(disk, "/d", old)
        disk.cut_power_at = disk.changes + cut
        try:
            manifests.store(disk, "/d", new)
            acknowledged = True
        except PowerCut:
            acknowledged = False
        disk.crash()
        found = manifests.load(disk, "/d")
        assert found == new or (found == old and not acknowledged)
        seen.add(found == new)
        manifests.store(disk, "/d", old)  # leftovers do not hinder the next attempt
    assert seen == {False, True}


def test_an_absent_file_is_none() -> None:
    disk = SimulatedDisk(Random(0))
    disk.mkdir("/d")
    assert manifests.load(disk, "/d") is None
    assert base.load(disk, "/d/etcd.base") is None


def test_a_sealed_file_of_the_very_next_version_is_refused() -> None:
    disk = SimulatedDisk(Random(0))
    disk.mkdir("/d")
    store_sealed(disk, "/d/file", b"KIND", 2, b"body")
    assert load_sealed(disk, "/d/file", b"KIND", 2) == b"body"
    with pytest.raises(NewerFormat):
        load_sealed(disk, "/d/file", b"KIND", 1)

"""Damaged files and failing disks: who refuses, and in which words (rule 12)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dqlite_py.errors import CorruptFile, DiskFailed, DqliteError, StartRefused
from tests.kit.sim_cluster import SimCluster, SimReplica
from tests.kit.sim_scenes import (
    assert_identical,
    get,
    leader_of,
    others_than,
    outcome_of,
    play,
    put,
    put_many,
    settle_follower,
)


def base_path(member: SimReplica) -> str:
    return f"{member.path}/db/{member.parts.databases.generation}/etcd.base"


def file_path(member: SimReplica) -> str:
    return f"{member.path}/db/{member.parts.databases.generation}/etcd.sqlite"


def flip_log(member: SimReplica) -> str:
    path = next(path for path in member.disk.files() if path.startswith(f"{member.path}/raft/"))
    member.disk.flip(path, 300)
    return path


def shorten_log(member: SimReplica) -> str:
    path = next(path for path in member.disk.files() if path.startswith(f"{member.path}/raft/"))
    member.disk.cut_file(path, 4096)
    return path


def flip_manifest(member: SimReplica) -> str:
    member.disk.flip(f"{member.path}/manifest", 9)
    return f"{member.path}/manifest"


def flip_base(member: SimReplica) -> str:
    member.disk.flip(base_path(member), 9)
    return base_path(member)


def lose_base(member: SimReplica) -> str:
    member.disk.unlink(base_path(member))
    return file_path(member)


def lose_database(member: SimReplica) -> str:
    member.disk.unlink(file_path(member))
    return file_path(member)


def overwrite_database(member: SimReplica) -> str:
    member.disk.flip(file_path(member), 17, 0xFF)  # the page size
    return file_path(member)


def lose_manifest(member: SimReplica) -> str:
    member.disk.unlink(f"{member.path}/manifest")
    return member.path


def lose_log(member: SimReplica) -> str:
    member.disk.rmtree(f"{member.path}/raft")
    return f"{member.path}/raft"


@pytest.mark.parametrize(
    "damage",
    [
        flip_log,
        shorten_log,
        lose_log,
        flip_manifest,
        lose_manifest,
        flip_base,
        lose_base,
        lose_database,
        overwrite_database,
    ],
)
def test_a_member_refuses_damaged_files_with_one_line_that_names_them(
    tmp_path: Path, damage: Callable[[SimReplica], str]
) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        member = others_than(cluster, leader)[0]
        await put_many(leader, "k", 60, size_bytes=2000)
        await settle_follower(cluster, member)
        await member.replica.checkpoint()
        assert member.parts.changes.trims
        await member.crash()
        path = damage(member)
        before = member.disk.files()
        with pytest.raises((CorruptFile, StartRefused)) as refused:
            await member.start()
        assert path in str(refused.value)
        assert "\n" not in str(refused.value)
        assert {name: member.disk.files()[name] for name in before if "LOCK" not in name} == before

    play(tmp_path, scene)


def test_a_failing_disk_stops_the_member_and_the_others_go_on(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"before")

        def fault(operation: str, path: str) -> OSError | None:
            return OSError("no more") if operation == "fdatasync" and "/raft/" in path else None

        old.disk.fault = fault
        failed = await outcome_of(put(old, b"k"))
        assert isinstance(failed, DqliteError)
        await old.stopped.wait()
        assert isinstance(old.stopped_by, DiskFailed)
        old.disk.fault = None
        await old.crash()
        new = await cluster.wait_for(lambda: cluster.leader, "another leader")
        await put(new, b"k", b"again")
        await assert_identical(cluster)
        for member in cluster.members:
            assert await get(member, b"k", serializable=True) == b"again"

    play(tmp_path, scene)

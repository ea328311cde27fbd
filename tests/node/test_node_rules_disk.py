"""What is durable before what: restarts, checkpoints, trimming (rules 2, 3, 5)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import CorruptFile, DqliteError
from dqlite_py.node import catalog as catalogs
from dqlite_py.node.hosted import HostedDatabase
from dqlite_py.storage import base_index, manifest
from dqlite_py.storage.base_index import BaseIndex
from dqlite_py.storage.raft_storage import RaftStorage
from tests.kit.disk import PowerCut, SimulatedDisk
from tests.kit.sim_cluster import SMALL_STORAGE, SimCluster, SimReplica
from tests.kit.sim_scenes import (
    LateWorker,
    NothingSurvives,
    assert_identical,
    get,
    isolate,
    leader_of,
    others_than,
    outcome_of,
    play,
    put,
    put_many,
    rows_seen_by_sqlite,
    settle_follower,
)


def durable_commit(member: SimReplica) -> int:
    """Return the commit index on the disk of a member that is down."""
    found = manifest.load(member.disk, member.path)
    assert found is not None
    raft = f"{member.path}/raft"
    storage = RaftStorage.open(member.disk, raft, found, SMALL_STORAGE, create=False)
    commit = storage.initial_state()[0].commit
    storage.close()
    return commit


def base_path(member: SimReplica) -> str:
    return f"{member.path}/db/{member.parts.databases.generation}/etcd.base"


def file_path(member: SimReplica) -> str:
    return f"{member.path}/db/{member.parts.databases.generation}/etcd.sqlite"


def test_replay_ends_at_the_durable_commit_index_and_sql_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_at: list[int] = []

    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put_many(old, "k", 10)
        isolate(cluster, old)
        writing = asyncio.create_task(outcome_of(put(old, b"uncommitted")))
        await cluster.wait_for(
            lambda: old.parts.storage.last_index() > old.replica.applied_index, "it is in the log"
        )
        await old.crash()
        writing.cancel()
        commit = durable_commit(old)

        opening = HostedDatabase.open_sql

        async def open_sql(hosted: HostedDatabase) -> None:
            opened_at.append(old.parts.applied.index)
            await opening(hosted)

        monkeypatch.setattr(HostedDatabase, "open_sql", open_sql)
        await old.start()
        await old.replica.ready()
        assert opened_at == [commit]
        await asyncio.sleep(0.2)
        assert old.replica.applied_index == commit < old.parts.storage.last_index()
        assert commit > old.parts.databases.hosted[0].base
        assert rows_seen_by_sqlite(old, b"uncommitted") == 0
        assert await get(old, b"k8", serializable=True) is not None
        await cluster.wait_for(
            lambda: cluster.leader if cluster.leader is not old else None, "another leader"
        )
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_commit_index_covering_its_frames_is_durable_before_a_checkpoint_writes(
    tmp_path: Path,
) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        member = others_than(cluster, leader)[0]
        await put_many(leader, "k", 5)
        await settle_follower(cluster, member)
        covered = member.parts.databases.hosted[0].last_frames
        member.disk._random = NothingSurvives()

        def fault(operation: str, path: str) -> OSError | None:
            if operation == "pwrite" and path.endswith(".sqlite"):
                member.disk.cut_power_at = member.disk.changes
            return None

        member.disk.fault = fault
        await outcome_of(asyncio.wait_for(member.replica.checkpoint(), 1.0))
        assert member.disk.cut_power_at is not None
        member.disk.fault = None
        await member.crash()
        assert durable_commit(member) >= covered
        await member.start()
        await assert_identical(cluster)

    play(tmp_path, scene)


@pytest.mark.parametrize("entries", [3, 60])  # the database's creation is in the log, or trimmed
def test_a_commit_index_below_a_base_refuses_to_start(tmp_path: Path, entries: int) -> None:
    async def scene(cluster: SimCluster) -> None:
        member = others_than(cluster, leader_of(cluster))[0]
        await put_many(leader_of(cluster), "k", entries)
        await settle_follower(cluster, member)
        await member.replica.checkpoint()
        await member.crash()
        beyond = BaseIndex(index=1000, last_frames=1000)
        base_index.store(member.disk, base_path(member), beyond)
        refused = await outcome_of(member.start())
        if refused is None:
            await member.stopped.wait()
            refused = member.stopped_by
        assert isinstance(refused, CorruptFile)
        assert "below the base 1000 of database etcd" in str(refused)
        assert "\n" not in str(refused)

    play(tmp_path, scene)


def test_file_base_and_manifest_are_durable_in_this_order_before_a_segment_goes(
    tmp_path: Path,
) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        trace = leader.disk.trace
        removal = f"unlink {leader.path}/raft/"
        number = 0
        while not any(line.startswith(removal) for line in trace):
            number += 1
            await put(leader, f"k{number}".encode(), bytes(3000))
        while not trace[-1].startswith(removal):
            trace.pop()
        base, start = base_path(leader), f"{leader.path}/manifest"
        steps = [
            f"pwrite {file_path(leader)}",
            f"fdatasync {file_path(leader)}",
            f"create {base}.tmp",
            f"fdatasync {base}.tmp",
            f"rename {base}",
            f"sync_dir {base.rpartition('/')[0]}",
            f"create {start}.tmp",
            f"fdatasync {start}.tmp",
            f"rename {start}",
            f"sync_dir {leader.path}",
        ]
        latest = [len(trace) - 1 - trace[::-1].index(step) for step in steps]
        assert latest == sorted(latest)

    play(tmp_path, scene)


@pytest.mark.parametrize("leads", [True, False])
def test_the_base_is_that_of_the_checkpoints_beginning(tmp_path: Path, leads: bool) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        member = leader if leads else others_than(cluster, leader)[0]
        await put_many(leader, "k", 5)
        await settle_follower(cluster, member)
        hosted = member.parts.databases.hosted[0]
        sampled = member.replica.applied_index
        hosted.checkpointer = LateWorker(hosted.checkpointer, 0.5)
        checkpointing = asyncio.create_task(member.replica.checkpoint())
        await asyncio.sleep(0.1)
        await put_many(leader, "meanwhile", 5)  # admitted: the checkpoint's limit is fixed
        await checkpointing
        assert hosted.base == sampled
        await settle_follower(cluster, member)
        assert member.replica.applied_index >= sampled + 5
        await member.crash()
        found = base_index.load(member.disk, base_path(member))
        assert found is not None
        assert found.index == sampled
        await member.start()
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_an_idle_database_does_not_pin_the_log(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put(leader, b"k")
        for number in range(30):
            await leader.replica.update_member(leader.number, name=f"name{number}")
        await leader.replica.checkpoint()
        applied = leader.replica.applied_index
        assert leader.parts.databases.hosted[0].base == applied
        assert leader.parts.storage.first_index() == applied - cluster.limits.catch_up_entries + 1

    play(tmp_path, scene)


def test_the_log_starts_with_the_members_and_databases_of_that_index(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        member = others_than(cluster, leader)[0]
        await leader.replica.update_member(2, name="early")
        await put_many(leader, "k", 30)
        await leader.replica.update_member(3, name="late")
        await settle_follower(cluster, member)
        await member.replica.checkpoint()
        await member.crash()
        stored = manifest.load(member.disk, member.path)
        assert stored is not None
        catalog = catalogs.decode(stored.payload)
        assert [m.name for m in catalog.members] == ["n1", "early", "n3"]
        isolate(cluster, member)
        await member.start()
        # Nothing but its own files tells it of members and databases now.
        await member.replica.ready()
        assert [m.name for m in member.replica.members()][:2] == ["n1", "early"]
        assert [record.name for record in member.parts.history.latest.catalog.databases] == ["etcd"]
        assert await get(member, b"k20", serializable=True) is not None
        await assert_identical(cluster)
        assert [m.name for m in member.replica.members()] == ["n1", "early", "late"]

    play(tmp_path, scene)


def test_a_power_cut_at_any_operation_of_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        member = others_than(cluster, leader)[0]
        await put_many(leader, "k", 40, size_bytes=2500)
        await settle_follower(cluster, member)
        await member.crash()
        before = member.disk
        await checkpoint_with_cut(cluster, member, before, None)
        total = member.disk.changes
        assert total > 40
        for number in range(0, total, 5):
            await member.crash()
            await checkpoint_with_cut(cluster, member, before, number)
            await member.crash()
            await member.start()
            await settle_follower(cluster, member)
            for key in (b"k0", b"k39"):
                assert await get(member, key, serializable=True) is not None
            (check,) = await member.replica.check_databases()
            assert check.problems == [], number
        await assert_identical(cluster)

    play(tmp_path, scene)


async def checkpoint_with_cut(
    cluster: SimCluster, member: SimReplica, disk: SimulatedDisk, number: int | None
) -> None:
    """Start ``member`` on a copy of ``disk``, and checkpoint with a power cut at one operation."""
    member.disk = disk.copy(random.Random(f"{cluster.seed}/{number}"))
    member.disk.cut_power_at = number
    started = await outcome_of(member.start())
    if started is None:
        await outcome_of(asyncio.wait_for(member.replica.ready(), 1.0))
        await outcome_of(asyncio.wait_for(member.replica.checkpoint(), 1.0))
    else:
        assert isinstance(started, PowerCut | DqliteError), started


def test_a_new_database_comes_from_its_entry_with_one_content_everywhere() -> None:
    assert Database.create_genesis(1024) == Database.create_genesis(1024)

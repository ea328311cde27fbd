"""A snapshot is one index of everything, and installing it is one step (design rule 6)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

from dqlite_py.errors import DqliteError, LeaderChanged
from dqlite_py.node.snapshot_sink import Incoming
from tests.kit.disk import PowerCut
from tests.kit.sim_cluster import SimCluster, SimReplica
from tests.kit.sim_join import join
from tests.kit.sim_scenes import (
    assert_identical,
    get,
    isolate,
    leader_of,
    others_than,
    outcome_of,
    play,
    put,
    put_many,
    slow_down,
)


async def leave_behind(cluster: SimCluster) -> SimReplica:
    """Crash a follower and let the others trim their logs beyond it."""
    leader = leader_of(cluster)
    behind = others_than(cluster, leader)[0]
    await put(leader, b"generation", b"old")
    await cluster.wait_for(
        lambda: behind.replica.applied_index == leader.replica.applied_index, "it has that"
    )
    await behind.replica.checkpoint()
    await behind.crash()
    await put_many(leader, "k", 60)
    await put(leader, b"generation", b"new")
    for member in cluster.members:
        if member.up:
            await member.replica.checkpoint()
            assert member.parts.storage.first_index() > behind.replica.applied_index + 1
    return behind


async def caught_up(cluster: SimCluster, member: SimReplica) -> None:
    await cluster.wait_for(
        lambda: (
            cluster.leader is not None
            and member.parts.primary is not None
            and member.replica.applied_index == cluster.leader.replica.applied_index
        ),
        f"{member.name} caught up",
    )


def test_a_member_left_behind_gets_a_snapshot_and_then_the_log(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        revision = leader.kv.revision
        await behind.start()
        await caught_up(cluster, behind)
        assert leader.parts.snapshots.sent == behind.parts.sink.received == 1
        assert behind.kv.revision == revision  # derived memory comes from the new tables
        assert behind.parts.databases.generation == 2
        assert behind.disk.exists(f"{behind.path}/db/2")
        assert not behind.disk.exists(f"{behind.path}/db/1")
        await put_many(leader, "later", 3)
        await caught_up(cluster, behind)
        assert leader.parts.snapshots.sent == 1
        assert await get(behind, b"later2", serializable=True) is not None
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_joiner_gets_no_snapshot_from_before_it_was_added(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        await behind.start()
        await caught_up(cluster, behind)
        leader = leader_of(cluster)
        staged = leader.parts.snapshots.floor
        assert staged is not None  # kept a while for others that may need one
        joiner = await join(cluster, leader)
        await caught_up(cluster, joiner)
        assert joiner.parts.storage.first_index() - 1 > staged
        assert joiner.number in joiner.parts.raw.conf_state.learners

    play(tmp_path, scene)


def test_a_member_that_installed_a_snapshot_can_lead(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        await behind.start()
        await caught_up(cluster, behind)
        await leader_of(cluster).replica.transfer_leadership(behind.number)
        await cluster.wait_for(lambda: behind.replica.is_leader, "it leads")
        revision = behind.kv.revision
        answer = await put(behind, b"k0", b"by the newcomer")
        assert answer.header.revision == revision + 1
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_snapshot_is_taken_sent_and_installed_under_constant_writes(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        done = False

        async def write(client: int) -> None:
            number = 0
            while not done:
                number += 1
                value = random.Random(number).randbytes(900)
                await put(leader, f"{client}/{number}".encode(), value)

        writers = [asyncio.create_task(write(client)) for client in range(4)]
        await behind.start()
        await cluster.wait_for(lambda: behind.parts.sink.received, "the snapshot")
        await cluster.wait_for(
            lambda: leader.replica.applied_index - behind.replica.applied_index < 5, "it keeps up"
        )
        done = True
        await asyncio.gather(*writers)
        await assert_identical(cluster)
        assert behind.parts.sink.received == 1

    play(tmp_path, scene)


def test_the_log_is_not_trimmed_beyond_a_snapshot_under_way(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        await behind.start()
        quicken = slow_down(behind, "files", 0.2)  # the stream takes seconds
        await cluster.wait_for(lambda: leader.parts.snapshots.floor, "a staged snapshot")
        floor = leader.parts.snapshots.floor
        assert floor is not None
        for round_number in range(4):
            await put_many(leader, f"during{round_number}/", 20)
            await leader.replica.checkpoint()
            assert leader.parts.storage.first_index() <= floor + 1
        assert leader.parts.databases.hosted[0].base > floor + 2 * cluster.limits.catch_up_entries
        assert not behind.parts.sink.received
        quicken()
        await caught_up(cluster, behind)
        assert leader.parts.snapshots.sent == behind.parts.sink.received == 1
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_stream_that_breaks_goes_on_where_it_was(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        await behind.start()
        slow_down(behind, "files", 0.05)
        written: list[int] = []
        write = behind.parts.sink._write

        def count(incoming: Incoming, *chunk: Any) -> None:
            before = (incoming.file_number, incoming.offset)
            write(incoming, *chunk)
            if (incoming.file_number, incoming.offset) != before:
                written.append(len(chunk[-1]))

        behind.parts.sink._write = count  # type: ignore[method-assign]
        await cluster.wait_for(lambda: len(written) >= 2, "the stream's beginning")
        cluster.network.drop_connections(leader.name, behind.name)
        await caught_up(cluster, behind)
        file = f"{behind.path}/db/2/etcd.sqlite"
        assert sum(written) == len(behind.disk.files()[file])  # nothing was sent twice
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_snapshot_is_made_although_a_write_waits_for_its_receiver(tmp_path: Path) -> None:
    """The write needs the receiver's acknowledgement, and an image holds nothing speculative."""

    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        (other,) = [m for m in others_than(cluster, leader) if m is not behind]
        cluster.network.partition([leader.name, behind.name], [other.name])
        writing = asyncio.create_task(outcome_of(put(leader, b"k")))
        await cluster.wait_for(
            lambda: leader.parts.raw.last_index > leader.parts.raw.commit, "it is proposed"
        )
        await behind.start()
        await cluster.wait_for(lambda: behind.parts.sink.received, "the snapshot", limit_s=5.0)
        assert isinstance(await writing, LeaderChanged)
        await caught_up(cluster, behind)
        assert await get(behind, b"k") == b"x"  # and once it has the entry, that is committed
        await put(leader, b"later")
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_slow_write_is_not_taken_back_while_no_snapshot_is_wanted(tmp_path: Path) -> None:
    """The client would hear that the outcome is unknown, for a checkpoint that can wait."""

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put(leader, b"before")
        for other in others_than(cluster, leader):
            slow_down(other, "log", 4 * cluster.limits.election_timeout_s)
        writing = asyncio.create_task(put(leader, b"k"))
        await cluster.wait_for(
            lambda: leader.parts.raw.last_index > leader.parts.raw.commit, "it is proposed"
        )
        await leader.parts.drained()
        await writing
        assert leader_of(cluster) is leader
        assert await get(leader, b"k") == b"x"

    play(tmp_path, scene)


def test_a_chunk_damaged_on_the_way_is_refused(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        chunk = leader.parts.snapshots._chunk
        damaged = 0

        def damage(path: str, offset: int) -> bytes:
            nonlocal damaged
            data = bytearray(chunk(path, offset))
            if offset and damaged < 1:
                damaged += 1
                data[7] ^= 1  # in the staged file: the chunk's own checksum covers it already
            return bytes(data)

        leader.parts.snapshots._chunk = damage  # type: ignore[method-assign]
        await behind.start()
        await caught_up(cluster, behind)
        assert damaged == 1
        assert behind.parts.sink.received == 1
        await assert_identical(cluster)

    play(tmp_path, scene)


def install_with_cut(folder: Path, number: int | None) -> SimReplica:
    """Cut a member's power at one operation of receiving and installing a snapshot; start again.

    What it holds when it is alone is the old state or the new one, whole. Without ``number``
    nothing happens to it; the operations are in its disk's trace.
    """
    folder.mkdir()
    members: list[SimReplica] = []

    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        members.append(behind)
        behind.disk.trace.clear()
        if number is not None:
            behind.disk.cut_power_at = behind.disk.changes + number
        started = await outcome_of(behind.start())
        if started is None:
            await cluster.wait_for(
                lambda: (
                    behind.stopped_by is not None
                    or (behind.parts.sink.received and not behind.parts.sink.busy)
                ),
                "the installation or the power cut",
            )
        else:
            assert isinstance(started, PowerCut | DqliteError), started
        if number is not None:
            await behind.crash()
            isolate(cluster, behind)
            await behind.start()
            await behind.replica.ready()
        (check,) = await behind.replica.check_databases()
        assert check.problems == []
        state = await get(behind, b"generation", serializable=True)
        assert state in (b"old", b"new")
        assert (await get(behind, b"k59", serializable=True) is not None) is (state == b"new")
        assert len(behind.disk.listdir(f"{behind.path}/db")) == 1
        await assert_identical(cluster)

    play(folder, scene)
    return members[0]


def test_a_power_cut_while_installing_leaves_the_old_or_the_new_state(tmp_path: Path) -> None:
    trace = install_with_cut(tmp_path / "whole", None).disk.trace
    switch = next(number for number, line in enumerate(trace) if line.endswith("/manifest"))
    removal = next(
        number
        for number, line in enumerate(trace)
        if line.startswith("rmtree") and line.endswith("/db/1")
    )
    assert switch < removal
    for number in (*range(0, switch - 5, 8), *range(switch - 5, removal + 2)):
        install_with_cut(tmp_path / str(number), number)


def test_a_snapshot_is_acknowledged_only_when_it_is_installed(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        acknowledged: list[int] = []

        def observe(operation: str, path: str) -> OSError | None:
            if operation == "rename" and path == f"{behind.path}/manifest":
                acknowledged.append(leader.parts.raw.progress[behind.number].match)
            return None

        behind.disk.fault = observe
        await behind.start()
        for worker in ("files", "raft-log"):
            slow_down(behind, worker, 0.02)  # time enough for an early acknowledgement to arrive
        await caught_up(cluster, behind)
        assert acknowledged
        assert acknowledged[0] < behind.parts.storage.first_index() - 1

    play(tmp_path, scene)

"""A staged copy that the sender's disk damages never becomes a receiver's database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from dqlite_py.errors import CorruptFile
from tests.kit.sim_cluster import SimCluster, SimReplica
from tests.kit.sim_scenes import assert_identical, get, leader_of, others_than, play, put_many

Damage = Callable[[str, int], None]


async def leave_one_behind(cluster: SimCluster) -> tuple[SimReplica, SimReplica]:
    """Return the leader, and a crashed follower that its log no longer reaches."""
    leader = leader_of(cluster)
    behind = others_than(cluster, leader)[0]
    await behind.crash()
    await put_many(leader, "k", 60)
    for member in cluster.members:
        if member.up:
            await member.replica.checkpoint()
    return leader, behind


def damage_first_stage(leader: SimReplica, damage: Damage) -> list[str]:
    """Damage the first staged file when its second chunk is asked for; return where it was."""
    snapshots = leader.parts.snapshots
    read = snapshots._chunk
    damaged: list[str] = []

    def chunk(path: str, offset: int) -> bytes:
        if offset and not damaged:
            damaged.append(path)
            damage(path, offset)
        return read(path, offset)

    snapshots._chunk = chunk
    return damaged


def test_a_flipped_byte_in_the_staged_copy_makes_the_sender_stage_anew(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader, behind = await leave_one_behind(cluster)

        def flip(path: str, offset: int) -> None:
            file = leader.disk.open(path)
            file.pwrite(bytes([file.pread(1, offset)[0] ^ 1]), offset)

        damaged = damage_first_stage(leader, flip)
        await behind.start()
        await cluster.wait_for(lambda: behind.parts.sink.received, "a snapshot arrived whole")
        await cluster.wait_for(
            lambda: behind.replica.applied_index == leader.replica.applied_index, "caught up"
        )
        assert damaged
        assert leader.parts.snapshots.sent == 1
        assert await get(behind, b"k59", serializable=True) is not None
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_staged_copy_that_was_cut_short_stops_the_sender_by_name(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader, behind = await leave_one_behind(cluster)
        damaged = damage_first_stage(leader, leader.disk.cut_file)
        await behind.start()
        async with asyncio.timeout(60):
            await leader.stopped.wait()
        assert isinstance(leader.stopped_by, CorruptFile)
        assert damaged[0] in str(leader.stopped_by)
        assert behind.parts.sink.received == 0

    play(tmp_path, scene)

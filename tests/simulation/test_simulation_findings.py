"""What the simulation has found, each as the shortest scene that shows it."""

from __future__ import annotations

import asyncio
import errno
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import pytest

from dqlite_py.errors import CorruptFile, DiskFailed
from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.raft import Role
from tests.kit.loop import run_virtual
from tests.kit.sim_cluster import SimCluster, SimReplica
from tests.kit.sim_join import join
from tests.kit.sim_scenes import (
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
)
from tests.kit.single_etcd import SingleEtcd


def test_a_read_before_the_first_leader_has_made_the_tables_waits_for_them() -> None:
    """Seed 1: a barrier may succeed on a leader that has not made the tables yet."""

    async def main() -> None:
        etcd = SingleEtcd()
        etcd.machine.has_schema = False
        reading = asyncio.ensure_future(etcd.kv.range(rpc.RangeRequest(key=b"a")))
        await asyncio.sleep(0.2)
        assert not reading.done()
        etcd.machine.has_schema = True
        assert (await reading).header.revision == 1

    run_virtual(main)


async def _come_up_with_a_failing_read(member: SimReplica, number: int) -> BaseException | None:
    """Let the read with this number of a database file fail; return what the start ended with."""
    left = number

    def fault(operation: str, path: str) -> OSError | None:
        nonlocal left
        if operation != "pread" or not path.endswith(".sqlite"):
            return None
        left -= 1
        return OSError(errno.EIO, "simulated") if left == -1 else None

    member.disk.fault = fault
    try:
        await member.start()
    except (DiskFailed, CorruptFile) as error:
        return error
    with suppress(TimeoutError):
        async with asyncio.timeout(2.0):
            await member.stopped.wait()
    error = member.stopped_by
    await member.crash()
    return error


def test_an_unreadable_database_is_a_failed_disk_not_a_damaged_file(tmp_path: Path) -> None:
    """Seed 1: "damaged" tells the operator to throw away what a new cable would bring back."""
    found: list[str] = []

    async def scene(cluster: SimCluster) -> None:
        victim = others_than(cluster, cluster.members[0])[0]
        for number in range(40):
            await put(cluster.members[0], b"%d" % number, b"x" * 900)
        await victim.replica.checkpoint()
        await victim.crash()
        for number in range(10):
            error = await _come_up_with_a_failing_read(victim, number)
            found.append(type(error).__name__)
        victim.disk.fault = None
        victim.disk.crash()
        await victim.start()

    play(tmp_path, scene)
    assert set(found) <= {"DiskFailed", "NoneType"}
    assert "DiskFailed" in found


def test_a_full_disk_under_an_arriving_snapshot_is_a_failed_disk(tmp_path: Path) -> None:
    """Seed 14: the operating system's own error came through, and no line named the file."""

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        behind = others_than(cluster, leader)[0]
        await behind.crash()
        await put_many(leader, "k", 100)
        for member in others_than(cluster, behind):
            await member.replica.checkpoint()

        def full(operation: str, path: str) -> OSError | None:
            into_snapshot = operation == "pwrite" and "/db/" in path
            return OSError(errno.ENOSPC, "simulated") if into_snapshot else None

        behind.disk.fault = full
        await behind.start()
        async with asyncio.timeout(20):
            await behind.stopped.wait()
        assert isinstance(behind.stopped_by, DiskFailed)
        behind.disk.fault = None
        await behind.crash()
        await behind.start()
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_read_error_under_a_client_stops_the_replica(tmp_path: Path) -> None:
    """Seed 2: the client got the error, and the member went on with a disk that fails."""

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put_many(leader, "k", 40)
        victim = others_than(cluster, leader)[0]
        await victim.replica.checkpoint()
        await victim.crash()
        await victim.start()
        await cluster.wait_for(lambda: victim.parts.primary, "its database is open")

        def unreadable(operation: str, path: str) -> OSError | None:
            from_database = operation == "pread" and path.endswith(".sqlite")
            return OSError(errno.EIO, "simulated") if from_database else None

        victim.disk.fault = unreadable
        with pytest.raises(DiskFailed):
            for number in range(40):
                await get(victim, f"k{number}".encode(), serializable=True)
        async with asyncio.timeout(1):
            await victim.stopped.wait()
        assert isinstance(victim.stopped_by, DiskFailed)
        victim.disk.fault = None
        await victim.crash()
        await victim.start()
        await assert_identical(cluster)

    play(tmp_path, scene)


@pytest.mark.parametrize("seed", range(3))
def test_of_two_members_the_leader_can_be_removed(tmp_path: Path, seed: int) -> None:
    """Seeds 2024 and 2031: it stopped before the other knew, which could never win without it."""

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        (rest,) = others_than(cluster, leader)
        await put(leader, b"before")
        await rest.replica.remove_member(leader.number)
        await asyncio.wait_for(leader.replica.removed(), 5)
        await leader.crash()
        cluster.members.remove(leader)
        await rest.crash()
        await rest.start()
        await cluster.wait_for(lambda: cluster.leader, "the other leads alone")
        await put(rest, b"after")

    play(tmp_path, scene, size=2, seed=seed)


def test_a_removal_that_took_effect_is_known_after_a_crash(tmp_path: Path) -> None:
    """Seed 2031: the commit index was still in memory, and the removed member counted again."""

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        (gone,) = others_than(cluster, leader)
        leader.disk._random = NothingSurvives()
        await leader.replica.remove_member(gone.number)
        await gone.crash()
        cluster.members.remove(gone)
        await leader.crash()
        await leader.start()
        await cluster.wait_for(lambda: cluster.leader, "the one that is left leads")

    play(tmp_path, scene, size=2)


def _lose_power_at_the_next_commit_index(member: SimReplica) -> None:
    driver = member.parts.driver
    make_durable = driver.make_commit_durable

    async def lose_power(index: int) -> None:
        await asyncio.sleep(0.5)  # time enough for the others to hear, if they are told
        member.disk.cut_power_at = member.disk.changes
        await make_durable(index)

    driver.make_commit_durable = lose_power  # type: ignore[method-assign]


@pytest.mark.parametrize("crashes", [1, 2])
def test_who_is_removed_hears_when_the_leader_has_it_durably(tmp_path: Path, crashes: int) -> None:
    """It stops when it hears. A leader that then forgets would count on its vote for ever."""

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        (gone,) = others_than(cluster, leader)
        await put(leader, b"k")
        leader.disk._random = NothingSurvives()
        _lose_power_at_the_next_commit_index(leader)
        removing = asyncio.create_task(outcome_of(leader.replica.remove_member(gone.number)))
        for crash in range(crashes):
            if crash:
                _lose_power_at_the_next_commit_index(leader)
                await gone.crash()
                await gone.start()
            with patch.object(gone.parts.driver, "tick"):  # so that it votes, but never campaigns
                await leader.stopped.wait()
            assert leader.parts.raw.role is Role.LEADER
            assert leader.parts.raw.commit > leader.parts.driver.durable_commit
            await leader.crash()
            assert not gone.parts.removed.is_set()
            await leader.start()
        await asyncio.wait_for(gone.replica.removed(), 20)
        await gone.crash()
        cluster.members.remove(gone)
        await cluster.wait_for(lambda: leader.replica.is_leader, "the one that is left leads")
        assert await get(leader, b"k") == b"x"
        await put(leader, b"after")
        await removing

    play(tmp_path, scene, size=2)


def test_a_removal_that_was_replaced_holds_nothing_back(tmp_path: Path) -> None:
    """Its index belongs to another entry now, of which everybody may hear at once."""

    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        one, two = others_than(cluster, old)
        await put(old, b"before")
        isolate(cluster, old)
        last = old.parts.raw.last_index
        removing = asyncio.create_task(outcome_of(old.replica.remove_member(one.number)))
        await cluster.wait_for(lambda: old.parts.raw.last_index > last, "the removal is in its log")
        await cluster.wait_for(lambda: one.replica.is_leader or two.replica.is_leader, "another")
        interim = one if one.replica.is_leader else two
        await put(interim, b"instead")
        cluster.network.heal()
        assert await get(old, b"instead") == b"x"
        await interim.replica.transfer_leadership(old.number)
        await put(old, b"after")
        async with asyncio.timeout(1):
            assert await get(interim, b"after") == b"x"
        assert len(old.replica.members()) == len(cluster.members)
        await removing

    play(tmp_path, scene)


def test_a_member_that_was_away_follows_a_leader_it_has_never_heard_of(tmp_path: Path) -> None:
    """Seed 4031: its answers went nowhere, so it got neither entries nor a snapshot."""

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        away = others_than(cluster, leader)[0]
        await away.crash()
        joiner = await join(cluster, leader)
        await put_many(leader, "k", 100)
        await cluster.wait_for(
            lambda: joiner.replica.applied_index == leader.replica.applied_index, "it caught up"
        )
        await leader.replica.promote_member(joiner.number)
        await leader.replica.transfer_leadership(joiner.number)
        for member in others_than(cluster, away):
            await member.replica.checkpoint()
        await away.start()
        await cluster.wait_for(
            lambda: away.replica.applied_index >= joiner.replica.applied_index, "it follows"
        )
        assert cluster.leader is joiner

    play(tmp_path, scene)

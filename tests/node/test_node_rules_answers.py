"""No answer leaves before what it rests on is committed (design rule 4)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from dqlite_py.errors import LeaderChanged
from dqlite_py.kv import leases
from dqlite_py.kv.lease_tables import LeaseTables
from dqlite_py.pb import rpc_pb2
from dqlite_py.raft import Message, MessageKind
from tests.kit.sim_cluster import SimCluster, SimReplica
from tests.kit.sim_scenes import (
    assert_identical,
    deafen,
    get,
    isolate,
    leader_of,
    others_than,
    outcome_of,
    play,
    put,
    rows_seen_by_sqlite,
    slow_down,
)


async def put_if_value(member: SimReplica, key: bytes, wanted: bytes, value: bytes) -> bool:
    """Put ``value`` if the key's value is ``wanted``; whether it was."""
    compare = rpc_pb2.Compare(
        key=key, target=rpc_pb2.Compare.VALUE, result=rpc_pb2.Compare.EQUAL, value=wanted
    )
    change = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=key, value=value))
    response = await member.kv.txn(rpc_pb2.TxnRequest(compare=[compare], success=[change]))
    return response.succeeded


async def other_leader(cluster: SimCluster, old: SimReplica) -> SimReplica:
    found: SimReplica = await cluster.wait_for(
        lambda: cluster.leader if cluster.leader is not old else None, "another leader"
    )
    return found


async def depose_unnoticed(cluster: SimCluster, old: SimReplica) -> SimReplica:
    """Let another member be elected at once; ``old`` is cut off and believes that it leads."""
    heir = others_than(cluster, old)[0]
    heir.parts.driver.step(
        Message(
            kind=MessageKind.TIMEOUT_NOW,
            to=heir.number,
            from_=old.number,
            term=old.replica.term,
        )
    )
    await cluster.wait_for(lambda: heir.replica.is_leader, "the heir leads")
    return heir


def test_a_deposed_leader_does_not_answer_a_failed_compare_from_its_old_state(
    tmp_path: Path,
) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"k", b"old")
        isolate(cluster, old)
        new = await depose_unnoticed(cluster, old)
        await put(new, b"k", b"new")
        assert old.replica.is_leader  # so it believes
        comparing = asyncio.create_task(put_if_value(old, b"k", b"new", b"newest"))
        await asyncio.sleep(0.2)
        assert not comparing.done()
        cluster.network.heal()
        # It began after b"new" was acknowledged: "failed" would be an answer from the past.
        assert await comparing is True
        assert await get(new, b"k") == b"newest"
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_an_unchanged_write_waits_for_a_round_begun_after_it_arrived(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put(leader, b"k", b"old")
        begun: list[float] = []
        round_of = leader.parts.barrier.join

        def join(done: Any) -> None:
            begun.append(asyncio.get_running_loop().time())
            round_of(done)

        leader.parts.barrier.join = join  # type: ignore[method-assign]
        arrived_s = asyncio.get_running_loop().time()
        assert await put_if_value(leader, b"k", b"other", b"new") is False
        assert len(begun) == 1
        assert begun[0] >= arrived_s
        deafen(cluster, leader)  # its heartbeats are not answered: nobody confirms that it leads
        comparing = asyncio.create_task(outcome_of(put_if_value(leader, b"k", b"other", b"new")))
        await asyncio.sleep(0.5)
        assert not comparing.done()
        cluster.network.heal()
        assert await comparing is False

    play(tmp_path, scene)


def test_an_unchanged_write_waits_for_the_uncommitted_batch_it_was_executed_on(
    tmp_path: Path,
) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"k", b"old")
        pipeline = old.parts.leadership.pipeline
        assert pipeline is not None
        isolate(cluster, old)
        writing = asyncio.create_task(outcome_of(put(old, b"k", b"speculative")))
        await cluster.wait_for(lambda: len(pipeline._batches) == 1, "a batch in flight")
        (hosted,) = old.parts.databases.hosted
        below = hosted.batch_number
        comparing = [
            asyncio.create_task(put_if_value(old, b"k", b"old", b"newest"))
            for _ in range(cluster.limits.overlap_commands_min)
        ]
        await cluster.wait_for(
            lambda: hosted.batch_number > below, "they run on top, where k is b'speculative'"
        )
        new = await other_leader(cluster, old)
        assert not any(task.done() for task in comparing)
        cluster.network.heal()
        assert isinstance(await writing, LeaderChanged)
        # The speculative value never was: the first compare that is repeated finds b"old".
        assert (await asyncio.gather(*comparing)).count(True) == 1
        assert await get(new, b"k") == b"newest"
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_gated_read_never_returns_what_is_rolled_back_later(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        tables = LeaseTables(old.replica, old.machine)
        await tables.grant(rpc_pb2.LeaseGrantRequest(ID=1, TTL=60))
        isolate(cluster, old)
        granting = asyncio.create_task(
            outcome_of(tables.grant(rpc_pb2.LeaseGrantRequest(ID=2, TTL=60)))
        )
        await cluster.wait_for(
            lambda: len(old.replica.read_now(leases.load)) == 2, "the second lease in SQLite"
        )
        reading = asyncio.create_task(old.replica.read_gated(leases.load))
        await asyncio.sleep(0.3)
        assert not reading.done()  # the second lease is there, but only speculatively
        new = await other_leader(cluster, old)
        assert [lease for lease, _ in await reading] == [1]
        assert isinstance(await granting, LeaderChanged)
        cluster.network.heal()
        await put(new, b"k")
        assert [lease for lease, _ in await old.replica.read_gated(leases.load)] == [1]
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_gated_read_returns_what_it_saw_once_that_is_committed(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        tables = LeaseTables(leader.replica, leader.machine)
        isolate(cluster, leader)
        granting = asyncio.create_task(tables.grant(rpc_pb2.LeaseGrantRequest(ID=2, TTL=60)))
        await cluster.wait_for(lambda: leader.replica.read_now(leases.load), "a lease in SQLite")
        reading = asyncio.create_task(leader.replica.read_gated(leases.load))
        await asyncio.sleep(0.1)
        assert not reading.done()
        cluster.network.heal()
        await granting
        assert [lease for lease, _ in await reading] == [2]

    play(tmp_path, scene)


def test_a_serializable_read_neither_waits_nor_shows_speculation(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        before = (await put(old, b"k", b"old")).header.revision
        isolate(cluster, old)
        writing = asyncio.create_task(outcome_of(put(old, b"k", b"speculative")))
        await cluster.wait_for(lambda: rows_seen_by_sqlite(old, b"k") == 2, "the speculation")
        request = rpc_pb2.RangeRequest(key=b"a", range_end=b"z", serializable=True)
        one = await asyncio.wait_for(get(old, b"k", serializable=True), 0.01)
        found = await asyncio.wait_for(old.kv.range(request), 0.1)
        assert one == found.kvs[0].value == b"old"
        assert found.header.revision == old.kv.revision == before
        assert isinstance(await writing, LeaderChanged)

    play(tmp_path, scene)


def test_a_follower_reads_its_own_forwarded_write_even_serializably(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        follower = others_than(cluster, leader)[0]
        slow_down(follower, "writer", 0.05)  # it applies late
        for number in range(5):
            value = str(number).encode()
            await put(follower, b"k", value)
            assert await get(follower, b"k", serializable=True) == value

    play(tmp_path, scene)


def test_a_linearizable_read_on_a_cut_off_leader_waits_for_the_present(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"k", b"old")
        isolate(cluster, old)
        assert old.replica.is_leader
        reading = asyncio.create_task(get(old, b"k"))
        new = await other_leader(cluster, old)
        await put(new, b"k", b"new")
        assert not reading.done()
        cluster.network.heal()
        assert await reading == b"new"

    play(tmp_path, scene)

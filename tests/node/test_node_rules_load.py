"""Bounded memory under load, failures inside a batch, derived memory (design rules 7, 8, 9)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dqlite_py.errors import KeyNotFound, RequestTooLarge, StatementFailed
from dqlite_py.kv.lease_tables import LeaseTables
from dqlite_py.lease.service import LeaseService
from dqlite_py.node.contract import Session
from dqlite_py.pb import rpc_pb2
from tests.kit.sim_cluster import SMALL_LIMITS, SimCluster, SimReplica
from tests.kit.sim_scenes import (
    LateWorker,
    assert_identical,
    get,
    isolate,
    leader_of,
    others_than,
    outcome_of,
    play,
    put,
    rows_seen_by_sqlite,
)

KIB = 1 << 10
BY_BYTES = replace(
    SMALL_LIMITS,
    checkpoint_soft_bytes=128 * KIB,
    checkpoint_hard_bytes=512 * KIB,
    checkpoint_entries=1 << 30,
)


async def load(cluster: SimCluster, count: int, watched: SimReplica) -> int:
    """Put ``count`` values from each of four clients; return the virtual WAL's largest size."""
    leader = leader_of(cluster)
    largest = 0

    async def write(client: int) -> None:
        nonlocal largest
        rng = random.Random(client)
        for number in range(count):
            await put(leader, f"{client}/{number % 50}".encode(), rng.randbytes(900))
            largest = max(largest, watched.parts.databases.wal_bytes)

    await asyncio.gather(*(write(client) for client in range(4)))
    return largest


@pytest.mark.parametrize("leads", [True, False])
def test_constant_load_does_not_grow_the_virtual_wal(tmp_path: Path, leads: bool) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        watched = leader if leads else others_than(cluster, leader)[0]
        hosted = watched.parts.databases.hosted[0]
        hosted.checkpointer = LateWorker(hosted.checkpointer, 0.005)  # writes go on meanwhile
        largest = await load(cluster, 150, watched)
        assert watched.parts.checkpointer.completed > 3
        assert largest < 2 * BY_BYTES.checkpoint_soft_bytes
        await assert_identical(cluster)

    play(tmp_path, scene, limits=BY_BYTES)


def test_new_batches_are_admitted_while_a_checkpoint_copies(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        hosted = leader.parts.databases.hosted[0]
        hosted.checkpointer = LateWorker(hosted.checkpointer, 1.0)
        await put(leader, b"k")
        checkpointing = asyncio.create_task(leader.replica.checkpoint())
        await asyncio.sleep(0.1)
        await asyncio.wait_for(put(leader, b"k"), 0.1)
        assert not checkpointing.done()
        await checkpointing

    play(tmp_path, scene)


def test_a_second_short_round_empties_the_wal_of_what_came_during_the_first(
    tmp_path: Path,
) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        hosted = leader.parts.databases.hosted[0]
        await put(leader, b"k")
        hosted.checkpointer = LateWorker(hosted.checkpointer, 1.0)
        checkpointing = asyncio.create_task(leader.replica.checkpoint())
        await asyncio.sleep(0.01)
        await load(cluster, 40, leader)  # admitted at once, and more than the soft limit
        assert leader.parts.databases.wal_bytes >= BY_BYTES.checkpoint_soft_bytes
        assert not checkpointing.done()
        await checkpointing
        assert leader.parts.databases.wal_bytes == 0
        await assert_identical(cluster)

    play(tmp_path, scene, limits=BY_BYTES)


@pytest.mark.parametrize("leads", [True, False])
def test_at_the_hard_limit_writes_wait_for_the_checkpoint(tmp_path: Path, leads: bool) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        watched = leader if leads else others_than(cluster, leader)[0]
        hosted = watched.parts.databases.hosted[0]
        inner = hosted.checkpointer
        hosted.checkpointer = LateWorker(inner, 3.0)
        loading = asyncio.create_task(load(cluster, 150, watched))
        await cluster.wait_for(lambda: not watched.parts.checkpointer.has_room, "the hard limit")
        full_bytes = watched.parts.databases.wal_bytes
        await asyncio.sleep(1.0)
        slack_bytes = 64 * KIB  # what was under way already
        assert watched.parts.databases.wal_bytes < full_bytes + slack_bytes
        assert loading.done() is not leads  # a follower's memory holds up nobody else
        hosted.checkpointer = inner
        await loading
        await assert_identical(cluster)

    play(tmp_path, scene, limits=BY_BYTES)


# --- failures inside a batch ----------------------------------------------------------------------
def put_of(key: bytes, value: bytes = b"x", **fields: Any) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key, value=value, **fields)


async def together(leader: SimReplica, requests: list[Any]) -> list[Any]:
    """Hand in puts and transactions at once, as one batch; return answers and errors."""
    pipeline = leader.parts.leadership.pipeline
    assert pipeline is not None
    kv = leader.kv
    pipeline.close_gate()
    tasks = [
        asyncio.create_task(
            outcome_of(kv.put(one) if isinstance(one, rpc_pb2.PutRequest) else kv.txn(one))
        )
        for one in requests
    ]
    await asyncio.sleep(0.01)
    assert pipeline.pending == len(requests)
    pipeline.open_gate()
    return [await task for task in tasks]


def test_a_refused_request_leaves_no_gap_in_the_revisions_of_its_batch(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        start = leader.kv.revision
        puts = [put_of(b"t"), put_of(b"missing", b"", ignore_value=True)]
        operations = [rpc_pb2.RequestOp(request_put=one) for one in puts]
        refused = rpc_pb2.TxnRequest(success=operations)  # its first put has moved the counters
        found = await together(leader, [put_of(b"a"), refused, put_of(b"b"), refused])
        assert [type(one) for one in found[1::2]] == [KeyNotFound] * 2
        assert [one.header.revision for one in found[::2]] == [start + 1, start + 2]
        assert await get(leader, b"t") is None
        await assert_identical(cluster)

    play(tmp_path, scene)


def ending_transactions(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Make every put of the key b"culprit" roll back the whole transaction."""

    def wrapped(session: Session, command: Any) -> Any:
        result = execute(session, command)
        if command.request.key == b"culprit":
            session.execute("ROLLBACK")
            raise StatementFailed(detail="the transaction is gone")
        return result

    return wrapped


def test_a_request_that_ends_the_transaction_costs_only_itself(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        leader.machine.execute = ending_transactions(  # type: ignore[method-assign]
            leader.machine.execute
        )
        start = leader.kv.revision
        before = leader.replica.applied_index
        found = await together(leader, [put_of(b"a"), put_of(b"culprit"), put_of(b"b")])
        assert isinstance(found[1], StatementFailed)
        assert [one.header.revision for one in found[::2]] == [start + 1, start + 2]
        assert leader.replica.applied_index == before + 1
        assert await get(leader, b"culprit") is None
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_batch_too_large_for_an_entry_is_split_and_a_lone_request_refused(
    tmp_path: Path,
) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        before = leader.replica.applied_index
        values = [random.Random(number).randbytes(20 * KIB) for number in range(6)]
        requests = [put_of(b"%d" % number, value) for number, value in enumerate(values)]
        found = await together(leader, requests)
        assert not any(isinstance(one, Exception) for one in found)
        assert leader.replica.applied_index > before + 1
        huge = put_of(b"huge", random.Random(0).randbytes(200 * KIB))
        found = await together(leader, [huge, put_of(b"small")])
        assert isinstance(found[0], RequestTooLarge)
        assert await get(leader, b"small") == b"x"
        assert await get(leader, b"huge") is None
        await assert_identical(cluster)

    play(tmp_path, scene, limits=replace(SMALL_LIMITS, entry_frames_bytes_max=64 * KIB))


# --- derived memory -------------------------------------------------------------------------------
def test_revisions_go_on_from_the_tables_after_a_rollback(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"k")
        isolate(cluster, old)
        writing = [asyncio.create_task(outcome_of(put(old, b"lost"))) for _ in range(5)]
        await cluster.wait_for(lambda: rows_seen_by_sqlite(old, b"lost"), "the speculation")
        new = await cluster.wait_for(
            lambda: cluster.leader if cluster.leader is not old else None, "another leader"
        )
        revision = (await put(new, b"k")).header.revision
        await asyncio.gather(*writing)
        cluster.network.heal()
        await cluster.wait_for(
            lambda: old.replica.applied_index == new.replica.applied_index, "it caught up"
        )
        assert old.kv.revision == revision
        await new.replica.transfer_leadership(old.number)
        assert (await put(old, b"k")).header.revision == revision + 1
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_new_leader_gives_leases_their_full_ttl_and_an_election_timeout(tmp_path: Path) -> None:
    ttl_s = 10

    async def scene(cluster: SimCluster) -> None:
        loop = asyncio.get_running_loop()
        services = {}
        tasks = []
        for member in cluster.members:
            service = services[member.name] = LeaseService(
                member.replica,
                LeaseTables(member.replica, member.machine),
                random.Random(member.number),
                member.parts.world.clock.now_s,
                election_timeout_s=cluster.limits.election_timeout_s,
            )
            tasks.append(loop.create_task(service.run()))
        old = leader_of(cluster)
        await services[old.name].grant(rpc_pb2.LeaseGrantRequest(ID=7, TTL=ttl_s))
        await old.kv.put(put_of(b"k", lease=7))
        await asyncio.sleep(ttl_s - 1)
        await old.crash()
        new = await cluster.wait_for(lambda: cluster.leader, "another leader")
        # What is left is counted from here: full TTL, and the time in which nobody could renew.
        await asyncio.sleep(ttl_s + 0.9 * cluster.limits.election_timeout_s)
        assert await get(new, b"k") == b"x"
        await asyncio.sleep(2.0)
        assert await get(new, b"k") is None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    play(tmp_path, scene)

"""Page images are valid on one log prefix only (design rule 1), and unknown is not failed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from dqlite_py.errors import InvariantBroken, LeaderChanged, NotLeader
from dqlite_py.node import entries
from dqlite_py.node.parts import Proposals
from dqlite_py.node.peer_port import PeerPort
from dqlite_py.raft import Entry, Message, MessageKind, Role
from tests.kit.sim_cluster import SimCluster
from tests.kit.sim_scenes import (
    assert_identical,
    deafen,
    frames_entry,
    get,
    isolate,
    leader_of,
    others_than,
    outcome_of,
    play,
    put,
    put_many,
    rows_seen_by_sqlite,
    slow_down,
    version_of,
)


def test_a_leader_executes_nothing_before_its_own_no_op_is_applied(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        heir = others_than(cluster, old)[0]
        slow_down(heir, "writer", 0.3)  # it acknowledges entries but is late to apply them
        for number in range(8):
            await put(old, f"k{number}".encode())
        transfer = asyncio.create_task(old.replica.transfer_leadership(heir.number))
        waited = 0
        raw = heir.parts.raw
        while not heir.replica.is_leader:
            if raw.role is Role.LEADER and heir.parts.applied.index < raw.term_start_index:
                waited += 1
                pipeline = heir.parts.leadership.pipeline
                assert pipeline is not None
                assert not pipeline.leading
                assert pipeline.pending == 0
            await asyncio.sleep(0.005)
        assert waited > 10
        await transfer
        await put(heir, b"after")
        await assert_identical(cluster)

    play(tmp_path, scene)


@pytest.mark.parametrize("forged", [{"term": 1 << 40}, {"previous": 3}])
def test_members_stop_rather_than_apply_frames_of_another_prefix(
    tmp_path: Path, forged: dict[str, int]
) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put(leader, b"k")
        applied = leader.replica.applied_index
        good = replace(frames_entry(leader, applied), previous=applied)
        bad = replace(good, **forged)
        data = entries.encode_frames(bad.database, bad.term, bad.previous, bad.note, bad.frames)
        assert Proposals(leader.parts).propose(leader.replica.term, data) is not None

        def stopped() -> list[BaseException]:
            return [m.stopped_by for m in cluster.members if m.stopped_by is not None]

        # The third may never hear that the entry is committed.
        await cluster.wait_for(lambda: len(stopped()) >= 2, "two members stopped")
        for error in stopped():
            assert isinstance(error, InvariantBroken)
            assert f"entry {applied + 1} of etcd" in str(error)
        assert all(m.replica.applied_index <= applied for m in cluster.members)

    play(tmp_path, scene)


def test_a_proposal_stands_in_the_term_it_was_made_for(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        before = leader.parts.raw.last_index
        assert Proposals(leader.parts).propose(leader.replica.term - 1, b"") is None
        assert leader.parts.raw.last_index == before

    play(tmp_path, scene)


def test_frames_are_never_forwarded_nor_taken_from_others(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        follower = others_than(cluster, leader)[0]
        assert Proposals(follower.parts).propose(leader.replica.term, b"data") is None
        before = leader.parts.raw.last_index
        forwarded = Message(
            kind=MessageKind.PROP,
            to=leader.number,
            from_=follower.number,
            entries=(Entry(term=0, index=0, data=b"data"),),
        )
        PeerPort(leader.parts).on_message(forwarded)
        assert leader.parts.raw.last_index == before

    play(tmp_path, scene)


def test_a_dropped_proposal_is_rolled_back_and_the_write_done_once_elsewhere(
    tmp_path: Path,
) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        away = others_than(cluster, leader)[0]
        await put(leader, b"before")
        isolate(cluster, away)  # a transfer to it never ends, and meanwhile proposals are dropped
        leader.parts.raw.transfer_leader(away.number)
        writing = asyncio.create_task(put(leader, b"k"))
        hosted = leader.parts.primary
        assert hosted is not None
        await cluster.wait_for(lambda: hosted.rollback_count, "the rollback")
        assert not hosted.db.speculative
        assert not leader.replica.is_leader
        assert rows_seen_by_sqlite(leader, b"k") == 0
        await writing
        assert await version_of(leader, b"k") == 1
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_what_an_isolated_leader_executed_is_rolled_back(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"before")
        isolate(cluster, old)
        writing = asyncio.create_task(outcome_of(put(old, b"lost")))
        await cluster.wait_for(lambda: rows_seen_by_sqlite(old, b"lost"), "the speculation")
        new = await cluster.wait_for(
            lambda: cluster.leader if cluster.leader is not old else None, "another leader"
        )
        await put(new, b"k")
        assert isinstance(await writing, LeaderChanged)
        await cluster.wait_for(lambda: not rows_seen_by_sqlite(old, b"lost"), "the rollback")
        cluster.network.heal()
        await cluster.settle()
        for member in cluster.members:
            assert await get(member, b"lost", serializable=True) is None
            assert await get(member, b"k", serializable=True) == b"x"
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_an_old_leaders_own_entry_is_injected_after_its_rollback(tmp_path: Path) -> None:
    """Its outcome is unknown to the client, and it is neither lost nor executed again."""

    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"before")
        deafen(cluster, old)  # the entry gets out, but no acknowledgement comes back
        writing = asyncio.create_task(outcome_of(put(old, b"k")))
        assert isinstance(await writing, LeaderChanged)
        hosted = old.parts.primary
        assert hosted is not None
        await cluster.wait_for(
            lambda: hosted.rollback_count and not hosted.rolling_back, "the rollback"
        )
        assert rows_seen_by_sqlite(old, b"k") == 0
        await cluster.wait_for(
            lambda: cluster.leader if cluster.leader is not old else None, "another leader"
        )
        cluster.network.heal()
        await cluster.wait_for(lambda: rows_seen_by_sqlite(old, b"k"), "the injection")
        assert await version_of(old, b"k") == 1
        await put_many(old, "more", 3)
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_write_not_yet_proposed_is_executed_by_the_next_leader_once(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        heir = others_than(cluster, old)[0]
        await put(old, b"before")
        slow_down(old, "writer", 3.0)  # it is deposed while it executes
        writing = asyncio.create_task(put(old, b"k"))
        await asyncio.sleep(0)
        await old.replica.transfer_leadership(heir.number)
        await writing
        assert await version_of(heir, b"k") == 1
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_leader_that_was_deposed_refuses_what_it_did_not_propose(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        pipeline = old.parts.leadership.pipeline
        assert pipeline is not None
        slow_down(old, "writer", 1.0)
        writing = asyncio.create_task(outcome_of(put(old, b"k")))
        await asyncio.sleep(0.1)
        assert pipeline.pending == 1
        isolate(cluster, old)
        old.parts.leadership.stop()
        assert pipeline.pending == 0
        with pytest.raises(NotLeader):
            pipeline.submit(None, 0)
        cluster.network.heal()
        await writing
        await assert_identical(cluster)

    play(tmp_path, scene)

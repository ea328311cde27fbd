"""Who is in: changes one at a time, records that travel with them, joiners and the removed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dqlite_py.errors import (
    LeaderChanged,
    LearnerNotReady,
    MemberExists,
    MemberNotFound,
    TooManyLearners,
)
from dqlite_py.node.contract import Member
from dqlite_py.node.membership import decode_context
from dqlite_py.raft import ConfChange, EntryKind, decode_conf_change
from tests.kit.sim_cluster import SimCluster, SimReplica
from tests.kit.sim_join import join, peer_url
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
)


async def promoted(cluster: SimCluster, joiner: SimReplica) -> None:
    """Wait until the learner has caught up and make it a voter."""
    leader = leader_of(cluster)
    await cluster.wait_for(
        lambda: leader.parts.raw.progress[joiner.number].match == leader.parts.raw.last_index,
        "the learner caught up",
    )
    await leader.replica.promote_member(joiner.number)


def test_a_joiner_with_an_empty_disk_gets_a_snapshot_and_becomes_a_voter(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put_many(leader, "k", 10)
        joiner = await join(cluster, others_than(cluster, leader)[0])
        await promoted(cluster, joiner)
        assert joiner.parts.sink.received == 1
        await cluster.wait_for(lambda: not joiner.replica.is_learner, "it knows that it votes")
        assert leader.parts.raw.conf_state.voters == tuple(
            sorted(m.number for m in cluster.members)
        )
        assert joiner.replica.members() == leader.replica.members()
        await assert_identical(cluster)
        # Its vote counts: two of four are no majority.
        for other in others_than(cluster, joiner)[:2]:
            await other.crash()
        await asyncio.sleep(5.0)
        assert cluster.leader is None

    play(tmp_path, scene)


def test_a_removed_leader_steps_down_and_stops_and_the_rest_goes_on(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        joiner = await join(cluster, old)
        await promoted(cluster, joiner)
        await put(old, b"k")
        through = others_than(cluster, old)[0]
        removing = asyncio.create_task(outcome_of(through.replica.remove_member(old.number)))
        await asyncio.wait_for(old.replica.removed(), 10.0)
        new = await cluster.wait_for(
            lambda: cluster.leader if cluster.leader is not old else None, "another leader"
        )
        assert not old.replica.is_leader
        await removing
        await old.stop()
        cluster.members.remove(old)
        await put(new, b"after")
        assert old.number not in {member.id for member in new.replica.members()}
        assert await get(joiner, b"k") == b"x"
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_removed_follower_hears_of_it_and_never_comes_back(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        gone = others_than(cluster, leader)[0]
        await leader.replica.remove_member(gone.number)
        await asyncio.wait_for(gone.replica.removed(), 5.0)
        assert gone.number in leader.parts.history.latest.catalog.removed
        again = Member(gone.number, "again", (peer_url(9),), (), True)
        with pytest.raises(MemberExists):
            await leader.parts.membership.add(again, "")
        with pytest.raises(MemberNotFound):
            await leader.replica.remove_member(gone.number)
        await gone.stop()
        cluster.members.remove(gone)
        await put(leader, b"k")
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_changes_take_turns_and_each_is_checked_against_the_one_before(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        adds = [
            member.replica.add_member([peer_url(7 + number)], is_learner=True, name="new")
            for number, member in enumerate(cluster.members)
        ]
        found = await asyncio.gather(*adds, return_exceptions=True)
        assert sum(isinstance(one, Member) for one in found) == 1
        assert sum(isinstance(one, TooManyLearners) for one in found) == 2

    play(tmp_path, scene)


def test_the_record_and_the_token_travel_with_the_change(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        record = await leader.replica.add_member(
            [peer_url(4)], is_learner=True, name="four", token_id="the token"
        )
        (entry,) = leader.parts.storage.entries(
            leader.replica.applied_index, leader.replica.applied_index + 1, 1 << 20
        )
        assert entry.kind is not EntryKind.NORMAL
        change = decode_conf_change(entry)
        assert isinstance(change, ConfChange)
        context = decode_context(change.context)
        assert (context.member, context.token_id) == (record, "the token")
        for member in cluster.members:
            await member.replica.wait_applied(entry.index)
            assert record in member.replica.members()
            assert record.id in member.parts.raw.conf_state.learners

    play(tmp_path, scene)


def test_a_learner_that_is_away_is_not_promoted(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        record = await leader.replica.add_member([peer_url(4)], is_learner=True, name="four")
        with pytest.raises(LearnerNotReady):
            await leader.replica.promote_member(record.id)

    play(tmp_path, scene)


def test_whether_a_change_happens_is_unknown_when_leadership_is_lost(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        isolate(cluster, old)
        adding = asyncio.create_task(
            outcome_of(old.replica.add_member([peer_url(4)], is_learner=True, name="four"))
        )
        assert isinstance(await adding, LeaderChanged)
        new = await cluster.wait_for(lambda: cluster.leader, "another leader")
        await put(new, b"k")
        cluster.network.heal()
        await cluster.settle()
        assert all(len(member.replica.members()) == 3 for member in cluster.members)

    play(tmp_path, scene)


def test_a_minority_can_not_change_the_members_nor_read(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        for other in others_than(cluster, leader):
            await other.crash()
        await cluster.wait_for(lambda: cluster.leader is None, "it notices")
        found = await outcome_of(leader.replica.add_member([peer_url(4)], is_learner=True))
        assert isinstance(found, Exception)
        assert isinstance(await outcome_of(get(leader, b"k")), Exception)
        assert isinstance(await outcome_of(leader.replica.transfer_leadership(0)), Exception)

    play(tmp_path, scene)

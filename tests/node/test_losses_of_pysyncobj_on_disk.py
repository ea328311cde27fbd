"""Losses found in pysyncobj (docs/decisions/0001), staged against whole replicas: on disk."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from dqlite_py.errors import OutcomeUnknown
from dqlite_py.node.peer_port import PeerPort
from dqlite_py.raft import Message, MessageKind, Role
from tests.kit.sim_cluster import SimCluster, SimReplica
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
    settle_follower,
)

ACKNOWLEDGED = 12


async def lose_power(member: SimReplica) -> None:
    """Crash so that only what was synced is left."""
    member.disk._random = NothingSurvives()
    await member.crash()
    member.disk._random = random.Random(member.number)


def compact_with_cut(folder: Path, number: int | None) -> list[str]:
    """Cut a follower's power at one operation of compaction; return what it did to its disk.

    The follower is one of the two that have the newest writes; afterwards the other dies.
    """
    folder.mkdir()
    done: list[str] = []

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        member, away = others_than(cluster, leader)
        await put_many(leader, "k", 45, size_bytes=8000)
        await settle_follower(cluster, away)
        await away.crash()
        await put_many(leader, "w", ACKNOWLEDGED, size_bytes=8000)
        await settle_follower(cluster, member)
        member.disk.trace.clear()
        if number is not None:
            member.disk.cut_power_at = member.disk.changes + number
        await outcome_of(asyncio.wait_for(member.replica.checkpoint(), 1.0))
        done.extend(member.disk.trace)
        await lose_power(member)
        await member.start()
        await leader.crash()
        await away.start()
        await cluster.wait_for(lambda: cluster.leader, "a leader of the other two")
        for each in range(ACKNOWLEDGED):
            assert await get(away, b"w%d" % each) == random.Random(each).randbytes(8000)
        await assert_identical(cluster)

    play(folder, scene)
    return done


def test_p4_power_lost_anywhere_in_a_compaction_keeps_every_entry(tmp_path: Path) -> None:
    """There: compaction empties the journal and writes it anew in place; kill -9 inside it loses
    acknowledged entries, 20 times out of 20.

    Here: nothing is changed in place. Segments are removed whole, after the databases and the new
    start of the log are durable. Losing power is worse than kill -9: unsynced writes go as well.
    """
    done = compact_with_cut(tmp_path / "whole", None)
    first_removal = next(i for i, line in enumerate(done) if line.startswith("unlink"))
    assert any(line.endswith("/manifest") for line in done[:first_removal])
    for number in (*range(0, first_removal - 4, 12), *range(first_removal - 4, len(done))):
        compact_with_cut(tmp_path / str(number), number)


def cut_power_with_the_first_vote(pair: list[SimReplica]) -> list[Message]:
    """Let who votes for the other write nothing after its vote has arrived; return that vote."""
    granted: list[Message] = []

    def watch(candidate: SimReplica, voter: SimReplica) -> None:
        step = candidate.parts.driver.step

        def stepping(message: Message) -> None:
            if message.kind is MessageKind.VOTE_RESP and not message.reject:
                granted.append(message)
                voter.disk.cut_power_at = voter.disk.changes
            step(message)

        candidate.parts.driver.step = stepping  # type: ignore[method-assign]

    one, other = pair
    watch(one, other)
    watch(other, one)
    return granted


def test_p5_a_vote_survives_a_power_cut_so_a_term_has_one_leader(tmp_path: Path) -> None:
    """There: nothing is ever synced; a member that loses power votes a second time in a term, two
    leaders of that term answer different writes at one index.

    Here: the vote is durable before it is sent, and the second candidate is refused.
    """

    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        pair = others_than(cluster, old)
        await put(old, b"before")
        granted = cut_power_with_the_first_vote(pair)
        isolate(cluster, old)
        await cluster.wait_for(lambda: granted, "a vote")
        (vote,) = granted
        elected = next(m for m in pair if m.number == vote.to)
        (voter,) = [m for m in pair if m is not elected]
        assert elected.parts.raw.role is Role.LEADER
        await lose_power(voter)
        isolate(cluster, voter)
        await voter.start()
        assert (voter.parts.raw.term, voter.parts.raw.vote) == (vote.term, elected.number)
        asked = Message(
            MessageKind.VOTE,
            to=voter.number,
            from_=old.number,
            term=vote.term,
            log_term=vote.term,
            index=1000,
        )
        PeerPort(voter.parts).on_message(asked)
        assert voter.parts.raw.vote == elected.number
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_p5_acknowledged_writes_survive_power_loss_of_all_members(tmp_path: Path) -> None:
    """There: 28 of 30 acknowledged writes are gone, and the commit index, which is newer than the
    log, makes the next leader acknowledge what it alone has.

    Here: all are there, and a leader without the others acknowledges nothing.
    """

    async def scene(cluster: SimCluster) -> None:
        for number in range(30):
            await put(leader_of(cluster), b"w%d" % number)
        for member in cluster.members:
            await lose_power(member)
        for member in cluster.members:
            await member.start()
        leader = await cluster.wait_for(lambda: cluster.leader, "a leader after the power loss")
        for member in cluster.members:
            assert member.parts.raw.commit <= member.parts.storage.last_index()
        for number in range(30):
            assert await get(leader, b"w%d" % number) == b"x"
        isolate(cluster, leader)
        assert isinstance(await outcome_of(put(leader, b"alone")), OutcomeUnknown)
        await assert_identical(cluster)

    play(tmp_path, scene)


@pytest.mark.parametrize("compacted", [False, True])
def test_p9_a_restart_of_all_without_any_snapshot_keeps_everything(
    tmp_path: Path, compacted: bool
) -> None:
    """There: without a dump file compaction drops the head of the journal while its content is in
    memory only; after a clean restart of all members the state is empty and stays so.

    Here: the log is shortened only below what is durable in the database files; no snapshot is
    needed for that, and with none ever made all is there after the restart.
    """

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put_many(leader, "k", 60)
        for member in cluster.members:
            await settle_follower(cluster, member)
            if compacted:
                await member.replica.checkpoint()
                assert member.parts.storage.first_index() > 20
        assert not any(member.parts.snapshots.sent for member in cluster.members)
        await cluster.stop()
        for member in cluster.members:
            member.disk.crash()  # the processes are gone, and so are their locks
        await cluster.start()
        leader = await cluster.wait_for(lambda: cluster.leader, "a leader after the restart")
        for number in range(60):
            assert await get(leader, b"k%d" % number) is not None
        await put(leader, b"new")
        await assert_identical(cluster)

    play(tmp_path, scene)

"""Losses found in pysyncobj (docs/decisions/0001), staged against whole replicas: the protocol.

Each scene builds the situation in which that library loses an acknowledged write or answers an old
value, and says what must happen here instead. Numbers are those of the table in the decision. What
is lost on disk is in ``test_losses_of_pysyncobj_on_disk.py``, what goes wrong between two members
in ``tests/transport`` and ``tests/integration`` under the same name.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from dqlite_py.errors import DiskFailed, OutcomeUnknown, RequestRefused
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
    slow_down,
)


def receive(member: SimReplica, *messages: Message) -> None:
    """Let ``member`` hear messages as if its transport had just read them."""
    for message in messages:
        PeerPort(member.parts).on_message(message)


def record_received(member: SimReplica, *kinds: MessageKind) -> list[Message]:
    """Return a list that all messages of these kinds are put into before they are handled."""
    driver, heard = member.parts.driver, []
    step = driver.step

    def recording(message: Message) -> None:
        if message.kind in kinds:
            heard.append(message)
        step(message)

    driver.step = recording  # type: ignore[method-assign]
    return heard


def lose_first(member: SimReplica, kind: MessageKind) -> list[Message]:
    """Let the next message of this kind with entries get lost; return the list it is put into."""
    driver, lost = member.parts.driver, []
    step = driver.step

    def losing(message: Message) -> None:
        if message.kind is kind and message.entries and not lost:
            lost.append(message)
        else:
            step(message)

    driver.step = losing  # type: ignore[method-assign]
    return lost


def keep_ignorant_of_commits(member: SimReplica) -> None:
    """From now on the commit indexes in messages to ``member`` are those it knows already."""
    driver, known = member.parts.driver, member.parts.raw.commit
    step = driver.step
    driver.step = lambda message: step(  # type: ignore[method-assign]
        replace(message, commit=min(message.commit, known))
    )


def lengthen(member: SimReplica, count: int) -> None:
    """Append ``count`` empty entries to the log of a leader."""
    member.parts.raw.propose([b""] * count)
    member.parts.driver.kick()


async def another_leader(cluster: SimCluster, old: SimReplica) -> SimReplica:
    found: SimReplica = await cluster.wait_for(
        lambda: cluster.leader if cluster.leader is not old else None, "another leader"
    )
    return found


def lose_what_is_under_way(cluster: SimCluster) -> None:
    """Break every connection over a link that is cut, with all that waits in it."""
    for stream in cluster.network.streams():
        if not cluster.network.passes(stream.owner, stream.remote):
            stream._outgoing.clear()
            stream._outgoing_bytes = 0
            stream.close()


def known_not_to_have_happened(outcome: Any) -> bool:
    return isinstance(outcome, OutcomeUnknown | RequestRefused)


def test_p1_a_snapshot_on_its_way_commits_nothing_of_an_old_leaders_own(tmp_path: Path) -> None:
    """There: the first chunk carries the sender's commit index, and the receiver takes it for its
    own log: it applies its conflicting tail and reports success.

    Here: while the files arrive the old leader's commit index stays, its clients are not told that
    anything happened, and nobody ever has the writes.
    """

    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"before")
        isolate(cluster, old)
        losing = asyncio.create_task(outcome_of(put(old, b"lost")))
        await cluster.wait_for(lambda: old.parts.raw.last_index > old.parts.raw.commit, "a tail")
        lengthen(old, 30)
        committed = old.parts.raw.commit
        new = await another_leader(cluster, old)
        await put_many(new, "k", 60)
        for member in others_than(cluster, old):
            await member.replica.checkpoint()
            assert member.parts.storage.first_index() > old.parts.raw.last_index
        slow_down(old, "files", 0.5)  # the transfer lasts for many heartbeats
        lose_what_is_under_way(cluster)
        cluster.network.heal()
        await cluster.wait_for(lambda: old.parts.sink._incoming, "the beginning of a snapshot")
        heartbeats = record_received(old, MessageKind.HEARTBEAT)
        while not old.parts.sink.received:
            assert old.parts.raw.commit == committed
            assert old.replica.applied_index == committed
            assert not losing.done() or known_not_to_have_happened(losing.result())
            await asyncio.sleep(0.05)
        assert len(heartbeats) > 5
        assert isinstance(await losing, OutcomeUnknown)
        await assert_identical(cluster)
        assert await get(old, b"lost") is None

    play(tmp_path, scene)


def test_p2_a_second_refusal_and_old_appends_take_nothing_back(tmp_path: Path) -> None:
    """There: of several refusals under way each makes the leader send everything again, and the
    follower cuts its log at the first entry of it, below what it has acknowledged.

    Here: late refusals do not move the leader back, entries that are known already are left as they
    are, and the follower that acknowledged keeps the writes when the leader dies.
    """

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        follower, away = others_than(cluster, leader)
        await put(leader, b"before")
        isolate(cluster, away)
        refusals = record_received(leader, MessageKind.APP_RESP)
        await settle_follower(cluster, follower)
        keep_ignorant_of_commits(follower)
        appends = lose_first(follower, MessageKind.APP)
        writing = asyncio.create_task(put(leader, b"w0", bytes(40_000)))
        await cluster.wait_for(lambda: appends, "the append that is lost")
        for _ in range(3):
            lengthen(leader, 1)  # sent before the first refusal is back
            await asyncio.sleep(0)
        await writing
        for number in range(1, 4):
            await put(leader, b"w%d" % number, bytes(40_000))
        await cluster.wait_for(
            lambda: follower.parts.raw.last_index == leader.parts.raw.last_index, "it has them"
        )
        last = follower.parts.raw.last_index
        assert leader.parts.raw.progress[follower.number].match == last
        refused = [m for m in refusals if m.reject and m.from_ == follower.number]
        assert len(refused) > 1
        receive(leader, *refused)  # the same answers, late
        assert leader.parts.raw.progress[follower.number].match == last
        assert follower.parts.raw.commit == appends[0].index < last - 3
        receive(follower, appends[0])  # and the first of what a leader sent back would send again
        assert follower.parts.raw.last_index == last
        await leader.crash()
        await follower.crash()
        await follower.start()
        cluster.network.heal()
        await another_leader(cluster, leader)
        for number in range(4):
            assert await get(away, b"w%d" % number) == bytes(40_000)
        await assert_identical(cluster)

    play(tmp_path, scene)


async def acknowledgements(
    cluster: SimCluster, leader: SimReplica, follower: SimReplica
) -> list[Message]:
    """Let these two be alone, and return what the follower answers to ten entries."""
    pair = [leader.name, follower.name]
    cluster.network.partition(pair, [m.name for m in cluster.members if m.name not in pair])
    heard = record_received(leader, MessageKind.APP_RESP)
    lengthen(leader, 10)
    await asyncio.sleep(0.3)
    answers = [m for m in heard if m.from_ == follower.number and not m.reject]
    assert max(m.index for m in answers) == leader.parts.raw.last_index
    return answers


def test_p3_an_acknowledgement_of_an_earlier_term_commits_nothing(tmp_path: Path) -> None:
    """There: an acknowledgement names no term, so one of term 1 that took long counts for other
    entries in term 3, when its receiver leads again: a write on two of five is answered.

    Here: it is ignored; the write is not answered, and nothing that was is lost with both holders.
    """

    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        slow, helper, *rest = others_than(cluster, old)
        await put(old, b"before")
        names = {m.name for m in cluster.members}
        stale = await acknowledgements(cluster, old, slow)
        highest = max(m.index for m in stale)
        interim = await another_leader(cluster, old)
        cluster.network.partition(sorted(names - {slow.name}), [slow.name])
        await put(interim, b"between")
        await interim.replica.transfer_leadership(old.number)
        await cluster.wait_for(lambda: old.replica.is_leader, "the old leader leads again")
        cluster.network.partition([old.name, helper.name], sorted(names - {old.name, helper.name}))
        writing = asyncio.create_task(outcome_of(put(old, b"w")))
        await cluster.wait_for(
            lambda: (
                old.parts.raw.commit
                < old.parts.raw.progress[helper.number].match
                == old.parts.raw.last_index
            ),
            "the write is on two of five",
        )
        assert old.parts.raw.commit < old.parts.raw.last_index <= highest
        assert all(m.term < old.parts.raw.term for m in stale)
        receive(old, *stale)
        await asyncio.sleep(0.1)
        assert not old.parts.raw.progress[slow.number].match
        assert not writing.done()
        await old.crash()
        await helper.crash()
        assert isinstance(await writing, OutcomeUnknown)
        lose_what_is_under_way(cluster)
        cluster.network.heal()
        await cluster.wait_for(lambda: cluster.leader, "a leader of the other three")
        for member in (slow, *rest):
            assert await get(member, b"between") == b"x"
            assert await get(member, b"w") is None
        await assert_identical(cluster)

    play(tmp_path, scene, size=5)


def test_p7_bytes_of_an_old_connection_are_not_handled_after_a_new_one(tmp_path: Path) -> None:
    """There: the acceptor keeps the old socket beside the new one, so appends that were delayed on
    it arrive after newer ones and cut the follower's log below what it has acknowledged.

    Here: a new connection ends the old one; what still arrives there reaches nobody.
    """

    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        follower = others_than(cluster, leader)[0]
        await put(leader, b"a")
        ends = [
            s
            for s in cluster.network.streams()
            if (s.owner, s.remote) == (leader.name, follower.name)
        ]
        held = record_received(follower, MessageKind.APP)
        for end in ends:
            end._rng = NothingSurvives()  # closing it loses nothing of what is under way
            end.hold()
        await put(leader, b"b")  # with the third member; the append for this one is stuck
        assert not [m for m in held if m.entries]
        assert any(end._outgoing for end in ends)
        replaced = follower.parts.transport.counters.connections_replaced
        leader.parts.transport.set_peers({})
        leader.parts.members_changed()
        for end in ends:
            end.hold()
        await put_many(leader, "c", 4)
        await cluster.wait_for(
            lambda: follower.replica.applied_index == leader.replica.applied_index, "all arrived"
        )
        assert follower.parts.transport.counters.connections_replaced > replaced
        last = follower.parts.raw.last_index
        handled = len(held)
        for end in ends:
            end.carry_on()
        for _ in range(50):
            await asyncio.sleep(0.001)
            assert follower.parts.raw.last_index == last
        assert not [m for m in held[handled:] if m.entries]
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_p8_a_leader_that_is_cut_off_answers_no_old_value(tmp_path: Path) -> None:
    """There: reads are local, and a leader that is cut off answers old values for 27 s.

    Here: a read is answered after a round that a quorum confirms. The leader's clock stands still
    in this scene, so that it never finds out by itself that it is alone.
    """

    async def scene(cluster: SimCluster) -> None:
        old = leader_of(cluster)
        await put(old, b"k", b"v1")
        old.parts.driver.tick = lambda: None  # type: ignore[method-assign]
        isolate(cluster, old)
        new = await another_leader(cluster, old)
        await put(new, b"k", b"v2")
        assert old.parts.raw.role is Role.LEADER
        assert await get(old, b"k", serializable=True) == b"v1"  # what it has, for who wants that
        reading = asyncio.create_task(outcome_of(get(old, b"k")))
        for _ in range(60):
            await asyncio.sleep(0.5)
            assert await get(new, b"k") == b"v2"
            if reading.done():
                break
        assert known_not_to_have_happened(await reading), reading.result()
        del old.parts.driver.tick
        cluster.network.heal()
        await cluster.settle()
        assert await get(old, b"k") == b"v2"

    play(tmp_path, scene)


def fail_to_switch(member: SimReplica) -> list[str]:
    """Let the last step of installing a snapshot fail; return the list of such failures."""
    failures: list[str] = []

    def fault(operation: str, path: str) -> OSError | None:
        if operation != "rename" or not path.endswith("/manifest"):
            return None
        failures.append(path)
        return OSError(5, "I/O")

    member.disk.fault = fault
    return failures


def test_p11_a_snapshot_that_fails_is_no_acknowledgement_of_an_old_tail(tmp_path: Path) -> None:
    """There: a snapshot that can not be loaded is acknowledged with the last index of the log that
    it should have replaced; the leader takes an old tail for a copy and answers a write that it
    alone has.

    Here: the member stops and acknowledges nothing, the write is committed only when the member has
    come back and has it, and then it is there without the leader.
    """

    async def scene(cluster: SimCluster) -> None:
        stale = leader_of(cluster)
        await put(stale, b"before")
        isolate(cluster, stale)
        lengthen(stale, 200)  # longer than all that the others will ever write
        new = await another_leader(cluster, stale)
        (third,) = [m for m in others_than(cluster, new) if m is not stale]
        await put_many(new, "k", 60)
        await new.replica.checkpoint()
        await cluster.wait_for(
            lambda: third.replica.applied_index == new.replica.applied_index, "the third has all"
        )

        failures = fail_to_switch(stale)
        lose_what_is_under_way(cluster)
        cluster.network.partition([new.name, stale.name], [third.name])
        before = new.parts.raw.last_index
        writing = asyncio.create_task(outcome_of(put(new, b"w")))
        await cluster.wait_for(lambda: failures, "the snapshot has failed")
        await asyncio.sleep(0.2)
        assert stale.parts.storage.last_index() > new.parts.raw.last_index > before
        assert new.parts.raw.progress[stale.number].match < new.parts.raw.commit == before
        assert not writing.done() or known_not_to_have_happened(writing.result())
        assert isinstance(stale.stopped_by, DiskFailed)
        stale.disk.fault = None
        await stale.crash()
        await stale.start()
        await cluster.wait_for(lambda: new.parts.raw.commit > before, "the write is committed")
        assert stale.parts.storage.last_index() > before
        await writing
        await new.crash()
        lose_what_is_under_way(cluster)
        cluster.network.heal()
        await cluster.wait_for(lambda: stale.replica.is_leader, "the one that has it leads")
        assert await get(third, b"w") == b"x"
        await assert_identical(cluster)

    play(tmp_path, scene)

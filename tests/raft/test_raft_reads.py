"""ReadIndex: a read point is given only when no later leader can have committed more."""

from __future__ import annotations

import pytest

from dqlite_py.raft import (
    Message,
    MessageKind,
    ReadOnlyMode,
    ReadState,
    Role,
)
from tests.kit.raft_cluster import ELECTION_TICK, Cluster, of_kind


def _lead_without_commit(cluster: Cluster, member: int) -> None:
    cluster[member].campaign()
    cluster.settle(of_kind(MessageKind.VOTE, MessageKind.VOTE_RESP))
    assert cluster[member].role is Role.LEADER


def test_read_waits_for_a_quorum_that_answers_after_it() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.tick(1)
    cluster.work(1)
    earlier = cluster.take(of_kind(MessageKind.HEARTBEAT))
    leader.read_index(b"read")
    cluster.work(1)
    later = cluster.take(of_kind(MessageKind.HEARTBEAT))
    for heartbeat in earlier:
        cluster.deliver(heartbeat)
    cluster.settle()
    assert cluster.reads[1] == []  # those answers prove nothing about the present
    cluster.deliver(later[0])
    cluster.settle()
    assert cluster.reads[1] == [ReadState(leader.commit, b"read")]


def test_echo_confirms_only_the_reads_before_it() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.read_index(b"first")
    cluster.work(1)
    early = cluster.take(of_kind(MessageKind.HEARTBEAT))
    cluster.isolate(1)
    leader.read_index(b"second")
    cluster.settle()
    cluster.heal()
    for heartbeat in early:
        cluster.deliver(heartbeat)
    cluster.settle()
    assert [read.context for read in cluster.reads[1]] == [b"first"]


def test_read_of_a_lost_term_is_not_answered_in_a_later_one() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(1)
    cluster[1].read_index(b"lost")
    cluster.settle()
    cluster.elect(2)
    cluster[2].propose([b"newer"])
    cluster.settle()
    cluster.heal()
    cluster.tick(2)
    cluster.settle()
    cluster.elect(1)
    cluster[1].read_index(b"fresh")
    cluster.settle()
    assert [read.context for read in cluster.reads[1]] == [b"fresh"]


def test_read_on_a_cut_off_leader_is_never_answered() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(1)
    cluster[1].read_index(b"old")
    cluster.settle()
    cluster.elect(2)
    cluster[2].propose([b"newer"])
    cluster.settle()
    cluster.tick(1, 3)
    cluster.settle()
    cluster.heal()
    cluster.tick(2)
    cluster.settle()
    assert cluster[1].role is Role.FOLLOWER
    assert cluster.reads[1] == []


@pytest.mark.parametrize("voters", [(1,), (1, 2, 3)])
@pytest.mark.parametrize("mode", list(ReadOnlyMode))
def test_read_waits_for_the_first_commit_of_the_term(
    voters: tuple[int, ...], mode: ReadOnlyMode
) -> None:
    """A new leader's commit index may lag behind what its predecessor acknowledged."""
    cluster = Cluster(
        voters=voters,
        logs=dict.fromkeys(voters, (1, 1)),
        read_only=mode,
        check_quorum=True,
    )
    cluster.slow_disks.add(1)
    leader = cluster[1]
    leader.campaign()
    cluster.work(1)
    cluster.finish_writes(1)
    cluster.settle(of_kind(MessageKind.VOTE, MessageKind.VOTE_RESP))
    assert leader.role is Role.LEADER
    leader.read_index(b"read")
    cluster.work(1)
    assert leader.commit == 1
    assert cluster.reads[1] == []
    cluster.slow_disks.clear()
    cluster.finish_writes(1)
    cluster.settle()
    assert cluster.reads[1] == [ReadState(leader.term_start_index, b"read")]


def test_followers_and_learners_read_through_the_leader() -> None:
    cluster = Cluster(voters=(1, 2), learners=(3,))
    leader = cluster.elect(1)
    for member in (2, 3):
        cluster[member].read_index(b"%d" % member)
    cluster.settle()
    assert cluster.reads[2] == [ReadState(leader.commit, b"2")]
    assert cluster.reads[3] == [ReadState(leader.commit, b"3")]


def test_answers_of_learners_confirm_no_read() -> None:
    cluster = Cluster(voters=(1, 2), learners=(3, 4))
    cluster.elect(1)
    cluster.isolate(2)
    cluster[1].read_index(b"read")
    cluster.settle()
    assert cluster.reads[1] == []
    cluster.heal()
    cluster.tick(1)  # the next heartbeat asks again
    cluster.settle()
    assert len(cluster.reads[1]) == 1


def test_echo_of_an_earlier_term_confirms_no_read() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster[1].read_index(b"one")
    cluster.work(1)
    old = cluster.take(of_kind(MessageKind.HEARTBEAT))
    old_answers = [
        Message(MessageKind.HEARTBEAT_RESP, to=1, from_=m.to, term=m.term, context=m.context)
        for m in old
    ]
    cluster.elect(2)
    cluster.elect(1)
    cluster.isolate(1)
    cluster[1].read_index(b"two")
    cluster.settle()
    for answer in old_answers:
        cluster.deliver(answer)
    assert cluster.reads[1] == []


def test_reads_of_two_members_with_the_same_context_are_both_answered() -> None:
    cluster = Cluster()
    cluster.elect(1)
    for member in (1, 2, 3):
        cluster[member].read_index(b"same")
    cluster.settle()
    assert [len(cluster.reads[member]) for member in (1, 2, 3)] == [1, 1, 1]


def test_reads_beyond_the_limit_are_dropped() -> None:
    cluster = Cluster(max_pending_reads=2)
    _lead_without_commit(cluster, 1)
    for context in (b"1", b"2", b"3"):
        cluster[1].read_index(context)
    cluster.settle()
    assert [read.context for read in cluster.reads[1]] == [b"1", b"2"]


def test_follower_relays_no_read_of_another_member() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.deliver(Message(MessageKind.READ_INDEX, to=2, from_=3, context=b"misdirected"))
    cluster.settle()
    assert cluster.reads[2] == cluster.reads[3] == []


def test_read_without_a_leader_is_dropped() -> None:
    cluster = Cluster()
    cluster[1].read_index(b"read")
    cluster.settle()
    assert cluster.reads[1] == []


def test_lease_read_needs_no_round_but_ends_with_the_lease() -> None:
    cluster = Cluster(check_quorum=True, read_only=ReadOnlyMode.LEASE_BASED)
    leader = cluster.elect(1)
    leader.read_index(b"now")
    cluster.work(1)
    assert cluster.reads[1] == [ReadState(leader.commit, b"now")]
    cluster.isolate(1)
    cluster.tick(1, 2 * ELECTION_TICK)
    leader.read_index(b"late")
    cluster.settle()
    assert len(cluster.reads[1]) == 1


def test_lease_based_reads_need_check_quorum() -> None:
    with pytest.raises(ValueError, match="check_quorum"):
        Cluster(read_only=ReadOnlyMode.LEASE_BASED)

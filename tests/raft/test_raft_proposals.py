"""Proposals, strangers, and members that come back."""

from __future__ import annotations

import pytest

from dqlite_py.raft import (
    LocalMessage,
    Message,
    MessageKind,
    PeerNotFound,
    ProposalDropped,
    Role,
)
from tests.kit.raft_cluster import ELECTION_TICK, Cluster, of_kind


def test_duplicated_forwarded_proposal_makes_separate_entries() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster[2].propose([b"x"])
    cluster.work(2)
    (forwarded,) = cluster.take(of_kind(MessageKind.PROP))
    cluster.deliver(forwarded)
    cluster.deliver(forwarded)
    first, second = cluster.storages[1].entries(leader.last_index - 1, leader.last_index + 1, 99)
    assert (first.index, second.index) == (leader.last_index - 1, leader.last_index)
    assert forwarded.entries[0].index == 0
    cluster.settle()
    assert cluster.data(3) == [b"x", b"x"]


def test_forwarding_can_be_disabled() -> None:
    cluster = Cluster(disable_proposal_forwarding=True)
    cluster.elect(1)
    with pytest.raises(ProposalDropped):
        cluster[2].propose([b"x"])


def test_group_proposal_is_all_or_nothing_and_positions_are_known_at_once() -> None:
    cluster = Cluster(max_uncommitted_bytes=100)
    leader = cluster.elect(1)
    cluster.isolate(1)
    before = leader.last_index
    leader.propose([b"a", b"b", b"c"])
    assert leader.last_index == before + 3
    with pytest.raises(ProposalDropped):
        leader.propose([b"d", b"e" * 98])
    assert leader.last_index == before + 3


def test_uncommitted_limit_is_freed_by_applying() -> None:
    cluster = Cluster(max_uncommitted_bytes=10)
    leader = cluster.elect(1)
    for _ in range(5):
        leader.propose([b"x" * 10])
        cluster.settle()
    assert len(cluster.data(2)) == 5


def test_local_kinds_and_strangers_are_refused() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    with pytest.raises(LocalMessage):
        leader.step(Message(MessageKind.HUP, to=1, from_=2))
    with pytest.raises(LocalMessage):
        leader.step(Message(MessageKind.STORAGE_APPEND_RESP, to=1, from_=2, index=1))
    with pytest.raises(LocalMessage):
        leader.step(Message(MessageKind.APP_RESP, to=1, from_=2, index=2))  # without its term
    with pytest.raises(PeerNotFound):
        leader.step(Message(MessageKind.APP_RESP, to=1, from_=9, term=leader.term, index=1))


def test_partitioned_member_with_pre_vote_does_not_depose_the_leader() -> None:
    cluster = Cluster(check_quorum=True, pre_vote=True)
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.tick(3, 5 * ELECTION_TICK)
    cluster.settle()
    cluster.heal()
    term = leader.term
    cluster.tick(1)
    cluster.settle()
    assert (leader.role, leader.term, cluster[3].leader_id) == (Role.LEADER, term, 1)


def test_member_of_a_later_term_is_not_cut_off_for_ever() -> None:
    cluster = Cluster(check_quorum=True)
    cluster.elect(1)
    cluster.isolate(3)
    cluster[3].campaign()  # without pre-vote its term moves ahead
    cluster.settle()
    cluster.heal()
    for _ in range(4 * ELECTION_TICK):
        for member in (1, 2, 3):
            cluster.tick(member)
            cluster.settle()
    assert len({cluster[member].term for member in (1, 2, 3)}) == 1
    assert cluster[1].leader_id == cluster[2].leader_id == cluster[3].leader_id != 0

"""What a member does not do: messages for another role, changes that do not fit."""

from __future__ import annotations

import pytest

from dqlite_py.raft import (
    Compacted,
    ConfChange,
    ConfChangeKind,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeV2,
    ConfState,
    Entry,
    EntryKind,
    InvalidConfChange,
    InvariantBroken,
    Message,
    MessageKind,
    ProposalDropped,
    Role,
    Snapshot,
)
from dqlite_py.raft.confchange import Changer, Configuration
from dqlite_py.raft.config import ReadOnlyMode
from dqlite_py.raft.errors import SnapshotOutOfDate
from dqlite_py.raft.log import RaftLog
from dqlite_py.raft.messages import NO_LIMIT
from dqlite_py.raft.quorum import INFINITE_INDEX, JointConfig, MajorityConfig
from dqlite_py.raft.unstable import UnstableLog
from tests.kit.raft_cluster import Cluster, of_kind, storage_with

THREE = ConfState((1, 2, 3))


def test_proposal_to_a_candidate_is_dropped() -> None:
    cluster = Cluster()
    candidate = cluster[1]
    candidate.campaign()
    with pytest.raises(ProposalDropped, match="no leader"):
        candidate.propose([b"x"])
    assert cluster.log(1) == []


def test_candidate_is_not_told_to_campaign_again() -> None:
    cluster = Cluster()
    candidate = cluster[1]
    candidate.campaign()
    term = candidate.term
    candidate.step(Message(MessageKind.TIMEOUT_NOW, to=1, from_=2, term=term))
    assert (candidate.role, candidate.term) == (Role.CANDIDATE, term)
    assert "TimeoutNowReceived" in {type(event).__name__ for event in cluster.events}


def test_pre_vote_of_an_earlier_term_is_refused_with_the_present_one() -> None:
    cluster = Cluster(pre_vote=True)
    cluster.elect(1)
    cluster[1].step(Message(MessageKind.PRE_VOTE, to=1, from_=2, term=1, index=9, log_term=9))
    cluster.work(1)
    (answer,) = cluster.take(of_kind(MessageKind.PRE_VOTE_RESP))
    assert (answer.to, answer.term, answer.reject) == (2, cluster[1].term, True)


def test_transfer_asked_of_a_member_without_a_leader_goes_nowhere() -> None:
    cluster = Cluster()
    cluster[1].transfer_leader(2)
    cluster.work(1)
    assert cluster.network == []


def test_follower_forgets_its_leader_unless_reads_rest_on_the_lease() -> None:
    cluster = Cluster(pre_vote=True, check_quorum=True)
    cluster.elect(1)
    cluster[2].forget_leader()
    assert cluster[2].leader_id == 0
    cluster[2].forget_leader()
    assert cluster[2].leader_id == 0
    leased = Cluster(check_quorum=True, read_only=ReadOnlyMode.LEASE_BASED)
    leased.elect(1)
    leased[2].forget_leader()
    assert leased[2].leader_id == 1


def test_empty_proposal_is_dropped() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    before = leader.last_index
    with pytest.raises(ProposalDropped, match="empty"):
        leader.propose([])
    assert leader.last_index == before


def test_proposal_of_an_unreadable_membership_change_is_dropped() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    before = leader.last_index
    entries = (Entry(0, 0, EntryKind.CONF_CHANGE, b"\xff"),)
    with pytest.raises(ProposalDropped):
        leader.step(Message(MessageKind.PROP, to=1, from_=2, entries=entries))
    assert leader.last_index == before


def test_membership_change_beside_data_keeps_its_place_in_the_proposal() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    other = Cluster((1,))
    other.elect(1).propose_conf_change(ConfChange(ConfChangeKind.ADD_NODE, 4))
    other.settle()
    change = next(e for e in other.applied[1] if e.kind is EntryKind.CONF_CHANGE)
    entries = (Entry(0, 0, EntryKind.NORMAL, b"a"), change, Entry(0, 0, EntryKind.NORMAL, b"b"))
    first = leader.last_index + 1
    leader.step(Message(MessageKind.PROP, to=1, from_=2, entries=entries))
    cluster.settle()
    found = [(e.index, e.kind, e.data) for e in cluster.applied[3] if e.index >= first]
    kinds = (EntryKind.NORMAL, EntryKind.CONF_CHANGE, EntryKind.NORMAL)
    assert found == [
        (first + place, kind, entry.data)
        for place, (kind, entry) in enumerate(zip(kinds, entries, strict=True))
    ]
    assert cluster[3].conf_state.voters == (1, 2, 3, 4)


def test_removing_the_successor_ends_the_transfer() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.propose_conf_change(ConfChange(ConfChangeKind.REMOVE_NODE, 3))
    leader.transfer_leader(3)
    with pytest.raises(ProposalDropped, match="transferred"):
        leader.propose([b"during"])
    cluster.settle(lambda m: m.kind != MessageKind.TIMEOUT_NOW)
    leader.propose([b"after"])
    cluster.settle(lambda m: m.kind != MessageKind.TIMEOUT_NOW)
    assert cluster.data(2) == [b"after"]


def test_leader_without_voters_commits_nothing() -> None:
    assert MajorityConfig().committed_index({1: 5}) == INFINITE_INDEX
    assert JointConfig.of((1, 2, 3)).committed_index({1: 5, 2: 4}) == 4


def test_silent_follower_is_named_inactive() -> None:
    cluster = Cluster(check_quorum=True)
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.tick(1, 10)
    cluster.settle()
    assert "inactive" in str(leader.progress[3])
    assert "inactive" not in str(leader.progress[1])


def changer(state: ConfState) -> Changer:
    start = Changer(Configuration(), {}, 1, 8, 0).restore(state)
    return Changer(*start, 1, 8, 0)


def test_joint_configuration_is_left_before_anything_else_changes() -> None:
    joint = changer(ConfState((1, 2), voters_outgoing=(1, 2, 3)))
    change = (ConfChangeSingle(ConfChangeKind.ADD_NODE, 4),)
    with pytest.raises(InvalidConfChange, match="joint"):
        joint.simple(change)
    with pytest.raises(InvalidConfChange, match="already joint"):
        joint.enter_joint(change, auto_leave=True)
    with pytest.raises(InvalidConfChange, match="zero-voter"):
        changer(ConfState()).enter_joint(change, auto_leave=True)


def test_member_that_is_voter_and_learner_is_an_invariant_violation() -> None:
    with pytest.raises(InvariantBroken, match="both voter and learner"):
        changer(ConfState((1, 2), learners=(2,)))


def test_log_gives_nothing_from_before_its_start() -> None:
    log = RaftLog(storage_with(THREE, (1, 1, 1), start=5), NO_LIMIT, None)
    with pytest.raises(Compacted):
        log.slice(5, 7, NO_LIMIT)
    assert [entry.index for entry in log.slice(6, 8, NO_LIMIT)] == [6, 7]


@pytest.mark.parametrize("index", [4, 7])
def test_applying_never_goes_back_or_ahead_of_the_commit_index(index: int) -> None:
    log = RaftLog(storage_with(THREE, (1, 1, 1), start=5), NO_LIMIT, None)
    log.commit_to(6)
    with pytest.raises(InvariantBroken, match="outside"):
        log.applied_to(index, 0)


def test_gap_in_the_unstable_log_is_an_invariant_violation() -> None:
    unstable = UnstableLog(5, None)
    with pytest.raises(InvariantBroken, match="gap"):
        unstable.truncate_and_append([Entry(1, 6)])
    assert unstable.entries == []


def test_report_of_another_snapshot_keeps_the_one_being_installed() -> None:
    unstable = UnstableLog(5, None)
    unstable.restore(Snapshot(9, 2, THREE))
    unstable.stable_snapshot_to(8)
    assert unstable.snapshot is not None
    unstable.stable_snapshot_to(9)
    assert unstable.snapshot is None


def test_memory_storage_refuses_gaps_and_what_it_has_already() -> None:
    storage = storage_with(THREE, (1, 1, 1), start=5)
    with pytest.raises(InvariantBroken, match="gap"):
        storage.append([Entry(1, 10)])
    with pytest.raises(SnapshotOutOfDate):
        storage.create_snapshot(5, THREE)
    with pytest.raises(Compacted):
        storage.compact(5)
    assert storage.last_index() == 8


def test_compacted_log_without_a_snapshot_stops_the_leader() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose([b"x"])
    cluster.settle()
    cluster.storages[1].compact(leader.applied)
    cluster.storages[1].snapshot = lambda: Snapshot(0, 0, ConfState())  # type: ignore[method-assign]
    cluster.heal()
    cluster.tick(1)
    with pytest.raises(InvariantBroken, match="no snapshot"):
        cluster.settle()


def eventful(traced: bool) -> tuple[Cluster, list[Message]]:
    """Go through what is traced: refusals, a transfer, a snapshot, a joint change, an election."""
    settings = {} if traced else {"trace": None}
    cluster = Cluster(learners=(4,), pre_vote=True, check_quorum=True, max_pending_reads=1,
                      max_uncommitted_bytes=100, **settings)  # fmt: skip
    sent: list[Message] = []

    def keep(message: Message) -> bool:
        sent.append(message)
        return True

    cluster[2].transfer_leader(3)
    cluster[2].read_index(b"r")
    leader = cluster.elect(1)
    cluster[2].step(Message(MessageKind.PRE_VOTE, to=2, from_=3, term=1))
    cluster.isolate(3)
    leader.read_index(b"1")
    leader.read_index(b"2")
    leader.propose([b"x"])
    cluster.settle(keep)
    cluster.compact(1)
    cluster.heal()
    cluster.tick(1, 10)
    cluster.settle(keep)
    changes = (ConfChangeSingle(ConfChangeKind.REMOVE_NODE, 3),)
    leader.propose_conf_change(ConfChangeV2(ConfChangeTransition.JOINT_IMPLICIT, changes))
    leader.propose_conf_change(ConfChangeV2(changes=changes))
    cluster.settle(keep)
    leader.transfer_leader(4)
    leader.transfer_leader(2)
    cluster.settle(keep)
    cluster[4].forget_leader()
    cluster.isolate(2)
    cluster.tick(2, 20)
    cluster.settle(keep)
    cluster[1].campaign()
    cluster[1].campaign()
    cluster.settle(keep)
    return cluster, sent


def test_tracing_changes_nothing() -> None:
    traced, sent = eventful(traced=True)
    silent, sent_silently = eventful(traced=False)
    assert sent == sent_silently
    assert traced.events
    assert not silent.events
    for member in traced.nodes:
        assert traced.log(member) == silent.log(member)
        assert traced[member].role is silent[member].role


def test_snapshot_without_this_member_is_refused() -> None:
    for settings in ({}, {"trace": None}):
        cluster = Cluster(**settings)
        snapshot = Snapshot(9, 1, ConfState((1, 2)))
        cluster.deliver(Message(MessageKind.SNAP, to=3, from_=1, term=2, snapshot=snapshot))
        (answer,) = cluster.take(of_kind(MessageKind.APP_RESP))
        assert (answer.index, cluster[3].conf_state.voters) == (1, (1, 2, 3))


def test_leaving_a_joint_configuration_waits_for_a_transfer_to_end() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    changes = (ConfChangeSingle(ConfChangeKind.ADD_LEARNER_NODE, 4),)
    leader.propose_conf_change(ConfChangeV2(ConfChangeTransition.JOINT_IMPLICIT, changes))
    leader.transfer_leader(3)
    cluster.settle()
    assert leader.conf_state.voters_outgoing == (1, 2, 3)
    assert "LeavingJointDelayed" in {type(event).__name__ for event in cluster.events}
    cluster.heal()
    cluster.tick(1, 10)
    cluster.settle(lambda m: m.kind != MessageKind.TIMEOUT_NOW)
    assert (leader.conf_state.voters_outgoing, leader.conf_state.learners) == ((), (4,))


def test_second_snapshot_that_comes_during_the_first_one_is_the_one_that_counts() -> None:
    cluster = Cluster()
    cluster.slow_disks.add(3)
    for index, voters in ((9, (1, 2, 3)), (12, (1, 3))):
        snapshot = Snapshot(index, 1, ConfState(voters))
        cluster.deliver(Message(MessageKind.SNAP, to=3, from_=1, term=2, snapshot=snapshot))
    assert cluster.storages[3].snapshot().index == 1
    while cluster.storages[3].snapshot().index == 1:
        cluster.finish_writes(3, 1)
    assert (cluster[3].applied, cluster[3].conf_state.voters) == (9, (1, 3))
    cluster.finish_writes(3)
    assert (cluster[3].applied, cluster[3].conf_state.voters) == (12, (1, 3))

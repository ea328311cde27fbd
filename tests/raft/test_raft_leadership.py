"""Elections, leadership transfer, and members that must not lead."""

from __future__ import annotations

import pytest

from dqlite_py.raft import (
    ConfChange,
    ConfChangeKind,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeV2,
    ConfState,
    EntryKind,
    HardState,
    InvalidConfChange,
    Message,
    MessageKind,
    ProposalDropped,
    Role,
)
from tests.kit.raft_cluster import ELECTION_TICK, Cluster, of_kind, storage_with


def test_member_votes_once_a_term_even_across_a_crash() -> None:
    cluster = Cluster()
    request = Message(MessageKind.VOTE, to=3, from_=1, term=5, log_term=1, index=1)
    cluster.deliver(request)
    cluster.restart(3)
    rival = Message(MessageKind.VOTE, to=3, from_=2, term=5, log_term=1, index=1)
    cluster.deliver(rival)
    cluster.deliver(request)  # asked again by the same candidate, it repeats its answer
    assert [answer.reject for answer in cluster.network] == [False, True, False]


def test_vote_is_refused_to_a_shorter_or_older_log() -> None:
    cluster = Cluster(logs={3: [1, 2]})
    for log_term, index, granted in ((1, 9, False), (2, 2, False), (2, 3, True)):
        term = cluster[3].term + 1
        cluster.deliver(
            Message(MessageKind.VOTE, to=3, from_=1, term=term, log_term=log_term, index=index)
        )
        assert cluster.network.pop().reject is not granted


def test_answer_counts_once_for_each_voter() -> None:
    cluster = Cluster(voters=(1, 2, 3, 4, 5))
    cluster[1].campaign()
    cluster.work(1)
    for _ in range(3):
        cluster[1].step(Message(MessageKind.VOTE_RESP, to=1, from_=2, term=cluster[1].term))
    assert cluster[1].role is Role.CANDIDATE


def test_learner_neither_campaigns_nor_counts() -> None:
    cluster = Cluster(voters=(1, 2), learners=(3,))
    cluster.tick(3, 3 * ELECTION_TICK)
    cluster[3].campaign()
    cluster.work(3)
    assert cluster[3].role is Role.FOLLOWER
    assert cluster.network == []
    leader = cluster.elect(1)
    assert cluster[3].is_learner
    cluster.isolate(2)
    committed = leader.commit
    leader.propose([b"x"])
    cluster.settle()
    assert leader.progress[3].match == leader.last_index
    assert leader.commit == committed


def test_vote_of_a_learner_does_not_count() -> None:
    cluster = Cluster(voters=(1, 2), learners=(3,))
    cluster[1].campaign()
    cluster.work(1)
    cluster[1].step(Message(MessageKind.VOTE_RESP, to=1, from_=3, term=cluster[1].term))
    assert cluster[1].role is Role.CANDIDATE


def test_learner_does_not_keep_a_leader_alive() -> None:
    cluster = Cluster(voters=(1, 2), learners=(3,), check_quorum=True)
    cluster.elect(1)
    cluster.isolate(2)
    for _ in range(2 * ELECTION_TICK):
        cluster.tick(1)
        cluster.settle()
    assert cluster[1].role is Role.FOLLOWER


def test_promoted_learner_counts() -> None:
    cluster = Cluster(voters=(1, 2), learners=(3,))
    leader = cluster.elect(1)
    leader.propose_conf_change(ConfChange(ConfChangeKind.ADD_NODE, 3))
    assert leader.has_pending_conf_change
    cluster.settle()
    assert not leader.has_pending_conf_change
    assert leader.conf_state == ConfState((1, 2, 3))
    cluster.isolate(2)
    leader.propose([b"x"])
    cluster.settle()
    assert leader.commit == leader.last_index


def test_transfer_brings_a_lagging_member_up_to_date_first() -> None:
    cluster = Cluster(check_quorum=True, pre_vote=True)
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose([b"x"])
    cluster.settle()
    cluster.heal()
    leader.transfer_leader(3)
    cluster.work(1)
    assert not cluster.take(of_kind(MessageKind.TIMEOUT_NOW))
    assert leader.lead_transferee == 3
    with pytest.raises(ProposalDropped):
        leader.propose([b"y"])
    # The appends it missed were lost; the answer to a heartbeat reveals that.
    cluster.tick(1)
    cluster.settle()
    assert cluster[3].role is Role.LEADER
    assert cluster[1].leader_id == 3
    assert cluster.data(3) == [b"x"]


def test_transfer_to_a_dead_member_is_given_up() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.transfer_leader(3)
    cluster.settle()
    cluster.tick(1, ELECTION_TICK)
    assert leader.lead_transferee == 0
    leader.propose([b"x"])
    cluster.settle()
    assert cluster.data(2) == [b"x"]


def test_transfer_can_be_asked_of_a_follower() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster[2].transfer_leader(3)
    cluster.settle()
    assert cluster[3].role is Role.LEADER


@pytest.mark.parametrize("target", [1, 3, 9])
def test_transfer_to_self_a_learner_or_a_stranger_has_no_effect(target: int) -> None:
    cluster = Cluster(voters=(1, 2), learners=(3,))
    leader = cluster.elect(1)
    leader.transfer_leader(target)
    cluster.settle()
    assert leader.lead_transferee == 0
    leader.propose([b"x"])


def test_transfer_to_another_member_replaces_the_first() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.transfer_leader(3)
    leader.transfer_leader(2)
    cluster.settle()
    assert cluster[2].role is Role.LEADER


@pytest.mark.parametrize("steps_down", [False, True])
def test_removed_leader_neither_counts_nor_proposes(steps_down: bool) -> None:
    cluster = Cluster(step_down_on_removal=steps_down)
    leader = cluster.elect(1)
    leader.propose_conf_change(ConfChange(ConfChangeKind.REMOVE_NODE, 1))
    cluster.settle()
    assert cluster[2].conf_state == ConfState((2, 3))
    assert (leader.role is Role.FOLLOWER) is steps_down
    with pytest.raises(ProposalDropped):
        leader.propose([b"x"])
    leader.campaign()
    cluster.elect(2)
    cluster[2].propose([b"y"])
    cluster.settle()
    assert cluster.data(3) == [b"y"]


def test_removed_member_cannot_disturb_the_others() -> None:
    cluster = Cluster(check_quorum=True, pre_vote=True)
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose_conf_change(ConfChange(ConfChangeKind.REMOVE_NODE, 3))
    cluster.settle()
    cluster.heal()
    term = leader.term
    cluster.tick(3, 2 * ELECTION_TICK)
    cluster.settle()
    assert (leader.role, leader.term) == (Role.LEADER, term)


def test_member_with_an_unapplied_membership_change_does_not_campaign() -> None:
    cluster = Cluster(logs={1: [1]}, hard_states={1: HardState(1, 0, 2)})
    change = ConfChange(ConfChangeKind.REMOVE_NODE, 3)
    leader = cluster.elect(1)
    leader.propose_conf_change(change)
    cluster.slow_disks.add(2)
    cluster.settle()
    while cluster[2].commit < leader.commit:
        cluster.finish_writes(2, 1)
        cluster.tick(1)
        cluster.settle()
    assert cluster[2].applied < cluster[2].commit
    cluster[2].campaign()
    assert cluster[2].role is Role.FOLLOWER


def test_one_membership_change_at_a_time() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.propose_conf_change(ConfChange(ConfChangeKind.REMOVE_NODE, 2))
    leader.propose_conf_change(ConfChange(ConfChangeKind.REMOVE_NODE, 3))
    cluster.settle()
    assert leader.conf_state == ConfState((1, 3))


def test_refused_change_that_does_not_fit_the_limit_blocks_nothing() -> None:
    cluster = Cluster(max_uncommitted_bytes=30)
    leader = cluster.elect(1)
    cluster.isolate(1)
    leader.propose([b"x" * 25])
    with pytest.raises(ProposalDropped):
        leader.propose_conf_change(ConfChange(ConfChangeKind.REMOVE_NODE, 2))
    assert not leader.has_pending_conf_change


def test_removing_a_voter_commits_at_once_what_the_smaller_majority_holds() -> None:
    cluster = Cluster(voters=(1, 2, 3, 4))
    leader = cluster.elect(1)
    appends = []
    for propose in (
        lambda: leader.propose_conf_change(ConfChange(ConfChangeKind.REMOVE_NODE, 4)),
        lambda: leader.propose([b"x"]),
    ):
        propose()
        cluster.work(1)
        appends.append({m.to: m for m in cluster.take(of_kind(MessageKind.APP))})
    removal, x = appends
    for message in (removal[2], x[2], removal[3]):
        cluster.deliver(message)
    assert leader.commit < leader.last_index
    cluster.settle(lambda message: message.to == 1)
    assert leader.conf_state == ConfState((1, 2, 3))
    assert cluster.data(1) == [b"x"]


def test_joint_change_needs_both_majorities_and_ends_by_itself() -> None:
    cluster = Cluster(voters=(1, 2, 3))
    for member in (4, 5):
        cluster.start(member, storage_with(ConfState((1, 2, 3))))
    leader = cluster.elect(1)
    swap = ConfChangeV2(
        ConfChangeTransition.AUTO,
        tuple(
            ConfChangeSingle(kind, member)
            for kind, member in (
                (ConfChangeKind.REMOVE_NODE, 2),
                (ConfChangeKind.REMOVE_NODE, 3),
                (ConfChangeKind.ADD_NODE, 4),
                (ConfChangeKind.ADD_NODE, 5),
            )
        ),
    )
    for member in (4, 5):
        cluster.isolate(member)
    leader.propose_conf_change(swap)
    cluster.settle()
    assert leader.conf_state == ConfState((1, 4, 5), (1, 2, 3), auto_leave=True)
    stuck_at = leader.commit
    leader.propose([b"x"])
    cluster.settle()
    assert leader.commit == stuck_at  # the old majority alone decides nothing any more
    cluster.heal()
    cluster.tick(1)
    cluster.settle()
    assert leader.conf_state == ConfState((1, 4, 5))
    assert cluster.data(4) == cluster.data(1)


def test_change_that_does_not_fit_leaves_the_configuration_alone() -> None:
    node = Cluster()[1]
    with pytest.raises(InvalidConfChange):
        node.apply_conf_change(ConfChangeV2())
    assert node.conf_state == ConfState((1, 2, 3))


@pytest.mark.parametrize(
    "change",
    [
        ConfChangeV2(),
        ConfChangeV2(changes=(ConfChangeSingle(ConfChangeKind.REMOVE_NODE, 1),) * 2),
    ],
)
def test_change_that_could_not_be_applied_is_not_appended(change: ConfChangeV2) -> None:
    cluster = Cluster(voters=(1,))
    leader = cluster.elect(1)
    leader.propose_conf_change(change)
    cluster.settle()
    assert cluster.applied[1][-1].kind == EntryKind.NORMAL
    assert leader.conf_state == ConfState((1,))


def test_empty_change_with_explicit_transition_does_not_pass_for_leaving() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    enter = ConfChangeV2(ConfChangeTransition.JOINT_EXPLICIT)
    for _ in range(2):
        leader.propose_conf_change(enter)
        cluster.settle()
    assert leader.conf_state == ConfState((1, 2, 3), (1, 2, 3))
    leader.propose_conf_change(ConfChangeV2())
    cluster.settle()
    assert leader.conf_state == ConfState((1, 2, 3))


def test_acknowledgement_by_a_removed_leader_itself_is_no_error() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.propose_conf_change(ConfChange(ConfChangeKind.REMOVE_NODE, 1))
    cluster.settle()
    own = Message(MessageKind.APP_RESP, to=1, from_=1, term=leader.term, index=2)
    committed = leader.commit
    leader.step(own)
    assert leader.commit == committed

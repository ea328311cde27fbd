"""What comes late or from outside must not undo what is going well."""

from __future__ import annotations

from dqlite_py.raft import (
    ConfChange,
    ConfChangeKind,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    Role,
)
from tests.kit.raft_cluster import ELECTION_TICK, Cluster


def test_candidate_with_a_good_log_does_not_depose_a_leader_that_is_heard() -> None:
    cluster = Cluster(check_quorum=True)
    leader = cluster.elect(1)
    term = leader.term
    cluster.isolate(3)
    cluster.tick(3, 2 * ELECTION_TICK)
    cluster.work(3)
    assert cluster[3].role is Role.CANDIDATE
    cluster.heal()
    for message in cluster.take(lambda message: message.from_ == 3):
        assert message.kind is MessageKind.VOTE
        cluster.deliver(message)
    assert leader.role is Role.LEADER
    assert {cluster[member].term for member in (1, 2)} == {term}


def test_write_report_of_an_earlier_term_says_nothing_about_an_entry_that_came_again() -> None:
    cluster = Cluster()
    cluster.slow_disks.add(3)
    unstable = cluster[3].raft.log.unstable
    # Written, replaced, and sent again: only the last of three writes makes it durable.
    for term, sender, entry in ((2, 1, Entry(2, 2)), (3, 2, Entry(3, 2)), (4, 1, Entry(2, 2))):
        append = Message(
            MessageKind.APP, 3, sender, term=term, log_term=1, index=1, entries=(entry,)
        )
        cluster.deliver(append)
    for _ in range(2):
        cluster.finish_writes(3, 1)
        assert unstable.entries == [Entry(2, 2)]
    cluster.finish_writes(3)
    cluster.work(3)
    assert unstable.entries == []
    assert cluster.log(3) == [(2, 2)]


def test_membership_change_that_is_committed_but_not_applied_still_excludes_another() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.slow_disks.add(1)  # the others commit it before this member can apply it
    leader.propose_conf_change(ConfChange(ConfChangeKind.ADD_NODE, 4))
    cluster.settle()
    assert leader.commit == leader.last_index > leader.applied
    leader.propose_conf_change(ConfChange(ConfChangeKind.ADD_NODE, 5))
    (refused,) = leader.raft.log.unstable.entries[-1:]
    assert (refused.index, refused.kind) == (leader.last_index, EntryKind.NORMAL)

"""When a member takes a snapshot, and what it may promise about it."""

from __future__ import annotations

import pytest

from dqlite_py.raft import (
    Compacted,
    ConfChange,
    ConfChangeKind,
    ConfState,
    HardState,
    MemoryStorage,
    Message,
    MessageKind,
    ProgressState,
    Role,
    Snapshot,
    SnapshotOutOfDate,
    SnapshotTemporarilyUnavailable,
    Unavailable,
)
from tests.kit.raft_cluster import ELECTION_TICK, Cluster, of_kind

_VOTERS = ConfState((1, 2, 3))


def _snapshot_message(index: int, term: int, state: ConfState = _VOTERS) -> Message:
    return Message(
        MessageKind.SNAP, to=3, from_=1, term=term, snapshot=Snapshot(index, term, state, b"state")
    )


def _behind_a_compacted_leader() -> Cluster:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose([b"a", b"b"])
    cluster.settle()
    cluster.compact(1)
    cluster.heal()
    return cluster


def test_member_behind_the_log_is_caught_up_by_a_snapshot() -> None:
    cluster = _behind_a_compacted_leader()
    leader = cluster[1]
    cluster.tick(1)
    cluster.settle()
    assert cluster.storages[3].snapshot().index == leader.commit
    assert cluster[3].applied == leader.commit
    assert leader.progress[3].state is ProgressState.REPLICATE
    leader.propose([b"c"])
    cluster.settle()
    assert cluster.data(3) == [b"c"]


def test_snapshot_is_acknowledged_only_after_it_is_installed() -> None:
    cluster = _behind_a_compacted_leader()
    cluster.tick(1)
    cluster.settle(lambda message: message.kind != MessageKind.SNAP)
    cluster.slow_disks.add(3)
    cluster.settle()
    assert cluster[1].progress[3].state is ProgressState.SNAPSHOT
    assert cluster[3].applied < cluster[1].commit
    cluster.restart(3)  # the installation failed: nothing was acknowledged, the old log is intact
    assert cluster[3].commit < cluster[1].commit
    cluster.slow_disks.clear()
    cluster[1].report_snapshot(3, False)
    cluster.tick(1)
    cluster.settle()
    assert cluster[3].applied == cluster[1].commit


def test_commit_index_does_not_move_with_an_unusable_snapshot() -> None:
    cluster = Cluster(logs={3: [1, 1]}, hard_states={3: HardState(1, 0, 2)})
    cluster.deliver(_snapshot_message(2, 1))  # not newer than what is committed
    assert cluster[3].commit == 2
    assert cluster.network.pop().index == 2
    cluster.deliver(_snapshot_message(9, 1, ConfState((1, 2))))  # not for this member
    assert (cluster[3].commit, cluster[3].last_index) == (2, 3)
    assert cluster.network.pop().index == 2


def test_snapshot_inside_a_matching_log_keeps_its_tail() -> None:
    """The later entries may already count for a quorum."""
    cluster = Cluster(logs={3: [1, 1, 1]})
    cluster.deliver(_snapshot_message(3, 1))
    assert (cluster[3].commit, cluster[3].last_index) == (3, 4)
    assert cluster.log(3) == [(1, 2), (1, 3), (1, 4)]
    assert cluster.network.pop().index == 3


def test_snapshot_replaces_a_log_that_does_not_match() -> None:
    cluster = Cluster(logs={3: [2, 2, 2]})
    cluster.deliver(_snapshot_message(3, 3))
    assert (cluster[3].commit, cluster[3].last_index, cluster[3].applied) == (3, 3, 3)
    assert cluster.log(3) == []
    assert cluster.network.pop().index == 3


def test_member_restoring_a_snapshot_does_not_campaign_or_apply() -> None:
    cluster = Cluster(logs={3: [1]})
    cluster.slow_disks.add(3)
    cluster.deliver(_snapshot_message(5, 2))
    cluster.tick(3, 3 * ELECTION_TICK)
    assert cluster[3].role is Role.FOLLOWER
    assert cluster[3].applied == 1
    cluster.finish_writes(3)
    assert cluster[3].applied == 5
    cluster.tick(3, 3 * ELECTION_TICK)
    assert cluster[3].role is Role.CANDIDATE


def test_snapshot_brings_the_configuration() -> None:
    cluster = Cluster(voters=(1, 2, 3))
    joint = ConfState((2, 3), (1, 2, 3), (4,), (1,), auto_leave=True)
    cluster.deliver(_snapshot_message(5, 2, joint))
    assert cluster[3].conf_state == joint
    assert not cluster[3].is_learner


def test_change_older_than_a_received_snapshot_does_not_touch_its_configuration() -> None:
    cluster = Cluster()
    cluster.deliver(_snapshot_message(9, 2, ConfState((1, 2, 3), learners=(4,))))
    late = ConfChange(ConfChangeKind.REMOVE_NODE, 2)
    assert cluster[3].applied == 9
    assert cluster[3].apply_conf_change(late, 8) == ConfState((1, 2, 3), learners=(4,))
    assert cluster[3].apply_conf_change(late, 10) == ConfState((1, 3), learners=(4,))


def test_change_applied_while_a_snapshot_is_pending_is_reported_as_of_its_index() -> None:
    """A configuration recorded with an index must be the one that was in effect there."""
    cluster = Cluster()
    cluster.slow_disks.add(3)
    later = ConfState((1, 2, 3), learners=(4, 5))
    cluster.deliver(_snapshot_message(9, 2, later))
    node = cluster[3]
    add = ConfChange(ConfChangeKind.ADD_LEARNER_NODE, 4)
    assert node.apply_conf_change(add, 8) == ConfState((1, 2, 3), learners=(4,))
    assert node.conf_state == later
    cluster.finish_writes(3)
    assert node.applied == 9
    assert node.conf_state == later


def test_no_snapshot_goes_to_a_silent_member() -> None:
    cluster = _behind_a_compacted_leader()
    cluster.isolate(3)
    cluster.restart(1)
    leader = cluster.elect(1)  # in the new term nothing has been heard of 3
    leader.raft.progress[3].next = 2
    leader.raft.progress[3].flow_paused = False
    leader.propose([b"c"])
    cluster.work(1)
    assert not cluster.take(of_kind(MessageKind.SNAP))
    assert leader.progress[3].state is ProgressState.PROBE


def test_snapshot_that_is_not_ready_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = _behind_a_compacted_leader()

    def not_ready() -> Snapshot:
        raise SnapshotTemporarilyUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(cluster.storages[1], "snapshot", not_ready)
        cluster.tick(1)
        cluster.settle()
        assert cluster[3].commit < cluster[1].commit
    cluster.tick(1)
    cluster.settle()
    assert cluster[3].commit == cluster[1].commit


def test_failed_snapshot_is_followed_by_probing_from_the_acknowledged_index() -> None:
    cluster = _behind_a_compacted_leader()
    leader = cluster[1]
    cluster.tick(1)
    cluster.settle(lambda message: message.kind != MessageKind.SNAP)
    assert cluster.take(of_kind(MessageKind.SNAP))
    progress = leader.progress[3]
    assert progress.state is ProgressState.SNAPSHOT
    leader.report_snapshot(3, False)
    assert (progress.state, progress.next) == (ProgressState.PROBE, progress.match + 1)
    leader.report_snapshot(3, True)  # settled already: no effect
    assert progress.next == progress.match + 1


def test_delivered_snapshot_is_followed_by_probing_behind_it() -> None:
    cluster = _behind_a_compacted_leader()
    leader = cluster[1]
    cluster.tick(1)
    cluster.settle(lambda message: message.kind != MessageKind.SNAP)
    leader.report_snapshot(3, True)
    progress = leader.progress[3]
    assert (progress.state, progress.next) == (ProgressState.PROBE, leader.commit + 1)
    assert progress.is_paused()


def test_memory_storage_refuses_what_it_does_not_hold() -> None:
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(5, 2, _VOTERS))
    with pytest.raises(SnapshotOutOfDate):
        storage.apply_snapshot(Snapshot(5, 2, _VOTERS))
    with pytest.raises(Compacted):
        storage.term(4)
    with pytest.raises(Compacted):
        storage.entries(5, 6, 99)
    with pytest.raises(Unavailable):
        storage.term(6)
    with pytest.raises(Unavailable):
        storage.entries(6, 7, 99)
    assert storage.term(5) == 2

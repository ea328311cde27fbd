"""What may be counted as committed, and what may be overwritten."""

from __future__ import annotations

import pytest

from dqlite_py.raft import (
    Entry,
    HardState,
    InvariantBroken,
    Message,
    MessageKind,
    ProgressState,
    Role,
)
from tests.kit.raft_cluster import Cluster, of_kind


def test_entry_of_earlier_term_is_not_committed_by_counting() -> None:
    """Figure 8: an entry of term 2 on a majority is committed only below one of the own term."""
    cluster = Cluster(
        voters=(1, 2, 3, 4, 5),
        logs={1: [1, 2], 2: [1, 2], 3: [1], 4: [1], 5: [1]},
        hard_states={member: HardState(3, 0, 2) for member in range(1, 6)},
    )
    leader = cluster[1]
    leader.campaign()
    cluster.settle(of_kind(MessageKind.VOTE, MessageKind.VOTE_RESP))
    assert leader.role is Role.LEADER
    assert leader.term_start_index == 4
    cluster.network.clear()
    # Members 2 and 3 hold index 3 of term 2 but not yet the no-op of term 4.
    for member in (2, 3):
        ack = Message(MessageKind.APP_RESP, to=1, from_=member, term=leader.term, index=3)
        cluster.deliver(ack)
    assert leader.progress[2].match == leader.progress[3].match == 3
    assert leader.commit == 2
    ack = Message(MessageKind.APP_RESP, to=1, from_=2, term=leader.term, index=4)
    cluster.deliver(ack)
    assert leader.commit == 2
    cluster.deliver(Message(MessageKind.APP_RESP, to=1, from_=3, term=leader.term, index=4))
    assert leader.commit == 4


@pytest.mark.parametrize("reject", [False, True])
def test_acknowledgement_of_earlier_term_is_ignored(reject: bool) -> None:
    """A late answer speaks about a log that may have been overwritten since."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(1)
    leader.propose([b"x"])
    cluster.settle()
    before = leader.progress[2].match, leader.progress[2].next, leader.commit
    stale = Message(
        MessageKind.APP_RESP,
        to=1,
        from_=2,
        term=leader.term - 1,
        index=leader.last_index,
        reject=reject,
        reject_hint=1,
    )
    leader.step(stale)
    assert (leader.progress[2].match, leader.progress[2].next, leader.commit) == before


def test_leader_counts_its_own_copy_only_when_durable() -> None:
    cluster = Cluster(voters=(1, 2))
    leader = cluster.elect(1)
    committed = leader.commit
    cluster.slow_disks.add(1)
    leader.propose([b"x"])
    cluster.settle()
    assert leader.progress[2].match == leader.last_index
    assert leader.commit == committed
    cluster.finish_writes(1)
    assert leader.commit == leader.last_index


def test_single_voter_commits_only_when_durable() -> None:
    cluster = Cluster(voters=(1,))
    leader = cluster.elect(1)
    committed = leader.commit
    cluster.slow_disks.add(1)
    leader.propose([b"x"])
    cluster.settle()
    assert leader.commit == committed


def test_follower_acknowledges_and_votes_only_when_durable() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.slow_disks.add(2)
    cluster[1].propose([b"x"])
    cluster.settle(lambda message: message.to in (2, 3))
    assert not cluster.take(lambda message: message.from_ == 2)
    cluster.finish_writes(2)
    assert [m.kind for m in cluster.take(lambda m: m.from_ == 2)] == [MessageKind.APP_RESP]
    cluster.network.clear()
    cluster[3].campaign()
    cluster.settle(lambda message: message.to == 2)
    assert not cluster.take(lambda message: message.from_ == 2)
    cluster.finish_writes(2)
    (vote,) = cluster.take(lambda message: message.from_ == 2)
    assert vote.kind == MessageKind.VOTE_RESP
    assert cluster.storages[2].initial_state()[0].vote == 3


def _append(term: int, index: int, log_term: int, *terms: int, commit: int = 0) -> Message:
    entries = tuple(Entry(each, index + 1 + n) for n, each in enumerate(terms))
    return Message(
        MessageKind.APP,
        to=2,
        from_=1,
        term=term,
        log_term=log_term,
        index=index,
        entries=entries,
        commit=commit,
    )


def test_append_of_known_entries_removes_nothing() -> None:
    """A delayed, shorter append must not cut off what was acknowledged after it."""
    cluster = Cluster(logs={2: [1, 1, 1]})
    cluster.deliver(_append(1, 1, 1, 1))
    assert cluster.log(2) == [(1, 2), (1, 3), (1, 4)]
    (answer,) = cluster.network
    assert (answer.index, answer.reject) == (2, False)


def test_append_replaces_from_the_first_conflict() -> None:
    cluster = Cluster(logs={2: [1, 1, 1]})
    cluster.deliver(_append(2, 1, 1, 1, 2))
    assert cluster.log(2) == [(1, 2), (2, 3)]


def test_append_at_or_below_the_commit_index_changes_nothing() -> None:
    cluster = Cluster(logs={2: [1, 1, 1]}, hard_states={2: HardState(1, 0, 3)})
    cluster.deliver(_append(2, 1, 1, 2, 2))
    assert cluster.log(2) == [(1, 2), (1, 3), (1, 4)]
    assert cluster.network.pop().index == 3  # the commit index is what it can vouch for
    cluster.deliver(_append(2, 3, 1, 2))
    assert cluster.log(2) == [(1, 2), (1, 3), (2, 4)]


def test_replacing_a_committed_entry_is_an_invariant_violation() -> None:
    log = Cluster(logs={2: [1, 1, 1]}, hard_states={2: HardState(1, 0, 3)})[2].raft.log
    conflicting = (Entry(2, 2), Entry(2, 3))
    with pytest.raises(InvariantBroken):
        log.try_append(1, 1, conflicting, 1)
    with pytest.raises(InvariantBroken):
        log.append([Entry(2, 3)])
    assert [log.term(index) for index in (2, 3, 4)] == [1, 1, 1]


def test_commit_index_of_an_append_is_limited_to_what_it_matched() -> None:
    cluster = Cluster(logs={2: [1, 1, 1]})
    cluster.deliver(_append(2, 2, 1, commit=4))
    assert cluster[2].commit == 2


def test_heartbeat_never_commits_beyond_the_acknowledged_index() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose([b"x"])
    cluster.settle()
    cluster.heal()
    cluster.tick(1)
    cluster.work(1)
    (heartbeat,) = cluster.take(lambda m: m.kind == MessageKind.HEARTBEAT and m.to == 3)
    assert heartbeat.commit == leader.progress[3].match < leader.commit


def test_commit_index_beyond_the_log_stops_the_member() -> None:
    cluster = Cluster()
    with pytest.raises(InvariantBroken):
        cluster[2].step(Message(MessageKind.HEARTBEAT, to=2, from_=1, term=1, commit=9))


def test_acknowledgement_beyond_the_log_stops_the_leader() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    with pytest.raises(InvariantBroken):
        leader.step(Message(MessageKind.APP_RESP, to=1, from_=2, term=leader.term, index=99))


def test_stored_commit_index_outside_the_log_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        Cluster(hard_states={1: HardState(1, 0, 7)})


def test_log_that_does_not_match_is_caught_up_by_probing() -> None:
    cluster = Cluster(logs={1: [1, 1, 4, 4], 2: [1, 1, 2, 2, 2, 2], 3: [1]})
    leader = cluster.elect(1)
    assert cluster.log(1) == cluster.log(2) == cluster.log(3)
    assert all(leader.progress[member].state is ProgressState.REPLICATE for member in (2, 3))

"""Handing leadership over to a member that lags."""

from __future__ import annotations

from dqlite_py.raft import MessageKind
from tests.kit.raft_cluster import Cluster, of_kind


def test_transfer_waits_for_the_whole_log_not_for_the_next_acknowledgement() -> None:
    cluster = Cluster(max_size_per_message_bytes=1, max_inflight_messages=1)
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose([b"x", b"y", b"z"])
    cluster.settle()
    cluster.heal()
    leader.transfer_leader(3)
    cluster.tick(1)
    acknowledged = set()
    while leader.lead_transferee and not cluster.take(of_kind(MessageKind.TIMEOUT_NOW)):
        acknowledged.add(leader.progress[3].match)
        cluster.work(1)
        message = next(each for each in cluster.network if 3 in (each.from_, each.to))
        cluster.network.remove(message)
        cluster.deliver(message)
    assert leader.last_index not in acknowledged
    assert len(acknowledged) > 2
    assert leader.progress[3].match == leader.last_index

"""Binds the sampled metrics to the parts of a server that know their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dqlite_py.metrics import Metrics
from dqlite_py.node.contract import ReplicaPort, Status
from dqlite_py.watch.history import Committed
from dqlite_py.watch.hub import WatchHub


class CountingReplica(ReplicaPort, Protocol):
    """A replica that also counts."""

    @property
    def leader_changes_seen(self) -> int:
        """How often a new leader has been seen."""

    @property
    def pending_writes(self) -> int:
        """How many writes wait for consensus here."""


def bind(
    metrics: Metrics,
    replica: CountingReplica,
    committed: Committed,
    hub: WatchHub,
    *,
    quota_bytes: int,
) -> None:
    """Show the figures of one server; ``quota_bytes`` below zero means that there is no quota."""

    def of_status(choose: Callable[[Status], float]) -> Callable[[], float]:
        return lambda: choose(replica.status())

    samples: dict[str, Callable[[], float]] = {
        "etcd_server_has_leader": lambda: replica.leader_id != 0,
        "etcd_server_is_leader": lambda: replica.leader_id == replica.member_id,
        "etcd_server_is_learner": lambda: replica.is_learner,
        "etcd_server_leader_changes_seen_total": lambda: replica.leader_changes_seen,
        "etcd_server_proposals_committed_total": of_status(lambda status: status.commit_index),
        "etcd_server_proposals_applied_total": lambda: replica.applied_index,
        "etcd_server_proposals_pending": lambda: replica.pending_writes,
        "etcd_server_quota_backend_bytes": lambda: max(quota_bytes, 0),
        "etcd_mvcc_db_total_size_in_bytes": of_status(lambda status: status.db_size_bytes),
        "etcd_mvcc_db_total_size_in_use_in_bytes": of_status(
            lambda status: status.db_size_in_use_bytes
        ),
        "etcd_debugging_mvcc_current_revision": lambda: committed.revision,
        "etcd_debugging_mvcc_compact_revision": lambda: committed.compact_revision,
        "etcd_debugging_mvcc_watch_stream_total": lambda: hub.stream_count,
        "etcd_debugging_mvcc_watcher_total": lambda: hub.synced_count + hub.behind_count,
        "etcd_debugging_mvcc_slow_watcher_total": lambda: hub.behind_count,
        "etcd_debugging_mvcc_events_total": lambda: hub.events_total,
        "dqlite_watch_queued_bytes": lambda: hub.queued_bytes,
    }
    for name, value in samples.items():
        metrics.sample(name, value)

"""Every Prometheus series of this program is declared here, under etcd's name where one exists.

Two sorts: figures that the program already keeps are *sampled* when somebody scrapes, by a callable
that the composition root binds; what would be lost otherwise is counted as it happens. A series
that nobody has bound is not shown, because a made-up zero is worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client import disable_created_metrics as _disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dqlite_py.errors import DqliteError

CONTENT_TYPE = CONTENT_TYPE_LATEST

# Of every counter the client library would otherwise also show when it was made.
_disable_created_metrics()  # type: ignore[no-untyped-call]

# Upper bounds in seconds: etcd's powers of two from one millisecond on.
_DURATIONS_S = tuple(0.001 * 2**power for power in range(14))


@dataclass(frozen=True, slots=True)
class Sampled:
    """A series whose value is asked for at every scrape. ``is_counter``: it never goes down."""

    documentation: str
    is_counter: bool = False


SAMPLED: Mapping[str, Sampled] = {
    "etcd_server_has_leader": Sampled("Whether a leader is known: 1 or 0."),
    "etcd_server_is_leader": Sampled("Whether this member leads: 1 or 0."),
    "etcd_server_is_learner": Sampled("Whether this member is a learner: 1 or 0."),
    "etcd_server_leader_changes_seen_total": Sampled("Changes of leader seen.", is_counter=True),
    "etcd_server_proposals_committed_total": Sampled("Index of the last committed log entry."),
    "etcd_server_proposals_applied_total": Sampled("Index of the last applied log entry."),
    "etcd_server_proposals_pending": Sampled("Requests waiting to be committed."),
    "etcd_server_quota_backend_bytes": Sampled("Limit of the database size in bytes."),
    "etcd_mvcc_db_total_size_in_bytes": Sampled("Size of the database in bytes."),
    "etcd_mvcc_db_total_size_in_use_in_bytes": Sampled("Size without free pages, in bytes."),
    "etcd_debugging_mvcc_current_revision": Sampled("Revision of the store."),
    "etcd_debugging_mvcc_compact_revision": Sampled("Revision below which history is gone."),
    "etcd_debugging_mvcc_watch_stream_total": Sampled("Open watch streams."),
    "etcd_debugging_mvcc_watcher_total": Sampled("Watchers."),
    "etcd_debugging_mvcc_slow_watcher_total": Sampled("Watchers that are catching up."),
    "etcd_debugging_mvcc_events_total": Sampled("Events handed to watchers.", is_counter=True),
    "dqlite_watch_queued_bytes": Sampled("Bytes of watch responses not sent yet."),
}


class Metrics:
    """The series of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._sampler = _Sampler()
        self.registry.register(self._sampler)
        ProcessCollector(registry=self.registry)
        # Observed in seconds by whoever syncs the Raft log; safe from any thread.
        self.wal_fsync_s = Histogram(
            "etcd_disk_wal_fsync_duration_seconds",
            "Seconds that making log entries durable took.",
            buckets=_DURATIONS_S,
            registry=self.registry,
        )
        self._handled = Counter(
            "grpc_server_handled_total",
            "Calls finished, by status code.",
            ("grpc_type", "grpc_service", "grpc_method", "grpc_code"),
            registry=self.registry,
        )
        self._handled_by_call: dict[tuple[str, str, str], Counter] = {}
        self._ended = Counter(
            "dqlite_client_connections_ended_total",
            "Connections of clients that the server ended, by reason.",
            ("reason",),
            registry=self.registry,
        )
        self._tls_refused = Counter(
            "dqlite_tls_handshakes_refused_total",
            "TLS handshakes that failed, by port.",
            ("port",),
            registry=self.registry,
        )

    def connection_ended(self, reason: str) -> None:
        """Count a client's connection that the server ended, by a short reason."""
        self._ended.labels(reason).inc()

    def tls_refused(self, port: str) -> None:
        """Count a failed TLS handshake on the ``client`` or ``peer`` port."""
        self._tls_refused.labels(port).inc()

    def sample(self, name: str, value: Callable[[], float]) -> None:
        """Show the series ``name`` of ``SAMPLED``; ``value`` is called on the event loop."""
        assert name in SAMPLED, name
        self._sampler.values[name] = value

    def call_handled(self, kind: str, path: str, code: str) -> None:
        """Count a finished call: its stream kind, its method path and its status code's name."""
        counter = self._handled_by_call.get((kind, path, code))
        if counter is None:
            _, service, method = path.split("/")
            counter = self._handled.labels(kind, service, method, _camel_case(code))
            self._handled_by_call[kind, path, code] = counter
        counter.inc()

    def exposition(self) -> bytes:
        """Return all series in Prometheus' text format."""
        return generate_latest(self.registry)


class _Sampler(Collector):
    def __init__(self) -> None:
        self.values: dict[str, Callable[[], float]] = {}

    def collect(self) -> Iterator[Metric]:
        for name, sample in self.values.items():
            try:
                value = sample()
            except DqliteError:
                continue  # can not be known at this moment: left out
            series = SAMPLED[name]
            if series.is_counter:
                yield CounterMetricFamily(name, series.documentation, value=value)
            else:
                yield GaugeMetricFamily(name, series.documentation, value=value)


def _camel_case(code: str) -> str:
    # The names that etcd's dashboards select by: OK, NotFound, InvalidArgument.
    return code if code == "OK" else code.title().replace("_", "")

"""Settings as the server uses them: frozen, validated, units in their names."""

from __future__ import annotations

from dataclasses import dataclass, field

from dqlite_py.config.security import SecurityConfig


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """Who this member is and where it listens. URLs are as ``Endpoint`` gives them back."""

    name: str
    data_dir: str
    listen_client_urls: tuple[str, ...]
    advertise_client_urls: tuple[str, ...]
    listen_peer_urls: tuple[str, ...]
    advertise_peer_urls: tuple[str, ...]
    listen_metrics_urls: tuple[str, ...]  # empty: the HTTP side is off


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """Timing of consensus."""

    heartbeat_interval_ms: int
    election_timeout_ms: int
    snapshot_count: int  # log entries applied between two trims of the log

    @property
    def election_ticks(self) -> int:
        """Return the election timeout in ticks of one heartbeat interval each."""
        return self.election_timeout_ms // self.heartbeat_interval_ms


@dataclass(frozen=True, slots=True)
class LimitConfig:
    """Bounds on what clients may ask."""

    max_request_bytes: int
    max_txn_ops: int
    quota_backend_bytes: int  # negative: no quota

    @property
    def has_quota(self) -> bool:
        """Tell whether the database size is limited at all."""
        return self.quota_backend_bytes >= 0


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """What to do on an empty data directory; ignored on one that belongs to a cluster."""

    cluster_init: bool
    server: str  # client URL of any member; empty: do not join
    token: str = field(repr=False)  # printable secret; empty: none was given
    cluster_token: str  # etcd's initial-cluster-token: separates the ids of clusters


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Everything a server needs to know before it starts."""

    member: MemberConfig
    raft: RaftConfig
    limits: LimitConfig
    join: JoinConfig
    log_level: str
    security: SecurityConfig = field(default_factory=SecurityConfig)

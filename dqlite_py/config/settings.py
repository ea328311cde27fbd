"""The table of settings: one row drives a flag, a variable and a key of the settings file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dqlite_py.config import parsing
from dqlite_py.config.endpoint import TCP_SCHEMES
from dqlite_py.config.security import VERSIONS

ENV_PREFIX = "DQLITE_PY_"
ELECTION_TIMEOUT_MAX_MS = 50_000  # etcd's upper bound


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its flag name without dashes in front, how it is read, and its default."""

    name: str
    parse: Callable[[str, Any], Any]
    default: Any
    summary: str
    is_switch: bool = False
    is_secret: bool = False

    @property
    def variable(self) -> str:
        """Return the name of its environment variable."""
        return ENV_PREFIX + self.name.upper().replace("-", "_")


_GENERAL: tuple[Setting, ...] = (
    Setting("name", parsing.member_name, "default", "Human-readable name of this member."),
    Setting(
        "data-dir", parsing.text, "", "Directory of this member's data. [default: NAME.dqlite]"
    ),
    Setting(
        "listen-client-urls", parsing.urls(), "http://localhost:2379", "URLs to serve clients on."
    ),
    Setting(
        "advertise-client-urls",
        parsing.urls(),
        "",
        "Client URLs told to others. [default: as listened on]",
    ),
    Setting(
        "listen-peer-urls",
        parsing.urls(TCP_SCHEMES),
        "http://localhost:2380",
        "URLs to serve members on.",
    ),
    Setting(
        "initial-advertise-peer-urls",
        parsing.urls(TCP_SCHEMES),
        "",
        "Peer URLs told to other members. [default: as listened on]",
    ),
    Setting(
        "listen-metrics-urls",
        parsing.urls(TCP_SCHEMES),
        "http://localhost:2381",
        "URLs of /metrics, /health, /livez, /readyz, /version; empty: off.",
    ),
    Setting("heartbeat-interval", parsing.integer(1, 10_000), 100, "Heartbeat interval in ms."),
    Setting(
        "election-timeout",
        parsing.integer(10, ELECTION_TIMEOUT_MAX_MS),
        1000,
        "Election timeout in ms, at least five heartbeat intervals.",
    ),
    Setting(
        "snapshot-count", parsing.integer(1), 10_000, "Applied entries between trims of the log."
    ),
    Setting(
        "quota-backend-bytes",
        parsing.integer(None),
        0,
        "Database size in bytes shown as the quota, not enforced; 0: 2 GiB, negative: none.",
    ),
    Setting(
        "max-request-bytes", parsing.integer(1024), 1_572_864, "Largest client request in bytes."
    ),
    Setting("max-txn-ops", parsing.integer(1), 128, "Most operations in one transaction."),
    Setting("log-level", parsing.log_level, "info", f"One of {', '.join(parsing.LOG_LEVELS)}."),
    Setting(
        "initial-cluster-token",
        parsing.text,
        "etcd-cluster",
        "Separates the ids of different clusters.",
    ),
    Setting(
        "cluster-init",
        parsing.switch,
        False,
        "Start the first server of a cluster.",
        is_switch=True,
    ),
    Setting(
        "server", parsing.url(TCP_SCHEMES), "", "Client URL of any member of the cluster to join."
    ),
    Setting(
        "token", parsing.text, "", "Secret shared by all members of a cluster.", is_secret=True
    ),
    Setting("token-file", parsing.text, "", "File that holds the token."),
)


def _tls_side(prefix: str, who: str, revoked: str) -> tuple[Setting, ...]:
    """Return the rows of one side; ``prefix`` is etcd's."""
    return (
        Setting(f"{prefix}cert-file", parsing.text, "", f"PEM certificate to serve {who} with."),
        Setting(f"{prefix}key-file", parsing.text, "", "PEM key of that certificate."),
        Setting(
            f"{prefix}trusted-ca-file",
            parsing.text,
            "",
            f"PEM authorities whose certificates are accepted; {who} must show one.",
        ),
        Setting(
            f"{prefix}client-cert-auth",
            parsing.switch,
            False,
            f"Refuse {who} without a certificate.",
            is_switch=True,
        ),
        Setting(
            f"{prefix}auto-tls",
            parsing.switch,
            False,
            f"Serve {who} with a certificate of the server's own making.",
            is_switch=True,
        ),
        Setting(revoked, parsing.text, "", "PEM lists of revoked certificates."),
    )


_TLS: tuple[Setting, ...] = (
    *_tls_side("", "clients", "client-crl-file"),
    Setting(
        "client-cert-file",
        parsing.text,
        "",
        "PEM certificate shown to the server that is joined through. [default: cert-file]",
    ),
    Setting("client-key-file", parsing.text, "", "PEM key of that certificate."),
    *_tls_side("peer-", "members", "peer-crl-file"),
    Setting(
        "peer-client-cert-file",
        parsing.text,
        "",
        "PEM certificate shown to members that are dialled. [default: peer-cert-file]",
    ),
    Setting("peer-client-key-file", parsing.text, "", "PEM key of that certificate."),
    Setting(
        "self-signed-cert-validity",
        parsing.integer(1, 100),
        1,
        "Years that certificates of --auto-tls and --peer-auto-tls last.",
    ),
    Setting(
        "tls-min-version",
        parsing.one_of(VERSIONS, optional=True),
        VERSIONS[0],
        f"Oldest version spoken, one of {', '.join(VERSIONS)}.",
    ),
    Setting(
        "tls-max-version",
        parsing.one_of(VERSIONS, optional=True),
        "",
        "Newest version spoken; empty: the newest there is.",
    ),
    Setting(
        "cipher-suites",
        parsing.cipher_suites,
        "",
        "Cipher suites of TLS 1.2 by their IANA names, separated by commas.",
    ),
)

SETTINGS = _GENERAL + _TLS

"""Settings: frozen, validated once, units in their names.

One table (``SETTINGS``) drives the flags of ``dqlite-py server``, the ``DQLITE_PY_*`` variables and
the keys of ``--config-file``. A flag beats a variable, a variable beats the file, the file beats
the default.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dqlite_py.errors import InvalidSetting

ENV_PREFIX = "DQLITE_PY_"
LOG_LEVELS = ("debug", "info", "warning", "error")
ELECTION_TIMEOUT_MAX_MS = 50_000  # etcd's upper bound
ELECTION_TIMEOUT_MIN_HEARTBEATS = 5  # etcd's lower bound
DEFAULT_QUOTA_BYTES = 2 * 1024**3  # what etcd means by 0
NAME_MAX_LENGTH = 128
WILDCARD_HOSTS = ("", "0.0.0.0", "::")  # noqa: S104 - recognised in order to refuse them


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address taken from a URL; ``str()`` gives the URL back."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, setting: str, url: str) -> Endpoint:
        """Return the endpoint of ``url``; raise InvalidSetting naming ``setting`` if it is none."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise InvalidSetting(setting=setting, reason=f"{url!r} is not a URL") from None
        if parts.scheme == "https":
            raise InvalidSetting(
                setting=setting, reason=f"{url!r}: this version has no TLS yet, use http://"
            )
        if parts.scheme != "http" or parts.hostname is None or port is None:
            raise InvalidSetting(
                setting=setting, reason=f"{url!r} is not of the form http://host:port"
            )
        if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
            raise InvalidSetting(setting=setting, reason=f"{url!r} has more than host and port")
        return cls(parts.scheme, parts.hostname, port)

    @property
    def address(self) -> str:
        """Return ``host:port``, an IPv6 host in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """Who this member is and where it listens. URLs are ``http://host:port``."""

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


def _text(setting: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidSetting(setting=setting, reason=f"{value!r} is not text")
    return value


def _name(setting: str, value: Any) -> str:
    text = _text(setting, value)
    if not text or len(text) > NAME_MAX_LENGTH or not text.isprintable() or "/" in text:
        raise InvalidSetting(
            setting=setting,
            reason=f"{text!r} must be 1 to {NAME_MAX_LENGTH} printable characters without '/'",
        )
    return text


def _urls(setting: str, value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else _text(setting, value).split(",")
    urls = [str(Endpoint.parse(setting, _text(setting, item).strip())) for item in items if item]
    if len(set(urls)) != len(urls):
        raise InvalidSetting(setting=setting, reason="the same URL is given twice")
    return tuple(urls)


def _url(setting: str, value: Any) -> str:
    text = _text(setting, value)
    return str(Endpoint.parse(setting, text)) if text else ""


def _switch(setting: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "1": True, "false": False, "0": False}
    if str(value).lower() not in words:
        raise InvalidSetting(setting=setting, reason=f"{value!r} is neither true nor false")
    return words[str(value).lower()]


def _level(setting: str, value: Any) -> str:
    text = _text(setting, value).lower()
    text = {"warn": "warning"}.get(text, text)  # etcd's spelling
    if text not in LOG_LEVELS:
        raise InvalidSetting(
            setting=setting, reason=f"{value!r} is not one of {', '.join(LOG_LEVELS)}"
        )
    return text


def _integer(low: int | None, high: int | None = None) -> Callable[[str, Any], int]:
    def parse(setting: str, value: Any) -> int:
        try:
            if isinstance(value, bool | float):
                raise ValueError(value)
            number = int(value)
        except (TypeError, ValueError):
            raise InvalidSetting(
                setting=setting, reason=f"{value!r} is not a whole number"
            ) from None
        if (low is not None and number < low) or (high is not None and number > high):
            wanted = f"at least {low}" if high is None else f"between {low} and {high}"
            raise InvalidSetting(setting=setting, reason=f"{number} must be {wanted}")
        return number

    return parse


SETTINGS: tuple[Setting, ...] = (
    Setting("name", _name, "default", "Human-readable name of this member."),
    Setting("data-dir", _text, "", "Directory of this member's data. [default: NAME.dqlite]"),
    Setting("listen-client-urls", _urls, "http://localhost:2379", "URLs to serve clients on."),
    Setting(
        "advertise-client-urls", _urls, "", "Client URLs told to others. [default: as listened on]"
    ),
    Setting("listen-peer-urls", _urls, "http://localhost:2380", "URLs to serve members on."),
    Setting(
        "initial-advertise-peer-urls",
        _urls,
        "",
        "Peer URLs told to other members. [default: as listened on]",
    ),
    Setting(
        "listen-metrics-urls",
        _urls,
        "http://localhost:2381",
        "URLs of /metrics, /health and /version; empty: off.",
    ),
    Setting("heartbeat-interval", _integer(1, 10_000), 100, "Heartbeat interval in ms."),
    Setting(
        "election-timeout",
        _integer(10, ELECTION_TIMEOUT_MAX_MS),
        1000,
        "Election timeout in ms, at least five heartbeat intervals.",
    ),
    Setting("snapshot-count", _integer(1), 10_000, "Applied entries between trims of the log."),
    Setting(
        "quota-backend-bytes",
        _integer(None),
        0,
        "Limit of the database size in bytes; 0: 2 GiB, negative: none.",
    ),
    Setting("max-request-bytes", _integer(1024), 1_572_864, "Largest client request in bytes."),
    Setting("max-txn-ops", _integer(1), 128, "Most operations in one transaction."),
    Setting("log-level", _level, "info", f"One of {', '.join(LOG_LEVELS)}."),
    Setting(
        "initial-cluster-token", _text, "etcd-cluster", "Separates the ids of different clusters."
    ),
    Setting("cluster-init", _switch, False, "Start the first server of a cluster.", is_switch=True),
    Setting("server", _url, "", "Client URL of any member of the cluster to join."),
    Setting("token", _text, "", "Secret shared by all members of a cluster.", is_secret=True),
    Setting("token-file", _text, "", "File that holds the token."),
)


def read_config_file(path: str) -> dict[str, Any]:
    """Return the keys and values of a TOML or (``*.json``) JSON file.

    Raises InvalidSetting when the file can not be read, is malformed, or names an unknown setting.
    etcd's YAML files are not accepted.
    """
    try:
        with open(path, "rb") as file:
            content = json.load(file) if path.endswith(".json") else tomllib.load(file)
    except OSError as error:
        raise InvalidSetting(setting="config-file", reason=f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise InvalidSetting(
            setting="config-file", reason=f"{path} is neither TOML nor *.json: {error}"
        ) from None
    if not isinstance(content, dict):
        raise InvalidSetting(setting="config-file", reason=f"{path} is not a table of settings")
    unknown = sorted(set(content) - {setting.name for setting in SETTINGS})
    if unknown:
        raise InvalidSetting(
            setting="config-file", reason=f"{path}: unknown setting {unknown[0]!r}"
        )
    return content


def load(
    flags: Mapping[str, Any], environ: Mapping[str, str], file: Mapping[str, Any]
) -> ServerConfig:
    """Merge the three sources and validate the result; keys of flags and file are setting names.

    A flag whose value is None was not given. Raises InvalidSetting.
    """
    values: dict[str, Any] = {}
    for setting in SETTINGS:
        chosen = flags.get(setting.name)
        if chosen is None:
            chosen = environ.get(setting.variable)
        if chosen is None:
            chosen = file.get(setting.name)
        if chosen is None:
            chosen = setting.default
        values[setting.name] = setting.parse(setting.name, chosen)
    return _assemble(values)


def _assemble(values: Mapping[str, Any]) -> ServerConfig:
    return ServerConfig(
        member=_member(values),
        raft=_raft(values),
        limits=LimitConfig(
            max_request_bytes=values["max-request-bytes"],
            max_txn_ops=values["max-txn-ops"],
            quota_backend_bytes=values["quota-backend-bytes"] or DEFAULT_QUOTA_BYTES,
        ),
        join=_join(values),
        log_level=values["log-level"],
    )


def _member(values: Mapping[str, Any]) -> MemberConfig:
    for setting in ("listen-client-urls", "listen-peer-urls"):
        if not values[setting]:
            raise InvalidSetting(setting=setting, reason="at least one URL is needed")
    return MemberConfig(
        name=values["name"],
        data_dir=values["data-dir"] or values["name"] + ".dqlite",
        listen_client_urls=values["listen-client-urls"],
        advertise_client_urls=_advertised(values, "advertise-client-urls", "listen-client-urls"),
        listen_peer_urls=values["listen-peer-urls"],
        advertise_peer_urls=_advertised(values, "initial-advertise-peer-urls", "listen-peer-urls"),
        listen_metrics_urls=values["listen-metrics-urls"],
    )


def _advertised(values: Mapping[str, Any], setting: str, listened: str) -> tuple[str, ...]:
    urls: tuple[str, ...] = values[setting] or values[listened]
    for url in urls:
        if Endpoint.parse(setting, url).host in WILDCARD_HOSTS:
            raise InvalidSetting(
                setting=setting, reason=f"{url} can not be reached by others, name a real address"
            )
    return urls


def _raft(values: Mapping[str, Any]) -> RaftConfig:
    heartbeat_ms, election_ms = values["heartbeat-interval"], values["election-timeout"]
    if election_ms < ELECTION_TIMEOUT_MIN_HEARTBEATS * heartbeat_ms:
        raise InvalidSetting(
            setting="election-timeout",
            reason=f"{election_ms} ms must be at least {ELECTION_TIMEOUT_MIN_HEARTBEATS} times "
            f"the heartbeat interval of {heartbeat_ms} ms",
        )
    return RaftConfig(heartbeat_ms, election_ms, values["snapshot-count"])


def _join(values: Mapping[str, Any]) -> JoinConfig:
    if values["cluster-init"] and values["server"]:
        raise InvalidSetting(
            setting="cluster-init", reason="start a cluster or join one (--server), not both"
        )
    token = values["token"]
    if values["token-file"]:
        if token:
            raise InvalidSetting(
                setting="token-file", reason="give --token or --token-file, not both"
            )
        token = _read_token(values["token-file"])
    return JoinConfig(
        values["cluster-init"], values["server"], token, values["initial-cluster-token"]
    )


def _read_token(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise InvalidSetting(setting="token-file", reason=f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidSetting(setting="token-file", reason=f"{path} is not a token file") from None

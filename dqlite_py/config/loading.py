"""From flags, variables and a settings file to one validated ServerConfig."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

from dqlite_py.config.endpoint import WILDCARD_HOSTS, Endpoint
from dqlite_py.config.model import (
    JoinConfig,
    LimitConfig,
    MemberConfig,
    RaftConfig,
    ServerConfig,
)
from dqlite_py.config.security import security
from dqlite_py.config.settings import SETTINGS
from dqlite_py.errors import InvalidSetting

ELECTION_TIMEOUT_MIN_HEARTBEATS = 5  # etcd's lower bound
DEFAULT_QUOTA_BYTES = 2 * 1024**3  # what etcd means by 0


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
        security=security(values),
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
        endpoint = Endpoint.parse(setting, url)
        if not endpoint.is_unix and endpoint.host in WILDCARD_HOSTS:
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

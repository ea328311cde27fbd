"""From settings to a data directory that belongs to a cluster: founded, joined, or found."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from dqlite_py.cluster import bootstrap
from dqlite_py.cluster.bootstrap import StartMode
from dqlite_py.cluster.join import JoinRequest
from dqlite_py.cluster.join_client import join
from dqlite_py.cluster.tokens import Token
from dqlite_py.config import ServerConfig
from dqlite_py.errors import CorruptFile, StartRefused
from dqlite_py.node.startup import bootstrap_manifest, joining_manifest
from dqlite_py.seams import Disk
from dqlite_py.security import Security, secure
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import DataDir, Identity
from dqlite_py.storage.manifest import Manifest
from dqlite_py.storage.raft_storage import RaftStorage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Home:
    """An open data directory with an identity, and the cluster's secret."""

    datadir: DataDir
    token: Token
    mode: StartMode
    security: Security


async def settle(
    config: ServerConfig,
    disk: Disk,
    refused: Callable[[str], None] | None = None,
) -> Home:
    """Open the data directory; found or join a cluster if it belongs to none. Existing data wins.

    Ordering: everything else is durable before the identity, so that a start that was cut short
    begins again from nothing. ``refused`` is told of failed TLS handshakes, see ``secure``. Raises
    StartRefused and its kin; the lock is released then.
    """
    datadir = DataDir.open(disk, config.member.data_dir)
    try:
        mode = bootstrap.start_mode(datadir.identity is not None, config.join)
        for flag in bootstrap.ignored_settings(mode, config.join):
            log.info("flag ignored: the data directory belongs to a cluster", extra={"flag": flag})
        security = secure(config, datadir, disk, refused)
        if mode is StartMode.RESUME:
            token = _stored_token(datadir)
        elif mode is StartMode.JOIN:
            token = await _join(config, datadir, disk, security)
        else:
            token = _found(config, datadir, disk, security)
        return Home(datadir, token, mode, security)
    except BaseException:
        datadir.close()
        raise


def _stored_token(datadir: DataDir) -> Token:
    text = datadir.load_token()
    if text is None:
        raise CorruptFile(path=datadir.token_path, detail="the cluster's token is missing")
    return Token.parse(text)


def _found(config: ServerConfig, datadir: DataDir, disk: Disk, security: Security) -> Token:
    founding = bootstrap.found(config, secrets.token_bytes)
    _require_own_pin(founding.token, security)
    manifest = bootstrap_manifest(founding.cluster_id, founding.member)
    identity = Identity(founding.cluster_id, founding.member.id, config.member.name)
    _store(datadir, disk, manifest, founding.token, identity)
    log.info(
        "cluster founded",
        extra={"cluster": f"{founding.cluster_id:x}", "member": f"{founding.member.id:x}"},
    )
    return founding.token


def _require_own_pin(token: Token, security: Security) -> None:
    """Refuse to found a cluster with a token by which nobody could join it."""
    own = b"" if security.authority is None else security.authority.pem()
    if token.authority_sha256 and hashlib.sha256(own).hexdigest() != token.authority_sha256:
        raise StartRefused(
            reason="the token pins a certificate authority that is not this server's; found the "
            "cluster with the short form, the part after the last colon"
        )


async def _join(config: ServerConfig, datadir: DataDir, disk: Disk, security: Security) -> Token:
    own = config.member
    token = Token.parse(config.join.token)
    request = JoinRequest(own.name, own.advertise_peer_urls, own.advertise_client_urls)
    answer = await join(
        config.join.server, token, request, secrets.token_bytes, own=security.joining
    )
    manifest = joining_manifest(answer.cluster_id, answer.members)
    identity = Identity(answer.cluster_id, answer.member_id, own.name)
    _store(datadir, disk, manifest, token, identity)
    log.info(
        "joined a cluster",
        extra={"cluster": f"{answer.cluster_id:x}", "member": f"{answer.member_id:x}"},
    )
    return token


def _store(
    datadir: DataDir, disk: Disk, manifest: Manifest, token: Token, identity: Identity
) -> None:
    disk.rmtree(datadir.raft_path)  # what a start that was cut short may have left
    disk.rmtree(datadir.databases_path)
    disk.mkdir(datadir.generation_path(manifest.generation))
    manifests.store(disk, datadir.path, manifest)
    RaftStorage.open(disk, datadir.raft_path, manifest).close()
    datadir.store_token(token.text)
    datadir.store_identity(identity)

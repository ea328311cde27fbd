"""What a server does when it starts: go on, found a cluster, or join one. Existing data wins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dqlite_py.cluster import ids
from dqlite_py.cluster.tokens import Token
from dqlite_py.config import JoinConfig, ServerConfig
from dqlite_py.errors import StartRefused
from dqlite_py.node.contract import Member


class StartMode(Enum):
    """How a server starts."""

    RESUME = "resume"  # the data directory belongs to a cluster
    CLUSTER_INIT = "cluster-init"
    JOIN = "join"
    SINGLE = "single"


def start_mode(has_identity: bool, join: JoinConfig) -> StartMode:
    """Return how to start, given whether the data directory has an identity.

    Raises StartRefused when joining is asked for without a token.
    """
    if has_identity:
        return StartMode.RESUME
    if join.server:
        if not join.token:
            raise StartRefused(
                reason="--server needs --token; `dqlite-py token` on a member prints it"
            )
        return StartMode.JOIN
    return StartMode.CLUSTER_INIT if join.cluster_init else StartMode.SINGLE


def ignored_settings(mode: StartMode, join: JoinConfig) -> tuple[str, ...]:
    """Return the flags that ``mode`` ignores, to be logged."""
    if mode is not StartMode.RESUME:
        return ()
    given = {
        "--cluster-init": join.cluster_init,
        "--server": bool(join.server),
        "--token": bool(join.token),
    }
    return tuple(flag for flag, present in given.items() if present)


@dataclass(frozen=True, slots=True)
class Founding:
    """A new cluster of one."""

    cluster_id: int
    member: Member
    token: Token


def found(config: ServerConfig, random_bytes: Callable[[int], bytes]) -> Founding:
    """Return a new cluster whose only member is this server, a voter.

    The ids follow etcd's rule, so the same name, peer URLs and ``--initial-cluster-token`` give the
    same ids. ``random_bytes`` must be fit for secrets. Raises InvalidSetting for a bad ``--token``.
    """
    own = config.member
    member_id = ids.member_id(own.advertise_peer_urls, config.join.cluster_token)
    member = Member(member_id, own.name, own.advertise_peer_urls, own.advertise_client_urls, False)
    token = Token.parse(config.join.token) if config.join.token else Token.generate(random_bytes)
    return Founding(ids.cluster_id([member_id]), member, token)

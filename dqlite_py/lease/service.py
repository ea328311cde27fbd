"""The Lease service on every member, and expiry on the leader."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

from dqlite_py import errors
from dqlite_py.lease.expiry import Expiry
from dqlite_py.lease.lessor import Lessor, Renewal
from dqlite_py.node.contract import ReplicaPort, Session
from dqlite_py.pb import rpc_pb2
from dqlite_py.seams import Random

T = TypeVar("T")
M = TypeVar("M", bound=Message)

LeaseChanges = Sequence[tuple[int, int]] | None

MAX_TTL_S = 9_000_000_000  # etcd behaviour
_ID_LIMIT = 1 << 63
_KEEP_ALIVE = "lease.keep_alive"
_TIME_TO_LIVE = "lease.time_to_live"
_RETRY_PAUSE_S = 0.05


class LeaseTables(Protocol):
    """What the store offers: lease records, and the commands that change them."""

    @property
    def revision(self) -> int:
        """The committed revision on this member."""

    def subscribe_leases(self, callback: Callable[[LeaseChanges], None]) -> None:
        """Call back with committed changes (id, ttl_s; negative: revoked); None: read all."""

    def load(self, session: Session) -> list[tuple[int, int]]:
        """Return all leases as (id, ttl_s)."""

    def keys(self, session: Session, lease: int) -> list[bytes]:
        """Return the keys attached to a lease."""

    def grant(self, request: rpc_pb2.LeaseGrantRequest) -> Awaitable[rpc_pb2.LeaseGrantResponse]:
        """Grant a lease with the id and TTL given; raises LeaseExists."""

    def revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> Awaitable[rpc_pb2.LeaseRevokeResponse]:
        """Revoke a lease and delete its keys; raises LeaseNotFound."""

    def expire(self, lease: int, guard: Callable[[], bool]) -> Awaitable[Any]:
        """Revoke on this member only, if ``guard()`` still holds at execution (any thread)."""


class LeaseService:
    """Grants, renews and ends leases.

    Grants and revokes go through the log. Renewals are known to the leader alone, so other members
    forward them; a new leader gives every lease its full TTL and an election timeout.
    """

    def __init__(
        self,
        replica: ReplicaPort,
        tables: LeaseTables,
        random: Random,
        now_s: Callable[[], float],
        *,
        election_timeout_s: float,
    ) -> None:
        """``now_s`` returns monotonic seconds, ``random`` picks lease ids."""
        self._replica = replica
        self._tables = tables
        self._random = random
        self._now_s = now_s
        # etcd behaviour: a lease outlives an election, whatever was asked for.
        self._min_ttl_s = -int(-1.5 * election_timeout_s // 1)
        self._timeout_s = 5.0 + 2 * election_timeout_s
        self._lessor = Lessor(grace_s=election_timeout_s)
        self._expiry = Expiry(replica, tables, self._lessor, now_s)
        replica.register_call(_KEEP_ALIVE, self._serve_keep_alive)
        replica.register_call(_TIME_TO_LIVE, self._serve_time_to_live)

    async def run(self) -> None:
        """Expire leases while this member leads, until cancelled."""
        await self._expiry.run()

    async def grant(self, request: rpc_pb2.LeaseGrantRequest) -> rpc_pb2.LeaseGrantResponse:
        """Create a lease; durable on a quorum when answered.

        Id 0 lets the server pick one; a TTL below the minimum is raised and the answer tells
        (etcd behaviour). Raises LeaseTtlTooLarge or LeaseExists.
        """
        if request.TTL > MAX_TTL_S:
            raise errors.LeaseTtlTooLarge
        lease = request.ID or self._random.randrange(1, _ID_LIMIT)
        ttl_s = max(request.TTL, self._min_ttl_s)
        return await self._tables.grant(rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl_s))

    async def revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> rpc_pb2.LeaseRevokeResponse:
        """End a lease and delete its keys in one revision. Raises LeaseNotFound."""
        return await self._tables.revoke(request)

    async def keep_alive(
        self, request: rpc_pb2.LeaseKeepAliveRequest
    ) -> rpc_pb2.LeaseKeepAliveResponse:
        """Renew a lease; a TTL of 0 in the answer says that it is gone.

        The header is taken before the renewal, so that no answer is later than the revoke. An
        expired lease is answered once its revoke is applied. Raises RequestTimeout.
        """
        revision = self._tables.revision
        response = await self._ask_leader(
            _KEEP_ALIVE, request, rpc_pb2.LeaseKeepAliveResponse.FromString
        )
        response.header.revision = revision
        return response

    async def time_to_live(
        self, request: rpc_pb2.LeaseTimeToLiveRequest
    ) -> rpc_pb2.LeaseTimeToLiveResponse:
        """Tell the seconds left of a lease, -1 if there is none. Raises RequestTimeout."""
        response = await self._ask_leader(
            _TIME_TO_LIVE, request, rpc_pb2.LeaseTimeToLiveResponse.FromString
        )
        response.header.revision = self._tables.revision
        return response

    async def leases(
        self,
        request: rpc_pb2.LeaseLeasesRequest,  # noqa: ARG002 (every handler has one)
    ) -> rpc_pb2.LeaseLeasesResponse:
        """List the leases committed on this member, ordered by id; not linearizable."""
        known = await self._replica.read_gated(self._tables.load)
        response = rpc_pb2.LeaseLeasesResponse()
        response.header.revision = self._tables.revision
        response.leases.extend([rpc_pb2.LeaseStatus(ID=lease) for lease, _ in known])
        return response

    async def _ask_leader(self, method: str, request: Message, parse: Callable[[bytes], M]) -> M:
        """Ask whoever leads, again while leadership is moving: renewing twice does no harm."""
        payload = request.SerializeToString()
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        answer = await self._replica.call_leader(method, payload, self._timeout_s)
                        return parse(answer)
                    except _LEADERLESS:
                        await asyncio.sleep(_RETRY_PAUSE_S)
        except TimeoutError:
            raise errors.RequestTimeout from None

    async def _serve_keep_alive(self, payload: bytes) -> bytes:
        request = rpc_pb2.LeaseKeepAliveRequest.FromString(payload)
        await self._lead()
        renewed = self._lessor.renew(request.ID, self._now_s())
        if renewed is Renewal.EXPIRED:
            await self._expiry.revoked(request.ID)
        ttl_s = renewed if isinstance(renewed, int) else 0
        return rpc_pb2.LeaseKeepAliveResponse(ID=request.ID, TTL=ttl_s).SerializeToString()

    async def _serve_time_to_live(self, payload: bytes) -> bytes:
        request = rpc_pb2.LeaseTimeToLiveRequest.FromString(payload)
        await self._lead()
        response = rpc_pb2.LeaseTimeToLiveResponse(ID=request.ID, TTL=-1)
        found = self._lessor.remaining_s(request.ID, self._now_s())
        if found is None:
            return response.SerializeToString()
        response.TTL = int(found[0])
        response.grantedTTL = found[1]
        if request.keys:
            attached = await self._replica.read_gated(
                lambda session: self._tables.keys(session, request.ID)
            )
            response.keys.extend(attached)
        return response.SerializeToString()

    async def _lead(self) -> None:
        """Return when this member surely leads and knows all leases; raise NotLeader otherwise."""
        if not self._replica.is_leader:
            raise errors.NotLeader
        await self._replica.barrier()
        await self._expiry.loaded()


_LEADERLESS = (
    errors.NoLeader,
    errors.NotLeader,
    errors.LeaderChanged,
    errors.PeerUnreachable,
    errors.ConnectionLost,
)

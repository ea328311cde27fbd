"""The store's side of leases, in the shape that the lease service asks for."""

from __future__ import annotations

from collections.abc import Callable

from dqlite_py.kv import leases
from dqlite_py.kv.commands import Command, Kind
from dqlite_py.kv.machine import EtcdMachine, LeaseChanges
from dqlite_py.node.contract import ReplicaPort, Session
from dqlite_py.pb import rpc_pb2


class LeaseTables:
    """Reads lease records and sends the commands that change them."""

    def __init__(self, replica: ReplicaPort, machine: EtcdMachine) -> None:
        self._replica = replica
        self._machine = machine

    @property
    def revision(self) -> int:
        """The committed revision on this member."""
        return self._machine.revision

    def subscribe_leases(self, callback: Callable[[LeaseChanges], None]) -> None:
        """Call back with committed changes (id, ttl_s; negative: revoked); None: read all."""
        self._machine.subscribe_leases(callback)

    def load(self, session: Session) -> list[tuple[int, int]]:
        """Return all leases as (id, ttl_s), ordered by id."""
        return leases.load(session) if self._machine.has_schema else []

    def keys(self, session: Session, lease: int) -> list[bytes]:
        """Return the keys attached to a lease, in key order."""
        return leases.keys(session, lease)

    async def grant(self, request: rpc_pb2.LeaseGrantRequest) -> rpc_pb2.LeaseGrantResponse:
        """Grant a lease with the id and TTL given; raises LeaseExists."""
        result = await self._replica.write(Command(Kind.LEASE_GRANT, request))
        response: rpc_pb2.LeaseGrantResponse = result.response
        return response

    async def revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> rpc_pb2.LeaseRevokeResponse:
        """Revoke a lease and delete its keys; raises LeaseNotFound."""
        result = await self._replica.write(Command(Kind.LEASE_REVOKE, request))
        response: rpc_pb2.LeaseRevokeResponse = result.response
        return response

    async def expire(self, lease: int, guard: Callable[[], bool]) -> None:
        """Revoke on this member only, and only if ``guard()`` still holds at execution.

        ``guard`` runs on the writer thread. Raises LeaderChanged rather than being forwarded.
        """
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        await self._replica.write(Command(Kind.LEASE_EXPIRE, request, guard))

"""etcdserverpb.Lease: grants, renewals, and what is left of a lease."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from dqlite_py.api.header import HeaderFiller
from dqlite_py.api.routes import Call, Route, Send, bidi, unary
from dqlite_py.pb import rpc_pb2 as rpc


class LeaseService(Protocol):
    """What the lease layer offers; each answer's header carries the revision only."""

    async def grant(self, request: rpc.LeaseGrantRequest) -> rpc.LeaseGrantResponse:
        """Create a lease."""

    async def revoke(self, request: rpc.LeaseRevokeRequest) -> rpc.LeaseRevokeResponse:
        """End a lease and delete its keys."""

    async def keep_alive(self, request: rpc.LeaseKeepAliveRequest) -> rpc.LeaseKeepAliveResponse:
        """Renew a lease; TTL 0 in the answer means that it is gone."""

    async def time_to_live(
        self, request: rpc.LeaseTimeToLiveRequest
    ) -> rpc.LeaseTimeToLiveResponse:
        """Tell what is left of a lease; TTL -1 in the answer means that there is none."""

    async def leases(self, request: rpc.LeaseLeasesRequest) -> rpc.LeaseLeasesResponse:
        """List the leases as this member knows them."""


class _LeaseCalls:
    def __init__(self, service: LeaseService, headers: HeaderFiller) -> None:
        self._service = service
        self._headers = headers

    async def grant(self, request: rpc.LeaseGrantRequest, _call: Call) -> rpc.LeaseGrantResponse:
        response = await self._service.grant(request)
        self._headers.fill(response.header)
        return response

    async def revoke(self, request: rpc.LeaseRevokeRequest, _call: Call) -> rpc.LeaseRevokeResponse:
        response = await self._service.revoke(request)
        self._headers.fill(response.header)
        return response

    async def keep_alive(
        self, requests: AsyncIterator[rpc.LeaseKeepAliveRequest], send: Send, _call: Call
    ) -> None:
        # One answer per request, in order (etcd behaviour).
        async for request in requests:
            response = await self._service.keep_alive(request)
            self._headers.fill(response.header)
            await send(response)

    async def time_to_live(
        self, request: rpc.LeaseTimeToLiveRequest, _call: Call
    ) -> rpc.LeaseTimeToLiveResponse:
        response = await self._service.time_to_live(request)
        self._headers.fill(response.header)
        return response

    async def leases(self, request: rpc.LeaseLeasesRequest, _call: Call) -> rpc.LeaseLeasesResponse:
        response = await self._service.leases(request)
        self._headers.fill(response.header)
        return response


def routes(service: LeaseService, headers: HeaderFiller) -> list[Route]:
    """Return the routes of the Lease service; errors are those of ``service``."""
    calls = _LeaseCalls(service, headers)
    path = "/etcdserverpb.Lease/"
    return [
        unary(path + "LeaseGrant", rpc.LeaseGrantRequest, rpc.LeaseGrantResponse, calls.grant),
        unary(path + "LeaseRevoke", rpc.LeaseRevokeRequest, rpc.LeaseRevokeResponse, calls.revoke),
        bidi(
            path + "LeaseKeepAlive",
            rpc.LeaseKeepAliveRequest,
            rpc.LeaseKeepAliveResponse,
            calls.keep_alive,
        ),
        unary(
            path + "LeaseTimeToLive",
            rpc.LeaseTimeToLiveRequest,
            rpc.LeaseTimeToLiveResponse,
            calls.time_to_live,
        ),
        unary(path + "LeaseLeases", rpc.LeaseLeasesRequest, rpc.LeaseLeasesResponse, calls.leases),
    ]

"""Brings the route table and the web pages to a client port."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dqlite_py.api.routes import Route
from dqlite_py.api.status import Code, status_of
from dqlite_py.config import Endpoint
from dqlite_py.errors import StartRefused
from dqlite_py.http.budget import Budget
from dqlite_py.http.client_port import Bind, ClientPort, PortSetting
from dqlite_py.http.grpc.methods import Method
from dqlite_py.http.grpc.service import GrpcLimits, GrpcService
from dqlite_py.http.h2.settings import H2Limits
from dqlite_py.http.h2_protocol import H2Setting
from dqlite_py.http.web import WebHandler

REQUEST_OVERHEAD_BYTES = 512 * 1024  # etcd behaviour: added to the request limit on receipt


@dataclass(frozen=True, slots=True)
class Observers:
    """Who is told what happens; none of them may raise."""

    failed: Callable[[str, BaseException], None]  # path, an error that no table knows
    handled: Callable[[Route, Code], None]  # every finished call
    ended: Callable[[str], None]  # why the server ended a connection


class ClientServer:
    """Serves every route by gRPC and everything else by ``web``.

    Methods that are not in the table are UNIMPLEMENTED.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        web: WebHandler,
        observers: Observers,
        *,
        max_request_bytes: int,
        max_concurrent_streams: int | None = None,
    ) -> None:
        limits = GrpcLimits(max_message_bytes=max_request_bytes + REQUEST_OVERHEAD_BYTES)
        service = GrpcService(
            methods={route.path.encode(): _method(route) for route in routes.values()},
            status_of=status_of,
            failed=observers.failed,
            handled=lambda method, code: observers.handled(routes[method.path], code),
            limits=limits,
            budget=Budget(limits.partial_bytes),
        )
        h2 = H2Limits()
        if max_concurrent_streams is not None:
            h2 = H2Limits(max_concurrent_streams=max_concurrent_streams)
        setting = H2Setting(service, web, observers.failed, h2)
        self._port = ClientPort(PortSetting(setting, observers.ended))

    @property
    def open_connections(self) -> int:
        """How many clients are connected now."""
        return len(self._port.connections)

    async def start(
        self, endpoints: Sequence[Endpoint], tls: ssl.SSLContext | None, setting: str
    ) -> list[int]:
        """Listen at every endpoint; return the ports, which differ if 0 was asked.

        ``tls`` serves the secure ones. Raises StartRefused, naming ``setting``, when an address
        can not be had.
        """
        try:
            return await self._port.start([_bind(endpoint, tls) for endpoint in endpoints])
        except OSError as error:
            raise StartRefused(
                reason=f"cannot listen for clients on {error.filename}: {error.strerror}; "
                f"choose another --{setting}"
            ) from None

    async def stop(self, grace_s: float) -> None:
        """Accept no new calls, let running ones finish for ``grace_s``, then cancel them."""
        await self._port.stop(grace_s)


def _method(route: Route) -> Method:
    return Method(route.path, route.kind, route.request_type.FromString, route.handler)


def _bind(endpoint: Endpoint, tls: ssl.SSLContext | None) -> Bind:
    context = tls if endpoint.secure else None
    assert context is not None or not endpoint.secure
    if endpoint.is_unix:
        return Bind(path=endpoint.path, tls=context)
    return Bind(endpoint.host, endpoint.port, tls=context)

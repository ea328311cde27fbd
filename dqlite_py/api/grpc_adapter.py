"""Serves the route table with grpcio's asyncio server.

The only module that knows grpcio's server; everything else sees routes, calls and errors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from dqlite_py.api.routes import Call, Kind, Route
from dqlite_py.api.status import Code, status_of
from dqlite_py.errors import StartRefused

REQUEST_OVERHEAD_BYTES = 512 * 1024  # etcd behaviour: added to the request limit on receipt
UNLIMITED = -1
MAX_INT32 = 2**31 - 1

_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class GrpcLimits:
    """Transport limits; the defaults are etcd's."""

    max_request_bytes: int = 1_572_864
    min_ping_interval_ms: int = 5_000  # clients that ping more often are disconnected
    ping_interval_ms: int = 7_200_000
    ping_timeout_ms: int = 20_000

    def options(self) -> list[tuple[str, int]]:
        """Return the limits in grpcio's words."""
        return [
            ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
            ("grpc.max_receive_message_length", self.max_request_bytes + REQUEST_OVERHEAD_BYTES),
            ("grpc.max_send_message_length", UNLIMITED),
            ("grpc.max_concurrent_streams", MAX_INT32),
            ("grpc.keepalive_time_ms", self.ping_interval_ms),
            ("grpc.keepalive_timeout_ms", self.ping_timeout_ms),
            # grpcio's own minimum of 300 s would disconnect every etcd client that pings.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", self.min_ping_interval_ms),
            ("grpc.http2.min_ping_interval_without_data_ms", self.min_ping_interval_ms),
            ("grpc.http2.max_ping_strikes", 2),
        ]


@dataclass(frozen=True, slots=True)
class Observers:
    """Who is told what happens; none of them may raise."""

    failed: Callable[[str, BaseException], None]  # path, an error that no table knows
    handled: Callable[[Route, Code], None]  # every finished call


class GrpcServer:
    """A gRPC server over a route table. Methods that are not in the table are UNIMPLEMENTED."""

    def __init__(
        self, routes: Mapping[str, Route], limits: GrpcLimits, observers: Observers
    ) -> None:
        self._server = grpc.aio.server(
            handlers=(_Handlers(routes, observers),), options=limits.options()
        )

    async def start(self, addresses: Sequence[str]) -> list[int]:
        """Listen on every ``host:port`` and serve; return the ports, which differ if 0 was asked.

        Raises StartRefused when an address can not be had.
        """
        ports = [self._bind(address) for address in addresses]
        await self._server.start()
        return ports

    async def stop(self, grace_s: float) -> None:
        """Accept no new calls, let running ones finish for ``grace_s``, then cancel them."""
        await self._server.stop(grace_s)

    def _bind(self, address: str) -> int:
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError:
            port = 0
        if port == 0:
            raise StartRefused(
                reason=f"cannot listen for clients on {address}: the address is in use or not "
                "of this machine; choose another --listen-client-urls"
            )
        return int(port)


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in stubs only
    def __init__(self, routes: Mapping[str, Route], observers: Observers) -> None:
        self._methods = {path: _method(route, observers) for path, route in routes.items()}

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._methods.get(handler_call_details.method)


def _method(route: Route, observers: Observers) -> grpc.RpcMethodHandler[Any, Any]:
    observed = _Observed(route, observers)
    decode, encode = route.request_type.FromString, _encode
    if route.kind is Kind.UNARY:
        return grpc.unary_unary_rpc_method_handler(observed.unary, decode, encode)
    if route.kind is Kind.SERVER_STREAM:
        return grpc.unary_stream_rpc_method_handler(observed.server_stream, decode, encode)
    return grpc.stream_stream_rpc_method_handler(observed.bidi, decode, encode)


def _encode(message: Any) -> bytes:
    if type(message) is bytes:
        return message
    encoded: bytes = message.SerializeToString()
    return encoded


class _Observed:
    """Runs one route's handler, turning its errors into statuses."""

    def __init__(self, route: Route, observers: Observers) -> None:
        self._route = route
        self._observers = observers

    async def unary(self, request: Any, context: Any) -> Any:
        return await self._run(context, request)

    async def server_stream(self, request: Any, context: Any) -> None:
        await self._run(context, request, context.write)

    async def bidi(self, requests: AsyncIterator[Any], context: Any) -> None:
        await self._run(context, requests, context.write)

    async def _run(self, context: Any, *arguments: Any) -> Any:
        code = Code.CANCELLED  # unless the handler comes to an end of its own
        try:
            response = await self._route.handler(*arguments, _call(context))
            code = Code.OK
        except Exception as error:
            code, text = status_of(error)
            if code is Code.INTERNAL:
                self._observers.failed(self._route.path, error)
            await context.abort(_CODES[code], text)
        finally:
            self._observers.handled(self._route, code)
        return response


def _call(context: Any) -> Call:
    metadata: dict[str, str | bytes] = {}
    for key, value in context.invocation_metadata() or ():
        metadata.setdefault(key, value)
    return Call(metadata, context.time_remaining())

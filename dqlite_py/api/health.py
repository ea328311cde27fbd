"""grpc.health.v1.Health: this process serves, as one whole."""

from __future__ import annotations

from asyncio import Event

from dqlite_py.api.routes import Call, Kind, Route, Send, unary
from dqlite_py.errors import UnknownService
from dqlite_py.pb import health_pb2


def routes() -> list[Route]:
    """Return the routes of the health service; only the service name "" is known.

    Check raises UnknownService for another name. Watch sends the status once and stays open.
    """

    async def check(
        request: health_pb2.HealthCheckRequest, _call: Call
    ) -> health_pb2.HealthCheckResponse:
        if request.service:
            raise UnknownService
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)

    async def watch(request: health_pb2.HealthCheckRequest, send: Send, _call: Call) -> None:
        known = not request.service
        response = health_pb2.HealthCheckResponse
        status = response.SERVING if known else response.SERVICE_UNKNOWN
        await send(health_pb2.HealthCheckResponse(status=status))
        await Event().wait()  # the status never changes; the client ends the call

    path = "/grpc.health.v1.Health/"
    request_type, response_type = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    return [
        unary(path + "Check", request_type, response_type, check),
        Route(path + "Watch", request_type, response_type, Kind.SERVER_STREAM, watch),
    ]

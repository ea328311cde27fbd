"""The table of calls that clients may make: method path, message types, stream kind, handler.

Handlers are coroutines over protobuf messages. They know nothing of the server under them, so the
server can be replaced without touching them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from dqlite_py.http.grpc.methods import Call, Kind, Send

__all__ = ["Call", "Kind", "Route", "Send", "bidi", "table", "unary"]

UnaryHandler = Callable[[Any, Call], Awaitable[Any]]
ServerStreamHandler = Callable[[Any, Send, Call], Awaitable[None]]
BidiHandler = Callable[[AsyncIterator[Any], Send, Call], Awaitable[None]]


def _never(_request: Any) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Route:
    """One method. ``handler`` has the signature that ``kind`` asks for."""

    path: str  # "/package.Service/Method"
    request_type: type[Message]
    response_type: type[Message]
    kind: Kind
    handler: Callable[..., Awaitable[Any]]
    # Whether a learner serves this call; asked with the request, with None for streams.
    learner_serves: Callable[[Any], bool] = _never


def unary(
    path: str,
    request_type: type[Message],
    response_type: type[Message],
    handler: UnaryHandler,
    *,
    learner_serves: Callable[[Any], bool] = _never,
) -> Route:
    """Return a route for one request and one response."""
    return Route(path, request_type, response_type, Kind.UNARY, handler, learner_serves)


def bidi(
    path: str, request_type: type[Message], response_type: type[Message], handler: BidiHandler
) -> Route:
    """Return a route for two independent streams of messages."""
    return Route(path, request_type, response_type, Kind.BIDI, handler)


def table(routes: Iterable[Route]) -> dict[str, Route]:
    """Return the routes by path; each path must occur once."""
    result: dict[str, Route] = {}
    for route in routes:
        assert route.path not in result, route.path
        result[route.path] = route
    return result

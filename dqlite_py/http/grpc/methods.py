"""Methods that a gRPC server serves, and what their handlers may know of a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

# What a streaming handler sends with: a message, or bytes that already are one. It returns when
# the transport has taken the message, which is how a slow client slows its own handler only.
Send = Callable[[Any], Awaitable[None]]


class Kind(Enum):
    """How many messages flow in each direction."""

    UNARY = "unary"
    SERVER_STREAM = "server_stream"
    BIDI = "bidi_stream"


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler may know of the call besides its messages.

    ``metadata`` has lower-case keys; of a repeated key the first value is kept, and values of keys
    that end in ``-bin`` are bytes. A call that the client gives up, or whose deadline passes,
    cancels the handler's task.
    """

    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    remaining_s: float | None = None  # until the client's deadline, when the call arrived
    certificate_name: str | None = None  # the common name in the client's verified certificate


@dataclass(frozen=True, slots=True)
class Method:
    """One method: ``handler`` has the signature that ``kind`` asks for.

    unary: ``(request, Call) -> response``; server_stream: ``(request, Send, Call)``; bidi:
    ``(AsyncIterator of requests, Send, Call)``. ``decode`` makes a request of its bytes and raises
    if they are none; a response is bytes or has ``SerializeToString``.
    """

    path: str  # "/package.Service/Method"
    kind: Kind
    decode: Callable[[bytes], Any]
    handler: Callable[..., Awaitable[Any]]


def encoded(message: Any) -> bytes:
    """Return the bytes of a response."""
    if type(message) is bytes:
        return message
    data: bytes = message.SerializeToString()
    return data

"""What the peer transport asks of its owner: who it is, its limits, and whom it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from dqlite_py.raft.messages import Message

CallAnswer = bytes | asyncio.Future[bytes] | Coroutine[Any, Any, bytes]
"""What ``on_call`` may return: the cheaper forms, bytes or a Future, cost no task."""


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who this member is; both ids travel in every handshake."""

    cluster_id: int
    member_id: int


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """Bounds of the peer transport, per process or per peer as the names say."""

    frame_bytes: int = 64 << 20
    handshake_frame_bytes: int = 4 << 10
    handshake_timeout_s: float = 5.0
    unauthenticated_connections: int = 64
    inbound_members: int = 64
    connect_timeout_s: float = 5.0
    send_queue_bytes: int = 128 << 20  # per peer; must exceed frame_bytes
    send_queue_messages: int = 16_384  # per peer, waiting for the next write
    calls_in_flight: int = 4_096  # per peer and direction
    call_timer_s: float = 0.05  # calls time out up to this much late
    backoff_first_s: float = 0.02
    backoff_longest_s: float = 0.5
    ping_interval_s: float = 1.0
    idle_timeout_s: float = 5.0  # nothing heard for this long: the connection is dead

    def __post_init__(self) -> None:
        assert self.send_queue_bytes > self.frame_bytes > self.handshake_frame_bytes
        assert self.idle_timeout_s > 2 * self.ping_interval_s


@dataclass(slots=True)
class TransportCounters:
    """Totals since start; read them, never write them."""

    handshakes_rejected: int = 0
    connections_refused: int = 0  # over the limit of unauthenticated connections
    connections_replaced: int = 0
    frames_malformed: int = 0
    messages_dropped: int = 0
    messages_sent: int = 0
    bytes_sent: int = 0
    calls_sent: int = 0
    calls_served: int = 0


class PeerHandler(Protocol):
    """Told by the transport, on the event loop. Only ``on_call`` may take time."""

    def on_message(self, message: Message) -> None:
        """A Raft message arrived. Ordering: as sent, per sender and connection.

        ``message.to`` is this member and ``message.from_`` the authenticated sender, except in a
        TRANSFER_LEADER, which names the transferee there. Local kinds never arrive.
        """

    def on_call(self, from_id: int, method: str, payload: bytes) -> CallAnswer:
        """Serve a call; ``async def`` fits. A DqliteError raised is raised at the caller.

        Any other exception, and any Fatal, goes to ``on_error``; the caller gets PeerFailed.
        """

    def on_unreachable(self, member_id: int) -> None:
        """Messages to this member were dropped, or its connection is gone."""

    def on_connected(self, member_id: int) -> None:
        """The outbound connection to this member stands."""

    def on_disconnected(self, member_id: int, reason: str) -> None:
        """The outbound connection is gone, or could not be made; told once until it stands."""

    def on_rejected(self, address: str, reason: str) -> None:
        """An inbound connection was turned away."""

    def on_error(self, error: BaseException) -> None:
        """A handler failed in a way it should not; decide whether the process must stop."""

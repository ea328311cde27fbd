"""One stream: its state, its windows and what waits to be sent on it (RFC 9113 section 5)."""

from __future__ import annotations

from collections import deque
from typing import Any

from dqlite_py.http.h2.errors import ErrorCode, StreamBroken
from dqlite_py.http.h2.request_head import RequestHead


class Stream:
    """A request and its response.

    A stream exists here from its HEADERS until both sides have ended it or either reset it, so
    the states idle, reserved and closed have no objects.
    """

    __slots__ = (
        "call",
        "ended_here",
        "ended_there",
        "head",
        "id",
        "owed_bytes",
        "queue",
        "queued_bytes",
        "receive_window",
        "received_bytes",
        "send_window",
    )

    def __init__(self, stream_id: int, head: RequestHead, receive: int, send: int) -> None:
        self.id = stream_id
        self.head = head
        self.call: Any = None  # whatever the owner of the connection keeps for this request
        self.ended_here = False  # END_STREAM is sent, or waits in the queue
        self.ended_there = False  # END_STREAM has come
        self.received_bytes = 0  # of the body, without padding
        self.receive_window = receive  # bytes that the peer may still send
        self.owed_bytes = 0  # consumed and not yet given back to the peer
        self.send_window = send  # bytes that we may still send; negative after a change
        # What waits for windows or room, in order: (data, end of stream) or (block, True, True).
        self.queue: deque[Piece] = deque()
        self.queued_bytes = 0

    def check_length(self, *, ended: bool) -> None:
        """Raise StreamBroken if the body differs from its content-length (section 8.1.1)."""
        promised = self.head.content_length
        if promised is None:
            return
        if self.received_bytes > promised or (ended and self.received_bytes < promised):
            raise StreamBroken(
                self.id, ErrorCode.PROTOCOL_ERROR, "the body differs from content-length"
            )


class Piece:
    """A part of what a stream has still to send: data, or the trailers that end it."""

    __slots__ = ("block", "data", "end", "offset")

    def __init__(self, data: bytes, *, end: bool, block: bool) -> None:
        self.data = data
        self.offset = 0  # of what is sent already
        self.end = end
        self.block = block  # an encoded header block, which no window limits

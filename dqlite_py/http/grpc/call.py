"""Running one call: its request bytes become messages, its handler's answers become frames.

The handler runs in a task of its own; everything else happens inside the connection's callbacks.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Protocol

from dqlite_py.http.grpc.call_head import CallHead
from dqlite_py.http.grpc.messages import PREFIX, Assembler, framed
from dqlite_py.http.grpc.methods import encoded
from dqlite_py.http.grpc.service import GrpcService
from dqlite_py.http.grpc.status import Code, Refused, percent_encoded
from dqlite_py.http.h2.connection import Connection
from dqlite_py.http.h2.stream import Stream
from dqlite_py.http.owner import TaskOwner

_PLAIN = (b"content-type", b"application/grpc")
RESPONSE_HEAD = ((b":status", b"200"), _PLAIN)
GZIP_HEAD = (*RESPONSE_HEAD, (b"grpc-encoding", b"gzip"))
OK_TRAILERS = ((b"grpc-status", b"0"),)
ACCEPTED_ENCODINGS = (b"grpc-accept-encoding", b"gzip")
TOO_MUCH = "grpc: too many bytes of incomplete requests, try again later"
CANCELLED = "context canceled"
LATE = "context deadline exceeded"
LARGE_BYTES = 16_384  # from here on a message is sent without copying it behind its prefix


class Host(Protocol):
    """The connection's owner, as a call sees it."""

    connection: Connection
    owner: TaskOwner
    loop: asyncio.AbstractEventLoop

    def wrote(self) -> None:
        """The connection has something to send: do it soon."""


class GrpcCall(ABC):
    """The part that all kinds of calls share. Subclasses start the handler."""

    __slots__ = (
        "_assembler",
        "_budgeted_bytes",
        "_deadline",
        "_head",
        "_headers_sent",
        "_host",
        "_room",
        "_service",
        "_stream",
        "_task",
        "ended",
    )

    def __init__(self, host: Host, service: GrpcService, stream: Stream, head: CallHead) -> None:
        self._host = host
        self._service = service
        self._stream = stream
        self._head = head
        self._assembler = Assembler(service.limits.max_message_bytes, gzip=head.gzip)
        self._budgeted_bytes = 0
        self._task: asyncio.Task[Any] | None = None
        self._room: asyncio.Future[None] | None = None  # a handler that waits to send
        self._headers_sent = False
        self.ended = False  # the client has its status, or is gone
        self._deadline: asyncio.TimerHandle | None = None
        if head.call.remaining_s is not None:
            self._deadline = host.loop.call_later(head.call.remaining_s, self._too_late)

    # --- from the connection ---

    @abstractmethod
    def body(self, data: bytes, *, ended: bool) -> None:
        """Take a piece of the request."""

    def reset(self, code: int) -> None:
        """The client has given the call up, or the connection is gone."""
        if not self.ended:
            self._close()
            self._cancel()
            self._report(Code.CANCELLED)

    def drained(self) -> None:
        """Let the handler send on, once its queue is short again."""
        room = self._room
        if room is not None and self._stream.queued_bytes <= self._queue_bytes // 2:
            self._room = None
            if not room.done():
                room.set_result(None)

    # --- for the kinds of calls ---

    @property
    def _queue_bytes(self) -> int:
        return self._service.limits.stream_queue_bytes

    def _messages(self, data: bytes) -> list[bytes] | None:
        """Return the messages that ``data`` completes; None if they refused the call."""
        try:
            return self._assembler.feed(data)
        except Refused as refusal:
            self.refuse(refusal)
            return None

    def _hold(self, waiting_bytes: int) -> bool:
        """Take from the budget what is kept of the request; False if that refused the call.

        ``waiting_bytes`` are of whole messages that no handler has taken yet.
        """
        more_bytes = self._assembler.held_bytes + waiting_bytes - self._budgeted_bytes
        if more_bytes:
            budget = self._service.budget
            if not budget.take(more_bytes, self):
                self.give_way()
                return False
            self._budgeted_bytes += more_bytes
            if not self._budgeted_bytes:
                budget.forget(self)
        return True

    def give_way(self) -> None:
        """End the call because too much is held of incomplete requests."""
        self.refuse(Refused(Code.RESOURCE_EXHAUSTED, TOO_MUCH))

    def _decode(self, message: bytes) -> Any:
        """Return a request; raise Refused if the bytes are none."""
        assert self._head.method is not None
        try:
            return self._head.method.decode(message)
        except Exception as error:
            raise Refused(Code.INTERNAL, f"grpc: error unmarshalling request: {error}") from None

    def refuse(self, refusal: Refused) -> None:
        """End the call with a status; what its handler does is cancelled."""
        if not self.ended:
            self._send_status(refusal.code, refusal.text)
            self._cancel()

    async def _send(self, message: Any) -> None:
        """Send one response of a stream; wait while too many are queued."""
        if self.ended:
            raise asyncio.CancelledError
        stream, connection = self._stream, self._host.connection
        self._start_headers()
        data = encoded(message)
        if len(data) < LARGE_BYTES or self._head.gzip:
            connection.data(stream, framed(data, gzip=self._head.gzip), end=False)
        else:
            connection.data(stream, PREFIX.pack(0, len(data)), end=False)
            connection.data(stream, data, end=False)
        self._host.wrote()
        if stream.queued_bytes > self._queue_bytes:
            self._room = self._host.loop.create_future()
            await self._room

    def _start_headers(self) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            connection = self._host.connection
            block = connection.encoder.encode(GZIP_HEAD if self._head.gzip else RESPONSE_HEAD)
            connection.headers(self._stream, block, end=False)

    def _send_response(self, response: Any) -> None:
        """Send the one response of a unary call and its status."""
        if self.ended:
            return
        gzip = self._head.gzip
        message = framed(encoded(response), gzip=gzip)  # raises if it is no message
        self._close()
        connection = self._host.connection
        encode = connection.encoder.encode
        connection.respond(
            self._stream,
            encode(GZIP_HEAD if gzip else RESPONSE_HEAD),
            message,
            encode(OK_TRAILERS),
        )
        self._host.wrote()
        self._report(Code.OK)

    def _send_end(self) -> None:
        """End a stream of responses in good order."""
        if not self.ended:
            self._start_headers()
            self._send_status(Code.OK, "")

    def _send_status(self, code: Code, text: str) -> None:
        """End the call with trailers, which are the whole response if nothing was sent."""
        if self.ended:
            return
        self._close()
        fields = [] if self._headers_sent else list(RESPONSE_HEAD)
        fields.append((b"grpc-status", b"%d" % code))
        if text:
            fields.append((b"grpc-message", percent_encoded(text)))
        if self._head.unknown_encoding:
            fields.append(ACCEPTED_ENCODINGS)
        connection = self._host.connection
        connection.headers(self._stream, connection.encoder.encode(tuple(fields)), end=True)
        self._host.wrote()
        self._report(code)

    @abstractmethod
    async def _serve(self, request: Any) -> None:
        """Run the handler with its request, or the stream of them, and send what it answers."""

    async def _run(self, request: Any) -> None:
        """Serve, and end the call with a status whatever happens."""
        try:
            await self._serve(request)
        except asyncio.CancelledError:
            self.stopped()
            raise
        except Exception as error:
            self._failed(error)

    def _start(self, work: Any) -> None:
        self._task = self._host.owner.create_task(work)

    def _failed(self, error: Exception) -> None:
        """End the call with what the product says of an error of its handler."""
        if isinstance(error, Refused):
            code, text = error.code, error.text
        else:
            code, text = self._service.status_of(error)
        if code is Code.INTERNAL and not isinstance(error, Refused):
            assert self._head.method is not None
            self._service.failed(self._head.method.path, error)
        self._send_status(code, text)

    def _too_late(self) -> None:
        self.refuse(Refused(Code.DEADLINE_EXCEEDED, LATE))

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _close(self) -> None:
        self.ended = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._budgeted_bytes:
            budget = self._service.budget
            budget.take(-self._budgeted_bytes, self)
            budget.forget(self)
            self._budgeted_bytes = 0

    def _report(self, code: Code) -> None:
        if self._head.method is not None:
            self._service.handled(self._head.method, code)

    def stopped(self) -> None:
        """The handler was cancelled from elsewhere: the server stops."""
        if not self.ended:
            self._send_status(Code.UNAVAILABLE, "server stopped")

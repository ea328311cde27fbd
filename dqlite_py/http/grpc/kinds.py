"""The three shapes of calls: one request or a stream of them, one response or a stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from dqlite_py.http.grpc.call import GrpcCall, Host
from dqlite_py.http.grpc.call_head import CallHead
from dqlite_py.http.grpc.methods import Kind
from dqlite_py.http.grpc.service import GrpcService
from dqlite_py.http.grpc.status import Code, Refused
from dqlite_py.http.h2.stream import Stream

MOST_QUEUED_MESSAGES = 16  # of a request stream, beyond which the client's window stays shut
MESSAGE_BYTES = 64  # that a message takes in memory besides its own

NO_REQUEST = Refused(Code.INTERNAL, "grpc: the request ended without a message")
SECOND_REQUEST = Refused(Code.INTERNAL, "grpc: more than one message in a unary request")


class RefusedCall(GrpcCall):
    """A call that nobody serves; its request is read to nowhere."""

    __slots__ = ()

    def body(self, data: bytes, *, ended: bool) -> None:
        """Ignore what the client had already sent."""

    async def _serve(self, request: Any) -> None:
        raise AssertionError("a refused call was started")


class OneRequestCall(GrpcCall):
    """A call whose handler starts when its only request is whole."""

    __slots__ = ("_request",)

    def __init__(self, host: Host, service: GrpcService, stream: Stream, head: CallHead) -> None:
        super().__init__(host, service, stream, head)
        self._request: bytes | None = None

    def body(self, data: bytes, *, ended: bool) -> None:
        """Collect the request; start the handler when the client has ended it."""
        if self.ended:
            return
        messages = self._messages(data)
        if messages is None:
            return
        for message in messages:
            if self._request is not None:
                self.refuse(SECOND_REQUEST)
                return
            self._request = message
        if not ended:
            if self._hold(len(self._request or b"")):
                self._host.connection.consumed(self._stream, len(data))
                self._host.wrote()
        elif self._request is None or self._assembler.held_bytes:
            self.refuse(NO_REQUEST)
        else:
            self._begin(self._request)

    def _begin(self, message: bytes) -> None:
        self._request = None
        if self._budgeted_bytes:
            self._hold(0)  # what runs is bounded elsewhere
        try:
            request = self._decode(message)
        except Refused as refusal:
            self.refuse(refusal)
            return
        self._start(self._run(request))


class UnaryCall(OneRequestCall):
    """One request, one response."""

    __slots__ = ()

    async def _serve(self, request: Any) -> None:
        head = self._head
        assert head.method is not None
        self._send_response(await head.method.handler(request, head.call))


class ServerStreamCall(OneRequestCall):
    """One request, a stream of responses."""

    __slots__ = ()

    async def _serve(self, request: Any) -> None:
        head = self._head
        assert head.method is not None
        await head.method.handler(request, self._send, head.call)
        self._send_end()


class BidiCall(GrpcCall):
    """Two independent streams of messages. The handler starts at once."""

    __slots__ = ("_arrived", "_client_done", "_held_back_bytes", "_queue", "_queued_bytes")

    def __init__(self, host: Host, service: GrpcService, stream: Stream, head: CallHead) -> None:
        super().__init__(host, service, stream, head)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._held_back_bytes = 0  # that the client's window still lacks
        self._client_done = False
        self._arrived: asyncio.Future[None] | None = None
        self._start(self._run(self._requests()))

    def body(self, data: bytes, *, ended: bool) -> None:
        """Queue what arrived; the window opens again as the handler takes it."""
        if self.ended:
            return
        messages = self._messages(data)
        if messages is None:
            return
        self._queue += messages
        self._queued_bytes += sum(map(len, messages)) + MESSAGE_BYTES * len(messages)
        if not self._hold(self._queued_bytes):
            self._queue.clear()
            return
        self._client_done = ended
        self._held_back_bytes += len(data)
        self._open_window()
        arrived = self._arrived
        if arrived is not None and (self._queue or ended) and not arrived.done():
            arrived.set_result(None)

    async def _serve(self, request: Any) -> None:
        head = self._head
        assert head.method is not None
        await head.method.handler(request, self._send, head.call)
        self._send_end()

    async def _requests(self) -> AsyncIterator[Any]:
        queue = self._queue
        while True:
            while queue:
                message = queue.popleft()
                self._queued_bytes -= len(message) + MESSAGE_BYTES
                if not self.ended:
                    self._hold(self._queued_bytes)
                self._open_window()
                yield self._decode(message)
            if self._client_done:
                if self._assembler.held_bytes:
                    raise Refused(Code.INTERNAL, "unexpected EOF")
                return
            self._arrived = self._host.loop.create_future()
            await self._arrived
            self._arrived = None

    def _open_window(self) -> None:
        if self._held_back_bytes and len(self._queue) < MOST_QUEUED_MESSAGES:
            self._host.connection.consumed(self._stream, self._held_back_bytes)
            self._held_back_bytes = 0
            self._host.wrote()


KINDS: dict[Kind, type[GrpcCall]] = {
    Kind.UNARY: UnaryCall,
    Kind.SERVER_STREAM: ServerStreamCall,
    Kind.BIDI: BidiCall,
}

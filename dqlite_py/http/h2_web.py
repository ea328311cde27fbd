"""A request over HTTP/2 that is not gRPC: JSON and pages, which curl asks for under TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from dqlite_py.http.budget import Budget
from dqlite_py.http.h2.connection import Connection
from dqlite_py.http.h2.errors import ErrorCode
from dqlite_py.http.h2.request_head import RequestHead
from dqlite_py.http.h2.stream import Stream
from dqlite_py.http.owner import TaskOwner
from dqlite_py.http.web import BodyTooLarge, BodyUnusable, WebHandler, WebRequest

QUEUE_BYTES = 64 * 1024


class WebHost(Protocol):
    """The connection's owner, as a request sees it."""

    connection: Connection
    owner: TaskOwner
    loop: asyncio.AbstractEventLoop
    secure: bool
    certificate_name: str | None

    def wrote(self) -> None:
        """The connection has something to send: do it soon."""


class H2WebCall:
    """Runs a WebHandler on a stream; it is the handler's WebResponse too."""

    def __init__(
        self,
        host: WebHost,
        stream: Stream,
        handler: WebHandler,
        failed: Callable[[str, BaseException], None],
        budget: Budget,
    ) -> None:
        self._host = host
        self._stream = stream
        self._handler = handler
        self._failed = failed
        self._budget = budget
        self._chunks = bytearray()  # one, however small the pieces that come
        self._client_done = False
        self._arrived: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._started = False
        self._head_only = stream.head.method == b"HEAD"
        self._over = False
        self._task: asyncio.Task[Any] | None = None

    def begin(self, *, ended: bool) -> None:
        """Start the handler."""
        self._client_done = ended
        request = _request(self._stream.head, self._body(), self._host, self._budget)
        self._task = self._host.owner.create_task(self._run(request))

    # --- from the connection ---

    def body(self, data: bytes, *, ended: bool) -> None:
        """Queue a piece; the window opens again as the handler takes it."""
        if self._over:
            return
        if data:
            self._chunks += data
        self._client_done = ended
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    def reset(self, code: int) -> None:
        """The client is gone."""
        self._over = True
        if self._task is not None:
            self._task.cancel()

    def drained(self) -> None:
        """Let the handler write on."""
        room = self._room
        if room is not None and self._stream.queued_bytes <= QUEUE_BYTES // 2:
            self._room = None
            if not room.done():
                room.set_result(None)

    # --- WebResponse ---

    async def start(
        self, status: int, headers: Sequence[tuple[str, str]], *, body_bytes: int | None = None
    ) -> None:
        """Send status and headers."""
        assert not self._started
        self._started = True
        fields = [(b":status", b"%d" % status)]
        fields += [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        if body_bytes is not None:
            fields.append((b"content-length", b"%d" % body_bytes))
        if not self._over:
            connection = self._host.connection
            block = connection.encoder.encode(tuple(fields))
            connection.headers(self._stream, block, end=False)
            self._host.wrote()

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; wait while too much is queued."""
        if self._over or self._head_only or not data:
            return
        self._host.connection.data(self._stream, data, end=False)
        self._host.wrote()
        if self._stream.queued_bytes > QUEUE_BYTES:
            self._room = self._host.loop.create_future()
            await self._room

    # --- inside ---

    async def _run(self, request: WebRequest) -> None:
        try:
            await self._handler(request, self)
            if not self._started:
                raise AssertionError("a handler returned without an answer")
        except asyncio.CancelledError:
            self._break_off(ErrorCode.CANCEL)
            raise
        except BodyTooLarge as error:
            await self._refuse(413, str(error))
        except BodyUnusable as error:
            await self._refuse(error.status, error.reason)
        except Exception as error:
            self._failed(request.path, error)
            await self._refuse(500, "internal error")
        else:
            self._end()

    async def _refuse(self, status: int, text: str) -> None:
        if self._started:
            self._break_off(ErrorCode.INTERNAL_ERROR)
            return
        body = text.encode() + b"\n"
        await self.start(status, [("content-type", "text/plain")], body_bytes=len(body))
        await self.write(body)
        self._end()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._host.connection.data(self._stream, b"", end=True)
            self._host.wrote()

    def _break_off(self, code: ErrorCode) -> None:
        if not self._over:
            self._over = True
            self._host.connection.reset_stream(self._stream, code)
            self._host.wrote()

    async def _body(self) -> AsyncIterator[bytes]:
        while True:
            while self._chunks:
                chunk = bytes(self._chunks)
                self._chunks.clear()
                self._host.connection.consumed(self._stream, len(chunk))
                self._host.wrote()
                yield chunk
            if self._client_done:
                return
            self._arrived = self._host.loop.create_future()
            await self._arrived
            self._arrived = None


def _request(
    head: RequestHead, chunks: AsyncIterator[bytes], host: WebHost, budget: Budget
) -> WebRequest:
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in head.fields:
        name, value = name_bytes.decode("ascii"), value_bytes.decode("latin-1")
        # Cookies may come in pieces, and have a separator of their own (RFC 9113 section 8.2.3).
        between = "; " if name == "cookie" else ", "
        headers[name] = f"{headers[name]}{between}{value}" if name in headers else value
    if head.authority:
        headers.setdefault("host", head.authority.decode("latin-1"))
    path, _, query = head.path.decode("latin-1").partition("?")
    return WebRequest(
        head.method.decode("latin-1"),
        path,
        query,
        headers,
        chunks,
        host.secure,
        host.certificate_name,
        budget,
    )

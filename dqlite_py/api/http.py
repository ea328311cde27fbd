"""A small HTTP/1.1 server for the pages that operators and their tools read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import h11

from dqlite_py.errors import StartRefused

MOST_CONNECTIONS = 256
MOST_HEADER_BYTES = 16 * 1024
MOST_BODY_BYTES = 64 * 1024  # of a request; pages have no use for it
READ_BYTES = 16 * 1024
IDLE_S = 60.0

PLAIN_TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

Query = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a page says."""

    body: bytes
    status: int = 200
    content_type: str = PLAIN_TEXT


Page = Callable[[Query], Awaitable[Answer]]


class HttpServer:
    """Serves pages, each the answer to GET (and HEAD) of one path.

    ``report`` is told (path, error) when a page raises; the client gets a 500 without details.
    """

    def __init__(
        self, pages: Mapping[str, Page], report: Callable[[str, BaseException], None]
    ) -> None:
        self._pages = pages
        self._report = report
        self._servers: list[asyncio.Server] = []
        self._open: dict[asyncio.StreamWriter, None] = {}

    async def start(self, addresses: Sequence[str]) -> list[int]:
        """Listen on every ``host:port``; return the ports, which differ if 0 was asked.

        Raises StartRefused when an address can not be had.
        """
        ports = []
        for address in addresses:
            host, _, port = address.rpartition(":")
            try:
                server = await asyncio.start_server(
                    self._connected, host.strip("[]"), int(port), limit=READ_BYTES
                )
            except OSError as error:
                await self.stop()
                raise StartRefused(
                    reason=f"cannot listen for metrics on {address}: {error.strerror}; choose "
                    "another --listen-metrics-urls"
                ) from None
            self._servers.append(server)
            ports.append(int(server.sockets[0].getsockname()[1]))
        return ports

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        for server in self._servers:
            server.close()
        for writer in list(self._open):
            writer.close()
        self._servers.clear()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._open) < MOST_CONNECTIONS:
                self._open[writer] = None
                await self._converse(reader, writer)
        except (ConnectionError, TimeoutError):
            pass  # the client has gone, or says nothing: nobody is left to be told
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEADER_BYTES)
        while True:
            try:
                async with asyncio.timeout(IDLE_S):
                    request = await _next_request(connection, reader)
            except h11.RemoteProtocolError as error:
                if connection.our_state is h11.IDLE or connection.our_state is h11.SEND_RESPONSE:
                    refusal = Answer(b"bad request\n", error.error_status_hint)
                    writer.write(_encode(connection, refusal, head_only=False, close=True))
                    await writer.drain()
                return
            if request is None:
                return
            answer = await self._answer(request)
            head_only = request.method == b"HEAD"
            writer.write(_encode(connection, answer, head_only=head_only, close=False))
            async with asyncio.timeout(IDLE_S):
                await writer.drain()
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    async def _answer(self, request: h11.Request) -> Answer:
        target = urlsplit(request.target.decode("ascii"))
        page = self._pages.get(target.path)
        if page is None:
            return Answer(b"404 page not found\n", 404)
        if request.method not in {b"GET", b"HEAD"}:
            return Answer(b"method not allowed\n", 405)
        try:
            return await page(parse_qs(target.query, keep_blank_values=True))
        except Exception as error:
            self._report(target.path, error)
            return Answer(b"internal error\n", 500)


async def _next_request(
    connection: h11.Connection, reader: asyncio.StreamReader
) -> h11.Request | None:
    """Return the next whole request; None when the client has closed."""
    request: h11.Request | None = None
    body_bytes = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body_bytes += len(event.data)
            if body_bytes > MOST_BODY_BYTES:
                raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
        elif isinstance(event, h11.EndOfMessage):
            return request
        else:  # ConnectionClosed, or PAUSED behind an upgrade that nobody offered
            return None


def _encode(connection: h11.Connection, answer: Answer, *, head_only: bool, close: bool) -> bytes:
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
    ]
    if close:
        headers.append(("connection", "close"))
    response = h11.Response(status_code=answer.status, headers=headers)
    parts = [connection.send(response)]
    if not head_only:
        parts.append(connection.send(h11.Data(data=answer.body)))
    parts.append(connection.send(h11.EndOfMessage()))
    return b"".join(part for part in parts if part)

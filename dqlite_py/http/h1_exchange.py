"""One HTTP/1.1 request and its answer (RFC 9110, RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

import h11

from dqlite_py.http.h1_wire import Http1Limits, Wire
from dqlite_py.http.web import BodyUnusable, WebRequest

PLAIN_TEXT = "text/plain; charset=utf-8"


class Body:
    """What a request carries, piece by piece; an asynchronous iterator.

    The client is asked to go on (100 Continue) when somebody first wants the body. Until the
    answer has begun the client may keep the reader waiting for ``body_s``, which grows again with
    what it sends; from then on it is a conversation, in which a client may be silent.
    """

    def __init__(self, connection: h11.Connection, wire: Wire, limits: Http1Limits) -> None:
        self._connection = connection
        self._wire = wire
        self._limits = limits
        self._patience_s = limits.body_s
        self.answer_begun = False
        self.unusable = False  # what follows on the connection means nothing

    def __aiter__(self) -> Body:
        return self

    async def __anext__(self) -> bytes:
        if self._connection.they_are_waiting_for_100_continue and not self.answer_begun:
            proceed = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            await self._wire.write(self._connection.send(proceed) or b"")
        while self._connection.their_state is h11.SEND_BODY:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as error:
                self.unusable = True
                raise BodyUnusable(error.error_status_hint, str(error)) from None
            if event is h11.NEED_DATA:
                self._connection.receive_data(await self._read())
            elif isinstance(event, h11.Data):
                earned_s = len(event.data) / self._limits.body_bytes_per_s
                self._patience_s = min(self._patience_s + earned_s, self._limits.body_s)
                return bytes(event.data)
        raise StopAsyncIteration

    async def skip(self) -> bool:
        """Read what is left; return False if that is not worth while, or fails."""
        skipped_bytes = 0
        try:
            async with asyncio.timeout(self._limits.body_s):
                async for data in self:
                    skipped_bytes += len(data)
                    if skipped_bytes > self._limits.skip_bytes:
                        return False
        except (BodyUnusable, TimeoutError):
            return False
        return True

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            async with asyncio.timeout(None if self.answer_begun else self._patience_s):
                data = await self._wire.read()
        except TimeoutError:
            self.unusable = True
            raise BodyUnusable(408, "the body of the request comes too slowly") from None
        self._patience_s -= loop.time() - began_s
        return data


class Exchange:
    """One request and its answer; the ``WebResponse`` that handlers see."""

    def __init__(
        self,
        connection: h11.Connection,
        wire: Wire,
        request: h11.Request,
        body: Body,
        *,
        secure: bool,
        certificate_name: str | None,
    ) -> None:
        self._connection = connection
        self._wire = wire
        self._body = body
        self._is_head = request.method == b"HEAD"
        self.close_after = False  # say so in the answer, and do so
        self.status = 0  # of the answer, 0 before it has begun
        path, query = _target(request)
        self.request = WebRequest(
            method=request.method.decode("ascii"),
            path=path,
            query=query,
            headers=_headers(request),
            chunks=body,
            secure=secure,
            certificate_name=certificate_name,
        )

    # --- the answer ----------------------------------------------------------------------------
    async def start(
        self, status: int, headers: Sequence[tuple[str, str]], *, body_bytes: int | None = None
    ) -> None:
        """Send status and headers; see ``WebResponse``."""
        assert not self.status, "an answer starts once"
        fields = [*headers, ("date", formatdate(usegmt=True))]
        if body_bytes is not None:
            fields.append(("content-length", str(body_bytes)))
        # A client that waits to be told to send its body is not told any more: it may send it
        # or not, so the next request could not be told from the body.
        if self._connection.they_are_waiting_for_100_continue:
            self.close_after = True
        if self.close_after or self._body.unusable:
            self.close_after = True
            fields.append(("connection", "close"))
        encoded = [(name.encode("ascii"), value.encode("utf-8")) for name, value in fields]
        head = h11.Response(status_code=status, headers=encoded, reason=_reason(status))
        data = self._connection.send(head)
        self.status = status
        self._body.answer_begun = True
        await self._wire.write(data or b"")

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; return when there is room for more."""
        assert self.status, "an answer starts before its body"
        if data and not self._is_head:
            await self._wire.write(self._connection.send(h11.Data(data=data)) or b"")

    async def finish(self) -> None:
        """End the answer; h11.LocalProtocolError if it has another length than it said."""
        await self._wire.write(self._connection.send(h11.EndOfMessage()) or b"")

    async def refuse(self, status: int, reason: str) -> None:
        """Answer with a short text, to the end."""
        text = f"{reason}\n".encode()
        await self.start(status, [("content-type", PLAIN_TEXT)], body_bytes=len(text))
        await self.write(text)
        await self.finish()


def refusal(connection: h11.Connection, status: int, reason: str) -> bytes:
    """Return an answer to what is not a request, b"" if an answer has begun already."""
    if connection.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
        return b""
    body = f"{reason}\n".encode()
    headers = [
        ("content-type", PLAIN_TEXT),
        ("content-length", str(len(body))),
        ("date", formatdate(usegmt=True)),
        ("connection", "close"),
    ]
    events: tuple[h11.Event, ...] = (
        h11.Response(status_code=status, headers=headers, reason=_reason(status)),
        h11.Data(data=body),
        h11.EndOfMessage(),
    )
    return b"".join(connection.send(event) or b"" for event in events)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""  # a status that nobody has named is legal


def _target(request: h11.Request) -> tuple[str, str]:
    target = request.target.decode("latin-1")
    if target.lower().startswith(("http://", "https://")):  # the absolute form
        _, _, rest = target.partition("://")
        _, slash, rest = rest.partition("/")
        target = slash + rest or "/"
    path, _, query = target.partition("?")
    return path, query


def _headers(request: h11.Request) -> dict[str, str]:
    result: dict[str, str] = {}
    for name, value in request.headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        result[key] = f"{result[key]}, {text}" if key in result else text
    return result

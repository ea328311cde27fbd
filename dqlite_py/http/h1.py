"""HTTP/1.1 for one connection, over h11 (RFC 9110, RFC 9112)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

import h11

from dqlite_py.http.certificates import common_name
from dqlite_py.http.h1_exchange import Body, Exchange, refusal
from dqlite_py.http.h1_wire import Http1Limits, Wire
from dqlite_py.http.web import BodyTooLarge, BodyUnusable, WebHandler

INTERNAL = 500
REQUEST_TIMEOUT = 408
CONTENT_TOO_LARGE = 413
HEADER_TOO_LARGE = 431


class TaskStarter(Protocol):
    """Whoever owns the tasks of connections, such as a TaskGroup."""

    def create_task(self, coro: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine that raises nothing but CancelledError."""


class Http1Observer(Protocol):
    """Is told what happens on HTTP/1.1 connections; none of its methods may raise."""

    def answered(self, status: int) -> None:
        """A request was answered to the end, or refused, with this status."""

    def cut(self, reason: str) -> None:
        """A client was cut off: "slow reader", "slow header", "idle", "slow body"."""

    def closed(self, protocol: Http1Protocol) -> None:
        """The connection is gone and its handler has ended or is being cancelled."""


class Http1Protocol(asyncio.Protocol):
    """Serves one connection with ``handler``, one request after another.

    A request is read as the handler asks for it and its answer is sent as fast as the client takes
    it; requests that were sent ahead wait in bounded buffers. When the client goes, the handler is
    cancelled. What a handler raises is told to ``report`` with the request's path.
    """

    def __init__(
        self,
        handler: WebHandler,
        limits: Http1Limits,
        owner: TaskStarter,
        report: Callable[[str, BaseException], None],
        secure: bool,
        observer: Http1Observer | None = None,
    ) -> None:
        self._handler = handler
        self._limits = limits
        self._owner = owner
        self._report = report
        self._secure = secure
        self._observer: Http1Observer = observer or _Silence()
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._wire: Wire
        self._certificate_name: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._exchange: Exchange | None = None
        self._waiting = False  # between requests, nothing of the next one has come
        self._served = 0
        self._draining = False
        self._giving_up: asyncio.TimerHandle | None = None

    # --- the owner's side ----------------------------------------------------------------------
    def drain(self) -> None:
        """End the connection after the request under way; at once if there is none."""
        self._draining = True
        if self._exchange is not None:
            self._exchange.close_after = True
        if self._waiting and not self._wire.has_input and self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        """End the connection now; a handler is cancelled and its answer broken off."""
        if self._task is not None:
            self._task.cancel()

    # --- the transport's callbacks -------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        # uvloop's transports have the methods but not the class.
        self._wire = Wire(cast(asyncio.Transport, transport), self._limits, self._observer.cut)
        if self._secure:
            self._certificate_name = common_name(transport.get_extra_info("peercert"))
        self._task = self._owner.create_task(self._converse())

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        self._wire.received(data)

    def eof_received(self) -> bool:
        """Give an answer under way a moment: many a client just says that it asks no more."""
        self._wire.ended()
        loop = asyncio.get_running_loop()
        self._giving_up = loop.call_later(self._limits.half_closed_s, self.close)
        return not self._secure  # TLS has no half-closed connections

    def pause_writing(self) -> None:
        """Make the handler wait."""
        self._wire.pause()

    def resume_writing(self) -> None:
        """Let the handler go on."""
        self._wire.resume()

    def connection_lost(self, _error: Exception | None) -> None:
        """Cancel the handler: nobody is left to hear the answer."""
        self._wire.lost()
        if self._giving_up is not None:
            self._giving_up.cancel()
        if self._task is not None:
            self._task.cancel()
        self._observer.closed(self)

    # --- the conversation ----------------------------------------------------------------------
    async def _converse(self) -> None:
        whole = False
        try:
            while await self._one_request():
                self._connection.start_next_cycle()
            whole = True
        except Exception as error:
            self._report("", error)  # a defect of this package; other connections go on
        finally:
            if whole or self._waiting:
                self._wire.close()
            else:
                self._wire.abort()

    async def _one_request(self) -> bool:
        """Serve one request; return whether the connection can carry another."""
        try:
            request = await self._next_request()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, str(error))
            return False
        except TimeoutError:
            self._observer.cut("slow header")
            await self._refuse(REQUEST_TIMEOUT, "the request comes too slowly")
            return False
        if request is None:
            return False
        body = Body(self._connection, self._wire, self._limits)
        self._exchange = exchange = Exchange(
            self._connection,
            self._wire,
            request,
            body,
            secure=self._secure,
            certificate_name=self._certificate_name,
        )
        exchange.close_after = self._draining
        if not await self._answer(exchange):
            return False
        self._served += 1
        usable = not exchange.close_after and not body.unusable and await body.skip()
        reusable = usable and self._is_reusable()
        if not reusable:
            await self._linger()
        self._exchange = None
        return reusable

    def _is_reusable(self) -> bool:
        return self._connection.our_state is h11.DONE and self._connection.their_state is h11.DONE

    async def _next_request(self) -> h11.Request | None:
        """Return the next request's header; None if there will be none.

        Raises h11.RemoteProtocolError, and TimeoutError for a header that is begun but not ended.
        """
        event = self._connection.next_event()
        between = event is h11.NEED_DATA and not self._connection.trailing_data[0]
        if between and not await self._begun():
            return None
        async with asyncio.timeout(self._limits.header_s):
            while event is h11.NEED_DATA:
                self._connection.receive_data(await self._wire.read())
                event = self._connection.next_event()
        if not isinstance(event, h11.Request):
            return None  # ConnectionClosed
        if _header_bytes(event) > self._limits.header_bytes:
            raise h11.RemoteProtocolError("the header is too large", HEADER_TOO_LARGE)
        return event

    async def _begun(self) -> bool:
        """Return whether another request has begun; False if the client is silent too long."""
        if self._draining and not self._wire.has_input:
            return False
        self._waiting = True
        patience_s = self._limits.idle_s if self._served else self._limits.header_s
        try:
            async with asyncio.timeout(patience_s):
                await self._wire.readable()
        except TimeoutError:
            self._observer.cut("idle")
            return False
        self._waiting = False
        return True

    async def _answer(self, exchange: Exchange) -> bool:
        """Run the handler; return False when the answer had to be broken off."""
        path = exchange.request.path
        try:
            await self._handler(exchange.request, exchange)
            if not exchange.status:
                raise RuntimeError("the handler returned without an answer")
            await exchange.finish()
        except BodyTooLarge as error:
            exchange.close_after = True  # the rest is not wanted
            return await self._instead(exchange, CONTENT_TOO_LARGE, str(error))
        except BodyUnusable as error:
            if error.status == REQUEST_TIMEOUT:
                self._observer.cut("slow body")
            return await self._instead(exchange, error.status, error.reason)
        except Exception as error:
            self._report(path, error)
            return await self._instead(exchange, INTERNAL, "internal error")
        self._observer.answered(exchange.status)
        return True

    async def _instead(self, exchange: Exchange, status: int, reason: str) -> bool:
        if exchange.status:
            self._wire.abort()  # the client must not take what it has for the whole
            return False
        await exchange.refuse(status, reason)
        self._observer.answered(status)
        return True

    async def _refuse(self, status: int, reason: str) -> None:
        answer = refusal(self._connection, status, reason)
        if answer:
            await self._wire.write(answer)
            self._observer.answered(status)
            await self._linger()

    async def _linger(self) -> None:
        unread = self._connection.their_state in {h11.SEND_BODY, h11.ERROR}
        await self._wire.linger(unread=unread or self._wire.has_input)


class _Silence:
    def answered(self, status: int) -> None:
        """Tell nobody."""

    def cut(self, reason: str) -> None:
        """Tell nobody."""

    def closed(self, protocol: Http1Protocol) -> None:
        """Tell nobody."""


def _header_bytes(request: h11.Request) -> int:
    fields = sum(len(name) + len(value) + 4 for name, value in request.headers)
    return fields + len(request.method) + len(request.target) + 12

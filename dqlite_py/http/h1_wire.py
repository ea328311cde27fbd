"""The bytes of one connection, bounded both ways, with deadlines on a peer that stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Http1Limits:
    """What one HTTP/1.1 connection may take; none of it is for ever."""

    header_bytes: int = 16 * 1024  # request line and headers together
    header_s: float = 10.0  # for a request's header to be complete once it has begun
    idle_s: float = 75.0  # between two requests; a connection's first has only ``header_s``
    body_s: float = 10.0  # how long a body may keep a handler waiting before the answer begins...
    body_bytes_per_s: int = 1024  # ...each byte that comes earns time at this rate
    read_ahead_bytes: int = 64 * 1024  # taken from the client before the handler asks
    skip_bytes: int = 64 * 1024  # of a body nobody read: more of it ends the connection
    write_ahead_bytes: int = 64 * 1024  # sent to a slow client before the handler waits
    write_stall_s: float = 30.0  # a client that takes nothing for so long is cut off
    half_closed_s: float = 5.0  # for the answer once the client sends no more
    linger_s: float = 1.0  # so that a refused client can read why


class Wire:
    """Reads and writes over an asyncio transport whose protocol passes the callbacks on.

    At most ``read_ahead_bytes`` and one read more are buffered on the way in, ``write_ahead_bytes``
    and one write more on the way out. ``cut`` is told in a word why a client was cut off.
    """

    def __init__(
        self, transport: asyncio.Transport, limits: Http1Limits, cut: Callable[[str], None]
    ) -> None:
        self._transport = transport
        self._limits = limits
        self._cut = cut
        self._loop = asyncio.get_running_loop()
        self._inbox = bytearray()
        self._ended = False  # the client sends no more
        self._lost = asyncio.Event()
        self._readable = asyncio.Event()
        self._reading_paused = False
        self._writable = asyncio.Event()
        self._writable.set()
        transport.set_write_buffer_limits(high=limits.write_ahead_bytes)

    # --- the transport's callbacks -------------------------------------------------------------
    def received(self, data: bytes) -> None:
        """Take what the client sent."""
        self._inbox += data
        self._readable.set()
        if len(self._inbox) > self._limits.read_ahead_bytes and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def ended(self) -> None:
        """Note that the client sends no more."""
        self._ended = True
        self._readable.set()

    def lost(self) -> None:
        """Note that the connection is gone."""
        self._lost.set()
        self.ended()
        self._writable.set()

    def pause(self) -> None:
        """Note that the transport holds more than ``write_ahead_bytes``."""
        self._writable.clear()

    def resume(self) -> None:
        """Note that the transport has room again."""
        self._writable.set()

    # --- for the conversation ------------------------------------------------------------------
    @property
    def has_input(self) -> bool:
        """Whether ``read`` would return at once."""
        return self._readable.is_set()

    async def readable(self) -> None:
        """Return once ``read`` would return at once."""
        await self._readable.wait()

    async def read(self) -> bytes:
        """Return what has come, b"" after the client's last byte."""
        await self._readable.wait()
        data = bytes(self._inbox)
        self._inbox.clear()
        if not self._ended:
            self._readable.clear()
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send; return when there is room for more.

        A client that takes nothing for ``write_stall_s`` is cut off. Raises CancelledError when
        the connection has gone: the handler is being cancelled for that, and a task of its own
        must not turn it into an error before it is told.
        """
        if self._lost.is_set():
            raise asyncio.CancelledError
        self._transport.write(data)
        while not self._writable.is_set():
            before = self._transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self._limits.write_stall_s):
                    await self._writable.wait()
            except TimeoutError:
                if self._transport.get_write_buffer_size() >= before:
                    self._cut("slow reader")
                    self._transport.abort()
                    await self._lost.wait()
        if self._lost.is_set():
            raise asyncio.CancelledError

    async def linger(self, *, unread: bool) -> None:
        """Let the client read what was sent though it may still be sending itself.

        Closing with something ``unread`` would make the kernel answer it with a reset, which
        destroys answers under way. Without half-closed connections, as under TLS, the client is
        waited for only then.
        """
        if self._ended:
            return
        if self._transport.can_write_eof():
            self._transport.write_eof()
        elif not unread:
            return
        try:
            async with asyncio.timeout(self._limits.linger_s):
                while not self._ended:
                    await self.read()
        except TimeoutError:
            return

    def close(self) -> None:
        """Close once all is sent; a client that takes nothing meanwhile is cut off."""
        if not self._lost.is_set():
            self._transport.close()
            self._watch_closing(self._transport.get_write_buffer_size())

    def abort(self) -> None:
        """Close at once; what was not sent is dropped, so a cut answer does not look whole."""
        self._transport.abort()

    def _watch_closing(self, unsent_bytes: int) -> None:
        self._loop.call_later(self._limits.write_stall_s, self._check_closing, unsent_bytes)

    def _check_closing(self, unsent_before: int) -> None:
        if self._lost.is_set():
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent >= unsent_before:
            self._cut("slow reader")
            self._transport.abort()
        else:
            self._watch_closing(unsent)

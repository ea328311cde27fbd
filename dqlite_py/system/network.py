"""TCP on the real machine, under TLS where an address asks for it, as ``seams.Network``."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

from dqlite_py.errors import StartRefused
from dqlite_py.system.tls.refusals import why

READ_BUFFER_BYTES = 1 << 20
"""Received bytes held before the peer is told, by TCP's window, to wait."""

WRITE_BUFFER_BYTES = 1 << 20
"""Written bytes above which ``drain`` waits."""

TLS_HANDSHAKE_TIMEOUT_S = 5.0
"""What either side may take until TLS stands."""

SECURE_PREFIX = "https://"


@dataclass(frozen=True, slots=True)
class NetworkTls:
    """The contexts of connections to and from addresses that ask for TLS."""

    listening: ssl.SSLContext
    dialling: ssl.SSLContext


def split_scheme(address: str) -> tuple[bool, str]:
    """Tell whether ``address`` asks for TLS, and return its ``host:port``."""
    return address.startswith(SECURE_PREFIX), address.removeprefix(SECURE_PREFIX)


def parse_address(address: str) -> tuple[str, int]:
    """Split ``host:port``; an IPv6 host stands in brackets.

    Raises ValueError with one line naming the address.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"address {address!r}: put the IPv6 host in brackets, as in [::1]:2380")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"address {address!r} is not host:port")
    return host, int(port)


class TcpStream(asyncio.Protocol):
    """One TCP connection, as ``seams.Stream``; at most one coroutine reads and one drains."""

    def __init__(self, opened: Callable[[TcpStream], None] | None = None) -> None:
        self._opened = opened
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._wanted = 0
        self._reader: asyncio.Future[None] | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._writable = True
        self._receiving = True
        self._ended = False
        self._why_ended = ""
        self._address = "?"

    # --- seams.Stream -------------------------------------------------------------------------
    async def read_exactly(self, length: int) -> bytes:
        """Return exactly ``length`` bytes; raise ConnectionError if the stream ends first."""
        buffer = self._buffer
        while len(buffer) < length:
            if self._ended:
                raise ConnectionResetError(self._why_ended)
            assert self._reader is None, "two coroutines read one stream"
            self._wanted = length
            self._receive(wanted=True)
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
                self._wanted = 0
        with memoryview(buffer) as view:
            data = bytes(view[:length])
        del buffer[:length]
        if not self._receiving and len(buffer) < READ_BUFFER_BYTES // 2:
            self._receive(wanted=True)
        return data

    def write(self, data: bytes) -> None:
        """Queue bytes to be sent; never blocks; bytes for a closed stream vanish."""
        if self._transport is not None and not self._ended:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the send buffer is below its limit; raise ConnectionError if closed."""
        while not self._writable and not self._ended:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._drainers.append(waiter)
            await waiter
        if self._ended:
            raise ConnectionResetError(self._why_ended)

    def buffered_bytes(self) -> int:
        """Return how many written bytes the kernel has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Close at once; pending bytes may be lost. Closing twice is not an error."""
        if self._transport is not None:
            self._transport.abort()

    def peer_address(self) -> str:
        """Return ``host:port`` of the other side."""
        return self._address

    # --- asyncio.Protocol ---------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio when the connection stands."""
        # uvloop's transports do not inherit from asyncio's, they only behave like them.
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = transport.get_extra_info("peername")
        if name:
            self._address = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        if self._opened is not None:
            self._opened(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with each piece received."""
        self._buffer += data
        have = len(self._buffer)
        if self._wanted and have >= self._wanted:
            self._wake_reader()
        if have >= READ_BUFFER_BYTES and have >= self._wanted:
            self._receive(wanted=False)

    def eof_received(self) -> bool:
        """Called by asyncio when the other side is done; half-open streams are not kept."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio when the connection is gone; ``exc`` says why, if anything did."""
        self._ended = True
        reason = why(exc) if isinstance(exc, ssl.SSLError) else exc
        self._why_ended = f"connection to {self._address}: {reason or 'closed by the other side'}"
        self._wake_reader()
        self.resume_writing()

    def pause_writing(self) -> None:
        """Called by asyncio when the send buffer is above its limit."""
        self._writable = False

    def resume_writing(self) -> None:
        """Called by asyncio when the send buffer is low again."""
        self._writable = True
        waiters, self._drainers = self._drainers, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _receive(self, *, wanted: bool) -> None:
        if wanted == self._receiving or self._transport is None or self._ended:
            return
        self._receiving = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()


class TcpNetwork:
    """Makes TCP connections; create and use it on one event loop.

    An address is ``host:port``, or ``https://host:port`` for TLS under ``tls``.
    """

    def __init__(self, tls: NetworkTls | None = None) -> None:
        self._tls = tls

    async def connect(self, address: str) -> TcpStream:
        """Open a stream to ``address``; raise ConnectionError or OSError on failure.

        A malformed address, and one that asks for TLS where there is none, raise ConnectionError
        too. No timeout of its own, except that TLS must stand in 5 s.
        """
        secure, rest = split_scheme(address)
        try:
            host, port = parse_address(rest)
        except ValueError as error:
            raise ConnectionError(str(error)) from error
        loop = asyncio.get_running_loop()
        if not secure:
            return (await loop.create_connection(TcpStream, host, port))[1]
        if self._tls is None:
            raise ConnectionError(f"{address} asks for TLS, which is not set up here")
        try:
            _, stream = await loop.create_connection(
                TcpStream,
                host,
                port,
                ssl=self._tls.dialling,
                server_hostname=host,
                ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_S,
            )
        except ssl.SSLError as error:
            raise ConnectionError(f"TLS with {address}: {why(error)}") from error
        return stream

    async def listen(
        self, addresses: Sequence[str], accept: Callable[[TcpStream], Awaitable[None]]
    ) -> Callable[[], None]:
        """Serve ``accept(stream)`` for each inbound stream; return a function that stops it.

        Raises StartRefused naming the first address that cannot be listened on; then none is.
        Stopping closes the listening sockets and cancels what ``accept`` is still doing.
        """
        listener = _Listener(accept, self._tls)
        try:
            for address in addresses:
                await listener.add(address)
        except BaseException:
            listener.stop()
            raise
        return listener.stop


class _Listener:
    """The listening sockets of one ``listen`` call and the tasks that serve their streams."""

    def __init__(
        self, accept: Callable[[TcpStream], Awaitable[None]], tls: NetworkTls | None
    ) -> None:
        self._accept = accept
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, address: str) -> None:
        """Listen on ``address``; raise StartRefused if that is not possible."""
        secure, rest = split_scheme(address)
        if secure and self._tls is None:
            raise StartRefused(reason=f"cannot listen on {address}: TLS is not set up")
        context = self._tls.listening if secure and self._tls is not None else None
        try:
            host, port = parse_address(rest)
            server = await self._loop.create_server(
                lambda: TcpStream(self._opened),
                host or None,
                port,
                reuse_address=True,
                ssl=context,
                ssl_handshake_timeout=None if context is None else TLS_HANDSHAKE_TIMEOUT_S,
            )
        except (OSError, ValueError) as error:
            raise StartRefused(reason=f"cannot listen on {address}: {_why(error)}") from error
        self._servers.append(server)

    def stop(self) -> None:
        """Close the sockets and cancel the tasks."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()

    def _opened(self, stream: TcpStream) -> None:
        task = self._loop.create_task(self._serve(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, stream: TcpStream) -> None:
        try:
            await self._accept(stream)
        except Exception as error:  # the boundary: one stream must not end the listener
            self._loop.call_exception_handler(
                {"message": f"serving {stream.peer_address()} failed", "exception": error}
            )
            stream.close()


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, OSError) and error.errno:
        # asyncio's own text repeats the address in another notation
        return os.strerror(error.errno)
    return str(error)

"""Listens on ports of their own for the pages that operators and their tools read."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence

from dqlite_py.errors import StartRefused
from dqlite_py.http.h1 import Http1Protocol, TaskStarter
from dqlite_py.http.h1_wire import Http1Limits
from dqlite_py.http.keepalive import keep_alive
from dqlite_py.http.web import WebHandler

MOST_CONNECTIONS = 256
TLS_HANDSHAKE_TIMEOUT_S = 10.0


class HttpServer:
    """Serves ``handler`` over HTTP/1.1 on its own ports.

    ``report`` is told (path, error) when the handler raises; the client gets a 500 without
    details. Connections beyond MOST_CONNECTIONS are closed at once.
    """

    def __init__(
        self,
        handler: WebHandler,
        report: Callable[[str, BaseException], None],
        limits: Http1Limits | None = None,
    ) -> None:
        self._handler = handler
        self._report = report
        self._limits = limits or Http1Limits()
        self._servers: list[asyncio.Server] = []
        self._open: dict[Http1Protocol, None] = {}

    async def start(
        self, addresses: Sequence[str], owner: TaskStarter, tls: ssl.SSLContext | None = None
    ) -> list[int]:
        """Listen on every ``host:port``; return the ports, which differ if 0 was asked.

        ``owner`` runs the connections' tasks; with ``tls`` they are encrypted. May be called again
        for more addresses. Raises StartRefused when an address can not be had.
        """
        ports = []
        loop = asyncio.get_running_loop()
        for address in addresses:
            host, _, port = address.rpartition(":")
            try:
                server = await loop.create_server(
                    lambda: _Counted(self._protocol(owner, tls is not None), self._open),
                    host.strip("[]"),
                    int(port),
                    ssl=tls,
                    ssl_handshake_timeout=None if tls is None else TLS_HANDSHAKE_TIMEOUT_S,
                )
            except OSError as error:
                await self.stop()
                raise StartRefused(
                    reason=f"cannot listen for metrics on {address}: {error.strerror}; choose "
                    "another --listen-metrics-urls"
                ) from None
            keep_alive(server)
            self._servers.append(server)
            ports.append(int(server.sockets[0].getsockname()[1]))
        return ports

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        for server in self._servers:
            server.close()
        for connection in list(self._open):
            connection.close()
        self._servers.clear()

    def _protocol(self, owner: TaskStarter, secure: bool) -> Http1Protocol:
        return Http1Protocol(
            self._handler, self._limits, owner, self._report, secure=secure, observer=self
        )

    # --- Http1Observer -------------------------------------------------------------------------
    def answered(self, status: int) -> None:
        """Not counted: these ports are for metrics, not their subject."""

    def cut(self, reason: str) -> None:
        """Not counted either."""

    def closed(self, protocol: Http1Protocol) -> None:
        """Forget a connection."""
        self._open.pop(protocol, None)


class _Counted(asyncio.Protocol):
    """Hands a new connection to its protocol, or closes it when there are too many."""

    def __init__(self, protocol: Http1Protocol, opened: dict[Http1Protocol, None]) -> None:
        self._protocol = protocol
        self._open = opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            transport.close()
            return
        self._open[self._protocol] = None
        transport.set_protocol(self._protocol)
        self._protocol.connection_made(transport)

"""Listening for clients: gRPC over HTTP/2 and HTTP/1.1 on one port, told apart by first bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from dqlite_py.http.certificates import common_name
from dqlite_py.http.connections import ConnectionLimits, Connections, Ending
from dqlite_py.http.h1 import Http1Protocol
from dqlite_py.http.h1_wire import Http1Limits
from dqlite_py.http.h2 import frames
from dqlite_py.http.h2_protocol import H2Protocol, H2Setting
from dqlite_py.http.keepalive import keep_alive
from dqlite_py.http.owner import TaskOwner
from dqlite_py.http.web import within_budget

FIRST_BYTES_S = 10.0  # for a new connection to say what it speaks, and for a TLS handshake
BACKLOG = 1024
TICK_S = 1.0
LAST_BYTES_S = 0.2  # for clients to take what was sent when the server stops
TOLD_APART_BYTES = 4  # "PRI " is no method of HTTP/1.1


@dataclass(frozen=True, slots=True)
class Bind:
    """Where to listen: a port of a host, or (``path``) a unix socket; with ``tls`` encrypted."""

    host: str = ""
    port: int = 0
    path: str | None = None
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class PortSetting:
    """What a client port serves. ``count`` is told why a connection was ended, by a short name."""

    h2: H2Setting
    count: Callable[[str], None]
    h1: Http1Limits = field(default_factory=Http1Limits)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)


class ClientPort:
    """Accepts connections and serves them until it is stopped."""

    def __init__(self, setting: PortSetting) -> None:
        self.setting = setting
        self.connections = Connections(setting.connections, setting.count)
        self.owner = TaskOwner(lambda error: setting.h2.web_failed("a task", error))
        self.loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._ticking: asyncio.Task[Any] | None = None
        self.leaving = False

    async def start(self, binds: Sequence[Bind]) -> list[int]:
        """Listen at every place; return the ports, which differ if 0 was asked.

        Raises OSError, with nothing left listening, when a place can not be had; its ``filename``
        names the place.
        """
        ports = []
        for bind in binds:
            try:
                server = await self._listen(bind)
            except OSError as error:
                await self.stop(0.0)
                error.filename = bind.path or f"{bind.host}:{bind.port}"
                raise
            self._servers.append(server)
            ports.append(0 if bind.path else int(server.sockets[0].getsockname()[1]))
        self._ticking = self.owner.create_task(self._tick())
        return ports

    async def stop(self, grace_s: float) -> None:
        """Accept nothing new, let what runs finish for ``grace_s``, then end it.

        Finished is a call whose client has been sent its answer, as its windows allowed.
        """
        self.leaving = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        if self._ticking is not None:
            self._ticking.cancel()
        for connection in self.connections.all():
            connection.leave()
        await _within(grace_s, self._finished())
        await self.owner.close()
        for connection in self.connections.all():
            connection.abort(Ending.LEAVING)
        if not await _within(LAST_BYTES_S, self.connections.emptied()):
            for connection in self.connections.all():
                connection.abort(Ending.LEAVING)  # it does not read its last bytes
            await self.connections.emptied()

    async def _finished(self) -> None:
        """Wait until nothing runs and everybody has been sent what is answered.

        A connection closes when it has left. What windows hold back outlives the call's task.
        """
        await self.owner.ended()
        await self.connections.emptied()

    async def _listen(self, bind: Bind) -> asyncio.Server:
        tls: dict[str, Any] = {}
        if bind.tls is not None:
            tls = {"ssl": bind.tls, "ssl_handshake_timeout": FIRST_BYTES_S}
        if bind.path is not None:
            return await self.loop.create_unix_server(
                self._arriving, bind.path, backlog=BACKLOG, **tls
            )
        server = await self.loop.create_server(
            self._arriving, bind.host, bind.port, backlog=BACKLOG, **tls
        )
        keep_alive(server)
        return server

    def _arriving(self) -> Arriving:
        return Arriving(self)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now_s = self.loop.time()
            for connection in self.connections.all():
                connection.tick(now_s)


class Arriving(asyncio.Protocol):
    """A connection that has not said yet what it speaks."""

    def __init__(self, port: ClientPort) -> None:
        self._port = port
        self._first = b""
        self._since_s = port.loop.time()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or close it at once if there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else "unix"
        if self._port.leaving:  # its TLS handshake was under way
            self._transport.abort()
            return
        refused = self._port.connections.admit(self, address)
        if refused is not None:
            self._port.connections.ended(refused)
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Hand the connection to who speaks its protocol, as soon as that is clear."""
        self._first += data
        transport = self._transport
        assert transport is not None
        speaks_h2 = self._speaks_h2(transport)
        if speaks_h2 is None:
            return
        served: H2Protocol | _Http1
        if speaks_h2:
            served = self._h2(transport)
            protocol: asyncio.Protocol = served
        else:
            served = _Http1(self._port, transport.get_extra_info("sslcontext") is not None)
            protocol = served.protocol
        self._port.connections.replace(self, served)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(self._first)

    def eof_received(self) -> bool:
        """It said nothing that means anything: close."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self._port.connections.remove(self)

    def leave(self) -> None:
        """Close: nothing is begun."""
        if self._transport is not None:
            self._transport.close()

    def abort(self, ending: Ending) -> None:
        """Close."""
        self._port.connections.ended(ending)
        if self._transport is not None:
            self._transport.abort()

    def tick(self, now_s: float) -> None:
        """Close a connection that says nothing."""
        if now_s - self._since_s > FIRST_BYTES_S:
            self.abort(Ending.SLOW_WRITER)

    def _speaks_h2(self, transport: asyncio.Transport) -> bool | None:
        """Return None if that is not clear yet; a protocol agreed on under TLS is (ALPN)."""
        tls = transport.get_extra_info("ssl_object")
        agreed = tls.selected_alpn_protocol() if tls is not None else None
        if agreed is not None:
            return bool(agreed == "h2")
        known = self._first[: len(frames.PREFACE)]
        if not frames.PREFACE.startswith(known):
            return False
        return True if len(known) >= TOLD_APART_BYTES else None

    def _h2(self, transport: asyncio.Transport) -> H2Protocol:
        port = self._port
        return H2Protocol(
            port.setting.h2,
            port.connections,
            port.owner,
            secure=transport.get_extra_info("sslcontext") is not None,
            certificate_name=common_name(transport.get_extra_info("peercert")),
        )


class _Http1:
    """An HTTP/1.1 connection as the port sees it; its own timers watch the client."""

    def __init__(self, port: ClientPort, secure: bool) -> None:
        self._port = port
        setting = port.setting
        web = within_budget(setting.h2.web, setting.h2.grpc.budget)
        self.protocol = Http1Protocol(
            web, setting.h1, port.owner, setting.h2.web_failed, secure, self
        )

    def answered(self, status: int) -> None:
        """Nothing to do: the handler counts its answers."""

    def cut(self, reason: str) -> None:
        """Count a client that was cut off."""
        self._port.setting.count(reason.replace(" ", "_"))

    def closed(self, protocol: Http1Protocol) -> None:
        """Forget it."""
        self._port.connections.remove(self)

    def leave(self) -> None:
        """Finish the current answer, then close."""
        self.protocol.drain()

    def abort(self, ending: Ending) -> None:
        """Close at once."""
        self._port.connections.ended(ending)
        self.protocol.close()

    def tick(self, now_s: float) -> None:
        """Nothing to do."""


async def _within(limit_s: float, work: Coroutine[Any, Any, None]) -> bool:
    """Wait for ``work`` at most ``limit_s``; return whether it ended."""
    try:
        async with asyncio.timeout(limit_s):
            await work
    except TimeoutError:
        return False
    return True

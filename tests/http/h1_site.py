"""One HTTP/1.1 connection in memory, on virtual time, with a handler that tests write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dqlite_py.http.h1 import Http1Protocol
from dqlite_py.http.h1_wire import Http1Limits
from dqlite_py.http.web import WebHandler, WebRequest, WebResponse
from tests.kit.fake_transport import FakeTransport, Reply, replies, settle
from tests.kit.loop import run_virtual

LIMITS = Http1Limits(
    header_bytes=1000,
    header_s=5.0,
    idle_s=60.0,
    body_s=10.0,
    body_bytes_per_s=100,
    read_ahead_bytes=1000,
    skip_bytes=1000,
    write_ahead_bytes=1000,
    write_stall_s=20.0,
    half_closed_s=3.0,
    linger_s=1.0,
)


class Site:
    """The connection, what its handler was asked, and what its observers were told."""

    def __init__(
        self, handler: WebHandler, owner: asyncio.TaskGroup, secure: bool, extra: dict[str, Any]
    ) -> None:
        self.requests: list[WebRequest] = []
        self.reports: list[tuple[str, str]] = []
        self.statuses: list[int] = []
        self.cuts: list[str] = []
        self.closed_count = 0
        self._inner = handler
        self.protocol = Http1Protocol(
            self._handle, LIMITS, owner, self._report, secure, observer=self
        )
        self.transport = FakeTransport(self.protocol, extra)
        self.transport.secure = secure
        self.transport.connect()

    async def _handle(self, request: WebRequest, response: WebResponse) -> None:
        self.requests.append(request)
        await self._inner(request, response)

    def _report(self, path: str, error: BaseException) -> None:
        self.reports.append((path, repr(error)))

    def answered(self, status: int) -> None:
        self.statuses.append(status)

    def cut(self, reason: str) -> None:
        self.cuts.append(reason)

    def closed(self, protocol: Http1Protocol) -> None:
        assert protocol is self.protocol
        self.closed_count += 1

    async def send(self, *pieces: bytes) -> None:
        """Send pieces, each of which is dealt with before the next."""
        for piece in pieces:
            self.transport.receive(piece)
            await settle()

    def answers(self, *methods: str) -> list[Reply]:
        return replies(bytes(self.transport.sent), *(methods or ("GET",)))

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]


def serving(
    scenario: Callable[[Site], Awaitable[None]],
    handler: WebHandler | None = None,
    *,
    secure: bool = False,
    extra: dict[str, Any] | None = None,
) -> Site:
    """Run a scenario; afterwards the client goes, and nothing may be left running."""
    sites = []

    async def main() -> None:
        async with asyncio.TaskGroup() as owner:
            site = Site(handler or hello, owner, secure, extra or {})
            sites.append(site)
            await scenario(site)
            site.transport.reset()
            await settle()
        assert site.closed_count == 1

    run_virtual(main)
    return sites[0]


async def hello(request: WebRequest, response: WebResponse) -> None:
    """Answer with the path."""
    body = request.path.encode()
    await response.start(200, [("content-type", "text/plain")], body_bytes=len(body))
    await response.write(body)


def get(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: x", *headers, "", ""]
    return "\r\n".join(lines).encode()

"""Peers that read slowly, not at all, or hang up: what they hold is let go of, no more, no less."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from dqlite_py.http.connections import ConnectionLimits, Connections
from dqlite_py.http.grpc.methods import Call, Kind, Method, Send
from dqlite_py.http.grpc.service import Budget, GrpcLimits, GrpcService
from dqlite_py.http.grpc.status import Code
from dqlite_py.http.h2_protocol import CONTROL_BYTES, H2Protocol, H2Setting, H2Times
from dqlite_py.http.owner import TaskOwner
from dqlite_py.http.web import WebRequest, WebResponse
from tests.http.conversation import Conversation
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import FakeTransport, settle

TLS_HIGH_BYTES = 512 * 1024  # asyncio's limit for what it encrypts, unless told otherwise
TIMES = H2Times()
WIDE = h2.settings((h2.INITIAL_WINDOW_SIZE, h2.LARGEST_WINDOW)) + h2.window_update(0, 2**30)
LISTEN = "/test.Test/Listen"


class Site:
    """One connection of a server on a fake transport, whose time the test moves."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.listeners = 0
        self.connections = Connections(ConnectionLimits(), self.ended.append)
        owner = TaskOwner(self._failed)
        listen = Method(LISTEN, Kind.BIDI, bytes, self._listen)
        service = GrpcService(
            {LISTEN.encode(): listen},
            lambda error: (Code.INTERNAL, str(error)),
            self._failed,
            lambda method, code: None,
            GrpcLimits(),
            Budget(1 << 20),
        )
        self.protocol = H2Protocol(
            H2Setting(service, self._answer, self._failed),
            self.connections,
            owner,
            secure=False,
            certificate_name=None,
        )
        self.now_s = self.protocol.loop.time()
        self.connections.admit(self.protocol, "somewhere")
        self.transport = FakeTransport(self.protocol)

    def connect(self) -> FakeTransport:
        self.transport.connect()
        self.transport.receive(h2.PREFACE + WIDE)
        return self.transport

    def later(self, seconds: float) -> None:
        """Let time pass, in the server's ticks of a second."""
        for _ in range(int(seconds)):
            self.now_s += 1.0
            self.protocol.tick(self.now_s)

    @staticmethod
    async def _answer(request: WebRequest, response: WebResponse) -> None:
        """Send as many bytes as the path says."""
        await response.start(200, [])
        await response.write(bytes(int(request.path[1:])))

    async def _listen(self, requests: AsyncIterator[bytes], _send: Send, _call: Call) -> None:
        self.listeners += 1
        try:
            async for _ in requests:
                pass
        finally:
            self.listeners -= 1

    @staticmethod
    def _failed(*error: Any) -> Any:
        raise AssertionError(error)


def ask(stream_id: int, size_bytes: int) -> bytes:
    path = f"/{size_bytes}".encode()
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"a")]
    return h2.headers(stream_id, fields, end_stream=True)


def piece_by_piece(stream: bytes, size_bytes: int) -> Iterator[bytes]:
    for start in range(0, len(stream), size_bytes):
        yield stream[start : start + size_bytes]


def pongs(transport: FakeTransport) -> int:
    frames, _ = h2.parse(bytes(transport.sent))
    return sum((one.kind, one.flags) == (h2.PING, h2.ACK) for one in frames)


@pytest.mark.parametrize("size_bytes", [CONTROL_BYTES - 1, CONTROL_BYTES + 1000, 400_000, 900_000])
def test_a_peer_that_reads_late_is_heard_again_under_tls(size_bytes: int) -> None:
    async def scene() -> None:
        site = Site()
        site.transport.set_write_buffer_limits(high=TLS_HIGH_BYTES)
        transport = site.connect()
        transport.stalled = True
        transport.receive(ask(1, size_bytes))
        await settle()
        transport.stalled = False
        transport.take(len(transport.unsent))
        await settle()
        transport.receive(h2.ping(b"and now?"))
        await settle()
        assert pongs(transport) == 1

    asyncio.run(scene())


def test_a_peer_that_reads_slowly_is_kept_and_one_that_stops_is_not() -> None:
    async def scene() -> None:
        site = Site()
        transport = site.connect()
        transport.stalled = True
        transport.receive(ask(1, 300_000))
        await settle()
        for _ in range(5):
            site.later(TIMES.stalled_s - 1)
            transport.take(1)
        assert not transport.closing
        site.later(TIMES.stalled_s + 2)
        assert transport.aborted, "it still counts as a reader"
        assert site.ended == ["slow_reader"]
        await settle()

    asyncio.run(scene())


def test_the_handlers_of_a_client_that_hangs_up_end_though_it_does_not_read() -> None:
    async def scene() -> None:
        site = Site()
        transport = site.connect()
        transport.receive(h2.headers(1, h2.request_fields(path=LISTEN.encode())))
        await settle()
        assert site.listeners == 1
        transport.stalled = True
        transport.receive(h2.ping())  # whose answer is not taken
        transport.end()
        await settle()
        assert site.listeners == 0
        assert not transport.lost
        site.later(TIMES.stalled_s + 2)
        assert transport.aborted
        await settle()
        assert len(site.connections) == 0

    asyncio.run(scene())


def test_a_peer_that_sends_without_a_pause_is_kept_and_one_that_stops_in_a_frame_is_not() -> None:
    async def scene() -> None:
        site = Site()
        site.protocol.loop = MovedLoop(site)
        transport = site.connect()
        unknown = h2.frame(0x99, 0, 0, bytes(1000))
        size_bytes = 1010  # no piece ends where a frame does
        for piece in piece_by_piece(unknown * 900, size_bytes):
            transport.receive(piece)
            site.later(1)
        assert site.ended == []
        transport.receive(unknown[:-1])
        site.later(TIMES.frame_s + 2)
        assert site.ended == ["slow_writer"]
        await settle()

    asyncio.run(scene())


class MovedLoop:
    """A loop whose time is the site's."""

    def __init__(self, site: Site) -> None:
        self._loop, self._site = site.protocol.loop, site
        self.call_soon = self._loop.call_soon

    def time(self) -> float:
        return self._site.now_s


def test_streams_that_are_reset_leave_nothing_waiting_for_a_window() -> None:
    it = Conversation()
    it.say(h2.headers(1, end_stream=True))
    it.answer(1, bytes(h2.DEFAULT_WINDOW))  # the connection's window is shut now
    for number in range(3, 1003, 2):
        it.say(h2.headers(number, end_stream=True))
        it.answer(number)
        it.say(h2.rst_stream(number))
    sender = it.connection.sender
    assert not sender.held_bytes
    sender.widen(None, 1000)
    assert not sender.can_pump, "a stream that is gone has a turn"

"""A peer that sends much at once takes turns with the others; a header bomb takes none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dqlite_py.http.connections import ConnectionLimits, Connections
from dqlite_py.http.grpc.service import Budget, GrpcLimits, GrpcService
from dqlite_py.http.h2_protocol import TURN_BYTES, H2Protocol, H2Setting
from dqlite_py.http.owner import TaskOwner
from dqlite_py.http.web import WebRequest, WebResponse
from tests.http.conversation import Conversation
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import FakeTransport


class Site:
    """Connections of one server on fake transports."""

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.ended: list[str] = []
        self.connections = Connections(limits or ConnectionLimits(), self.ended.append)
        self.owner = TaskOwner(self._failed)
        failed = self._failed
        service = GrpcService({}, failed, failed, failed, GrpcLimits(), Budget(1 << 20))
        self.setting = H2Setting(service, self._answer, failed)

    def connect(self) -> FakeTransport:
        protocol = H2Protocol(
            self.setting, self.connections, self.owner, secure=False, certificate_name=None
        )
        self.connections.admit(protocol, "somewhere")
        transport = FakeTransport(protocol)
        transport.connect()
        transport.receive(h2.PREFACE + h2.settings())
        return transport

    @staticmethod
    async def _answer(request: WebRequest, response: WebResponse) -> None:
        """Send as many bytes as the path says."""
        await response.start(200, [])
        await response.write(bytes(int(request.path[1:])))

    @staticmethod
    def _failed(*error: Any) -> Any:
        raise AssertionError(error)


def acks(transport: FakeTransport) -> int:
    frames, _ = h2.parse(bytes(transport.sent))
    return sum((one.kind, one.flags) == (h2.PING, h2.ACK) for one in frames)


async def settled() -> None:
    """Let the loop turn more often than any of these scenes needs."""
    for _ in range(200):
        await asyncio.sleep(0)


def test_others_are_answered_while_a_peer_has_much_to_say() -> None:
    async def scene() -> None:
        site = Site()
        greedy, modest = site.connect(), site.connect()
        frame = h2.frame(0x99, 0, 0, bytes(100))
        greedy.receive(frame * (20 * TURN_BYTES // len(frame)))
        modest.receive(h2.ping(b"and me??"))
        await asyncio.sleep(0)
        assert acks(modest) == 1
        assert not greedy.reading, "everything was taken at once"
        await settled()
        assert greedy.reading
        assert not greedy.closing

    asyncio.run(scene())


@pytest.mark.parametrize("cut", [1, 9, TURN_BYTES - 1, TURN_BYTES, TURN_BYTES + 1, 100_000])
def test_nothing_is_lost_or_reordered_between_turns(cut: int) -> None:
    async def scene() -> None:
        site = Site()
        transport = site.connect()
        unknown = b"".join(h2.frame(0x99, 0, 0, bytes(size % 700)) for size in range(900))
        sent = unknown + h2.ping(b"the last")
        transport.receive(sent[:cut])
        transport.receive(sent[cut:])
        await settled()
        frames, _ = h2.parse(bytes(transport.sent))
        assert frames[-1] == h2.Frame(h2.PING, h2.ACK, 0, b"the last")
        assert site.ended == []

    asyncio.run(scene())


def test_what_waits_for_its_turn_is_dropped_with_the_connection() -> None:
    async def scene() -> None:
        site = Site()
        transport = site.connect()
        transport.receive(h2.frame(0x99, 0, 0, bytes(16_000)) * 10)
        transport.reset()
        await settled()
        assert len(site.connections) == 0
        assert acks(transport) == 0

    asyncio.run(scene())


def test_reading_waits_for_a_peer_that_does_not_take_its_answers() -> None:
    async def scene() -> None:
        site = Site()
        transport = site.connect()
        transport.stalled = True
        transport.protocol.pause_writing()
        transport.receive(h2.frame(0x99, 0, 0, bytes(16_000)) * 10)
        await settled()
        assert not transport.reading
        transport.protocol.resume_writing()
        assert transport.reading

    asyncio.run(scene())


def test_a_header_bomb_ends_the_connection_at_once() -> None:
    talk = Conversation()
    bomb = b"\x40" + h2.field(b"x-bomb", b"b" * 3_900)[1:]
    talk.say(h2.headers(1, h2.block(h2.REQUEST) + bomb, end_stream=True))
    many = h2.block(h2.REQUEST) + bytes([0x80 | 62]) * 10_000
    talk.breaks(h2.headers(3, many, end_stream=True), code=h2.ENHANCE_YOUR_CALM)
    assert [stream.id for stream in talk.seen.requests] == [1]


def test_a_header_list_a_little_too_large_resets_its_stream_only() -> None:
    talk = Conversation()
    more = [(b"x-%d" % number, b"v" * 1_000) for number in range(70)]
    block = h2.block([*h2.REQUEST, *more])
    parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
    assert len(block) > talk.limits.header_list_bytes - 70 * 32
    frames = [h2.headers(1, parts[0], end_headers=False, end_stream=True)]
    frames += [h2.continuation(1, part, end_headers=part is parts[-1]) for part in parts[1:]]
    heard = talk.say(*frames)
    assert [(one.kind, one.code) for one in heard] in (
        [(h2.RST_STREAM, h2.ENHANCE_YOUR_CALM)],
        [(h2.GOAWAY, h2.ENHANCE_YOUR_CALM)],  # the compressed block has a limit as well
    )
    assert talk.seen.requests == []


def test_the_reader_that_holds_the_most_is_ended_when_all_hold_too_much() -> None:
    async def scene() -> None:
        site = Site(ConnectionLimits(unsent_bytes=1_000_000))
        readers = [site.connect(), site.connect(), site.connect()]
        for size, reader in zip((300_000, 350_000, 320_000), readers, strict=True):
            request(reader, size)
        await settled()
        assert [reader.closing for reader in readers] == [False, False, False]
        request(readers[0], 100_000)
        await settled()
        assert [reader.closing for reader in readers] == [True, False, False]
        assert site.ended.count("slow_reader") == 1
        goaway = h2.parse(bytes(readers[0].sent))[0][-1]
        assert (goaway.kind, goaway.code) == (h2.GOAWAY, h2.ENHANCE_YOUR_CALM)
        request(readers[2], 300_000)
        await settled()
        assert site.ended.count("slow_reader") == 1, "what the ended connection held is free again"

    asyncio.run(scene())


def test_an_answer_counts_whole_until_its_last_byte_is_taken() -> None:
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 999)), h2.headers(1, end_stream=True))
    talk.answer(1, bytes(1_000))
    assert talk.connection.sender.held_bytes >= 1_000
    talk.say(h2.window_update(1, 1))
    assert talk.connection.sender.held_bytes == 0


def test_what_a_reset_stream_held_is_free() -> None:
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)), h2.headers(1, end_stream=True))
    talk.answer(1, bytes(1_000))
    talk.say(h2.rst_stream(1))
    assert talk.connection.sender.held_bytes == 0


def request(reader: FakeTransport, size: int) -> None:
    """Ask for an answer of that size, and open no window for it."""
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/%d" % size)]
    stream_id = reader.protocol.connection.last_stream_id + 2 | 1
    reader.receive(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)))
    reader.receive(h2.headers(stream_id, fields, end_stream=True))

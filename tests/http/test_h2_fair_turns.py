"""A peer that sends much at once takes turns with the others; a header bomb takes none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dqlite_py.http.connections import ConnectionLimits, Connections
from dqlite_py.http.grpc.service import Budget, GrpcLimits, GrpcService
from dqlite_py.http.h2_protocol import TURN_BYTES, H2Protocol, H2Setting
from dqlite_py.http.owner import TaskOwner
from tests.http.conversation import Conversation
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import FakeTransport


class Site:
    """Connections of one server on fake transports."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.connections = Connections(ConnectionLimits(), self.ended.append)
        self.owner = TaskOwner(self._failed)
        limits = GrpcLimits()
        service = GrpcService({}, self._failed, self._failed, self._failed, limits, Budget(1 << 20))
        self.setting = H2Setting(service, self._failed, self._failed)

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

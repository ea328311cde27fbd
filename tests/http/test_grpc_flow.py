"""Who waits for whom: windows, turns among streams, and what may be held of requests."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from dqlite_py.http.grpc.call import TOO_MUCH
from dqlite_py.http.grpc.kinds import MESSAGE_BYTES, MOST_QUEUED_MESSAGES
from dqlite_py.http.grpc.methods import Call, Kind, Method
from dqlite_py.http.grpc.service import GrpcLimits
from dqlite_py.http.grpc.status import Code
from dqlite_py.http.h2.settings import H2Limits
from tests.http.grpc_site import LIMITS, Echo, Peer, Site, serving
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import settle

SHUT = h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
QUESTION = h2.message(b"?")
ROOMY = GrpcLimits(max_message_bytes=1_000_000, stream_queue_bytes=2_000)
FULL = (Code.RESOURCE_EXHAUSTED, TOO_MUCH)


class Talker:
    """A stream of ``count`` messages of ``size`` bytes; knows how many its client took."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size, self.sent, self.cancelled = count, size, 0, False
        self.method = Method("/t.T/Talk", Kind.SERVER_STREAM, bytes, self._talk)

    async def _talk(self, _request: bytes, send: Any, _call: Call) -> None:
        try:
            for _ in range(self.count):
                await send(bytes(self.size))
                self.sent += 1
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def held_bytes(peer: Peer) -> int:
    return int(peer.transport.protocol.connection.sender.held_bytes)


@pytest.mark.parametrize("size", [100, 1_000, 50_000])
def test_a_client_that_opens_no_window_makes_the_handler_wait(size: int) -> None:
    talker = Talker(1_000, size)

    async def scene(site: Site) -> None:
        peer = await site.connect(SHUT, h2.window_update(0, 2**30))
        answer = await peer.call("/t.T/Talk", QUESTION)
        await asyncio.sleep(100)
        waiting = talker.sent
        assert waiting <= ROOMY.stream_queue_bytes // size + 1
        assert held_bytes(peer) <= ROOMY.stream_queue_bytes + size + 10
        await peer.send(h2.window_update(1, 20 * (size + 5)))
        assert waiting + 15 <= talker.sent < waiting + 25
        assert len(answer.messages) == 20
        await peer.send(h2.window_update(1, h2.LARGEST_WINDOW // 2))
        while not answer.ended:
            await peer.send()
        assert len(answer.messages) == 1_000
        assert answer.status == (Code.OK, "")

    options = {"limits": ROOMY}
    serving(scene, talker.method, **options)


def test_others_go_on_while_one_stream_waits() -> None:
    talker, echo = Talker(1_000, 1_000), Echo()

    async def scene(site: Site) -> None:
        peer, other = await site.connect(SHUT), await site.connect()
        await peer.call("/t.T/Talk", QUESTION)
        for each in (peer, other):
            answer = await each.call("/t.T/Unary", QUESTION)
            await each.send(h2.window_update(each.number(answer), 100))
            assert answer.status == (Code.OK, "")
        assert talker.sent < 10

    serving(scene, talker.method, *echo.methods)


def test_a_handler_that_waits_to_send_is_cancelled_with_its_client() -> None:
    talker = Talker(1_000, 1_000)

    async def scene(site: Site) -> None:
        peer = await site.connect(SHUT)
        await peer.call("/t.T/Talk", QUESTION)
        await peer.send(h2.rst_stream(1))
        assert talker.cancelled
        assert held_bytes(peer) == 0

    serving(scene, talker.method)


def test_a_transport_that_is_full_makes_the_handler_wait() -> None:
    talker = Talker(1_000, 1_000)

    async def scene(site: Site) -> None:
        peer = await site.connect()
        peer.transport.stalled = True
        answer = await peer.call("/t.T/Talk", QUESTION)
        assert talker.sent < 200
        assert len(peer.transport.unsent) + held_bytes(peer) < 400_000
        peer.transport.stalled = False
        peer.transport.take(len(peer.transport.unsent))
        for _ in range(50):
            await peer.send()
        assert len(answer.messages) == 1_000

    serving(scene, talker.method)


class Large:
    """A unary method with an answer of ``size`` bytes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.method = Method("/t.T/Large", Kind.UNARY, bytes, self._answer)

    async def _answer(self, _request: bytes, _call: Call) -> bytes:
        return bytes(self.size)


def test_a_large_answer_does_not_hold_up_small_ones() -> None:
    large, echo = Large(100_000_000), Echo()

    async def scene(site: Site) -> None:
        peer, other = await site.connect(), await site.connect()
        number = peer.begin()
        peer.transport.receive(h2.headers(number, h2.request_fields(b"/t.T/Large")))
        peer.transport.receive(h2.data(number, QUESTION, end_stream=True))
        await settle()
        assert 0 < len(peer.transport.sent) < 10_000_000, "the loop had no turn in between"
        answer = peer.answers[number]
        small = [await other.call("/t.T/Unary", QUESTION)]
        peer.hear()
        before = len(answer.body)
        small.append(await peer.call("/t.T/Unary", QUESTION))
        assert [one.status for one in small] == [(Code.OK, "")] * 2
        assert not answer.ended
        at = [one.stream_id for one in peer.frames].index(3)
        between = sum(len(one.payload) for one in peer.frames[:at] if one.stream_id == 1) - before
        assert between < 4 * H2Limits().output_bytes
        await peer.send(h2.rst_stream(1))

    serving(scene, large.method, *echo.methods)


def test_streams_take_turns_frame_by_frame() -> None:
    large = Large(200_000)

    async def scene(site: Site) -> None:
        peer = await site.connect(SHUT)
        for _ in range(3):
            await peer.call("/t.T/Large", QUESTION)
        wide = [h2.window_update(number, 1 << 20) for number in (1, 3, 5)]
        await peer.send(*wide, h2.window_update(0, 1 << 30))
        await peer.send()
        order = [one.stream_id for one in peer.frames if one.kind == h2.DATA]
        assert len(order) >= 39
        begin = order.index(5) + 1  # all three have a window from here on
        end = len(order) - order[::-1].index(1)  # stream 1 is whole
        rounds = [sorted(order[at : at + 3]) for at in range(begin, end - 2, 3)]
        assert len(rounds) >= 7
        assert all(one == [1, 3, 5] for one in rounds), "".join(map(str, order))
        assert max(len(one.payload) for one in peer.frames) <= 16_384

    serving(scene, large.method)


def test_a_request_stream_that_nobody_reads_shuts_its_window() -> None:
    go, taken = asyncio.Event(), []

    async def reads_late(requests: Any, _send: Any, _call: Call) -> None:
        await go.wait()
        taken.extend([request async for request in requests])

    window = 65_535
    message = h2.message(bytes(995))

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Late", end=False)
        for _ in range(window // len(message)):
            await peer.send(h2.data(1, message))
        assert [one for one in peer.of_kind(h2.WINDOW_UPDATE) if one.stream_id == 1] == []
        stream = peer.transport.protocol.connection.streams[1]
        assert stream.receive_window < len(message)
        assert stream.owed_bytes <= MOST_QUEUED_MESSAGES * len(message)
        go.set()
        await peer.send()
        assert [one for one in peer.of_kind(h2.WINDOW_UPDATE) if one.stream_id == 1] != []
        await peer.send(h2.data(1, end_stream=True))
        assert answer.status == (Code.OK, "")
        assert len(taken) == window // len(message)

    serving(
        scene,
        Method("/t.T/Late", Kind.BIDI, bytes, reads_late),
        limits=ROOMY,
        h2_limits=H2Limits(stream_window_bytes=window),
    )


def test_a_request_stream_that_is_read_never_shuts_its_window() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Bidi", end=False)
        for _ in range(1_000):
            await peer.send(h2.data(1, h2.message(bytes(995))))
        assert answer.reset is None
        assert len(answer.messages) == 1_000
        await peer.send(h2.data(1, end_stream=True))
        assert answer.status == (Code.OK, "")

    serving(scene, *Echo().methods)


def test_a_conversation_has_an_answer_for_each_message_as_it_comes() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Bidi", end=False)
        assert answer.fields == []
        for number in range(5):
            await peer.send(h2.data(1, h2.message(b"%d" % number)))
            assert answer.messages[-1] == (0, b"%d" % number)
        assert not answer.ended
        await peer.send(h2.data(1, end_stream=True))
        assert answer.status == (Code.OK, "")
        assert answer.reset is None

    serving(scene, *Echo().methods)


def test_a_handler_that_ends_early_tells_its_client_to_stop() -> None:
    async def first_only(requests: Any, send: Any, _call: Call) -> None:
        async for request in requests:
            await send(request)
            return

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/First", QUESTION, end=False)
        assert answer.status == (Code.OK, "")
        kinds = [one.kind for one in peer.frames if one.stream_id == 1]
        assert kinds == [h2.HEADERS, h2.DATA, h2.HEADERS, h2.RST_STREAM]
        assert answer.reset == h2.NO_ERROR
        await peer.send(h2.data(1, QUESTION), h2.data(1, end_stream=True))
        assert (await peer.call("/t.T/First", QUESTION)).status == (Code.OK, "")
        assert peer.goaways == []

    serving(scene, Method("/t.T/First", Kind.BIDI, bytes, first_only))


def never_reads() -> Method:
    async def sleeps(_requests: Any, _send: Any, _call: Call) -> None:
        await asyncio.sleep(10**6)

    return Method("/t.T/Sleeps", Kind.BIDI, bytes, sleeps)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/t.T/Unary", h2.message(bytes(1_000))[:-1]),  # not whole
        ("/t.T/Unary", h2.message(bytes(1_000))),  # whole, but the stream is not ended
        ("/t.T/Sleeps", h2.message(bytes(1_000))),  # whole, but not taken
    ],
)
def test_what_is_held_of_requests_is_bounded_over_all_connections(path: str, body: bytes) -> None:
    async def scene(site: Site) -> None:
        most = LIMITS.partial_bytes // (1_000 + 5 + MESSAGE_BYTES)
        peers = [await site.connect() for _ in range(most + 3)]
        answers = [await peer.call(path, body, end=False) for peer in peers]
        refused = [one for one in answers if one.ended]
        assert refused == []
        for peer in peers:
            peer.hear()
        refused = [one for one in answers if one.ended]
        assert 1 <= len(refused) <= 3
        assert refused == answers[: len(refused)], "others than the oldest gave way"
        assert [one.status for one in refused] == [FULL] * len(refused)
        assert (await peers[0].call("/t.T/Unary", QUESTION)).status == (Code.OK, "")
        before = site.budget.left_bytes
        await peers[-1].send(h2.rst_stream(1))
        peers[-2].transport.reset()
        await settle()
        assert site.budget.left_bytes >= before + 2 * (len(body) - 5)

    serving(scene, *Echo().methods, never_reads())


def test_messages_that_grow_when_decompressed_are_held_by_their_size() -> None:
    squeezed = gzip.compress(bytes(1_000))
    bomb = (b"\x01" + h2.u32(len(squeezed)) + squeezed) * 20

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Sleeps", bomb, (b"grpc-encoding", b"gzip"), end=False)
        assert answer.status == FULL

    serving(scene, never_reads())


def test_tiny_messages_are_held_by_what_they_take() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Sleeps", h2.message(b"") * 1_000, end=False)
        assert answer.status == FULL

    serving(scene, never_reads())

"""Deadlines and cancellation: grpc-timeout, RST_STREAM, the server's end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dqlite_py.http.grpc import timeout
from dqlite_py.http.grpc.methods import Call, Kind, Method
from dqlite_py.http.grpc.status import Code, Refused
from tests.http.grpc_site import Echo, Peer, Site, serving
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import settle

LATE = (Code.DEADLINE_EXCEEDED, "context deadline exceeded")
WAITS = "/t.T/Waits"
QUESTION = h2.message(b"?")


def within(text: bytes) -> tuple[bytes, bytes]:
    return (b"grpc-timeout", text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"1H", 3600.0),
        (b"2M", 120.0),
        (b"3S", 3.0),
        (b"4m", 0.004),
        (b"5u", 5e-6),
        (b"6n", 6e-9),
        (b"0S", 0.0),
        (b"99999999H", 99999999 * 3600.0),
        (b"00000001S", 1.0),
    ],
)
def test_each_unit_of_a_timeout_is_understood(text: bytes, seconds: float) -> None:
    assert timeout.seconds(text) == pytest.approx(seconds)


MALFORMED = (
    *(b"", b"S", b"1", b"1s", b"1h", b"123456789S", b"-1S", b"+1S", b"1.5S", b" 1S", b"1 S"),
    *(b"1_0S", b"\xb2S", b"0x1S"),
)


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_timeout_is_refused(text: bytes) -> None:
    with pytest.raises(Refused, match="malformed grpc-timeout"):
        timeout.seconds(text)


def test_a_malformed_timeout_ends_the_call_before_its_handler() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Unary", QUESTION, within(b"1s"))
        assert answer.status == (Code.INTERNAL, "malformed grpc-timeout")
        assert answer.trailers_only
        assert (await peer.call("/t.T/Unary", QUESTION)).status == (Code.OK, "")

    echo = Echo()
    serving(scene, *echo.methods)
    assert len(echo.calls) == 1


@pytest.mark.parametrize(("text", "seconds"), [(b"500m", 0.5), (b"2M", 120.0)])
def test_a_deadline_that_passes_cancels_the_handler_at_that_time(
    text: bytes, seconds: float
) -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call(WAITS, QUESTION, within(text))
        assert echo.calls[0].remaining_s == seconds
        await asyncio.sleep(seconds - 0.001)
        peer.hear()
        assert not answer.ended
        assert echo.cancelled == 0
        await asyncio.sleep(0.002)
        peer.hear()
        assert answer.status == LATE
        assert answer.trailers_only
        assert echo.cancelled == 1

    echo = Echo()
    site = serving(scene, *echo.methods)
    assert site.handled == [(WAITS, Code.DEADLINE_EXCEEDED)]


@pytest.mark.parametrize("body", [b"", QUESTION, QUESTION[:3]])
def test_a_deadline_passes_before_the_handler_when_the_request_does_not_end(body: bytes) -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call(WAITS, body, within(b"1S"), end=False)
        await asyncio.sleep(1.1)
        peer.hear()
        assert answer.status == LATE
        assert answer.reset == h2.NO_ERROR, "the client may go on sending otherwise"

    echo = Echo()
    serving(scene, *echo.methods)
    assert echo.calls == []


def test_a_handler_that_answers_in_time_is_not_disturbed_later() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Unary", QUESTION, within(b"1S"))
        assert answer.status == (Code.OK, "")
        await asyncio.sleep(10)
        assert not [one for one in peer.hear() if one.stream_id]

    site = serving(scene, *Echo().methods)
    assert site.handled == [("/t.T/Unary", Code.OK)]


@pytest.mark.parametrize("ending", ["answered", "reset", "refused"])
def test_a_call_that_has_ended_leaves_no_timer_behind(ending: str) -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        loop: Any = asyncio.get_running_loop()
        path = "/t.T/Unary" if ending == "answered" else WAITS
        body = QUESTION * 2 if ending == "refused" else QUESTION
        answer = await peer.call(path, body, within(b"1000S"))
        if ending == "reset":
            await peer.send(h2.rst_stream(1))
        assert answer.ended == (ending != "reset")
        left = [one for one in loop._scheduled if not one.cancelled() and 500 < one.when() < 2_000]
        assert left == []

    serving(scene, *Echo().methods)


def test_a_deadline_ends_a_stream_after_what_it_has_sent() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Bidi", QUESTION, within(b"1S"), end=False)
        assert answer.messages == [(0, b"?")]
        await asyncio.sleep(1.1)
        peer.hear()
        assert answer.status == LATE
        assert len(answer.fields) == 2

    echo = Echo()
    serving(scene, *echo.methods)
    assert echo.cancelled == 1


def test_a_handler_that_will_not_be_cancelled_can_not_answer_twice() -> None:
    async def stubborn(request: bytes, _call: Call) -> bytes:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return request

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Stubborn", QUESTION, within(b"1S"))
        await asyncio.sleep(5)
        peer.hear()
        assert answer.status == LATE
        assert len(answer.fields) == 1

    site = serving(scene, Method("/t.T/Stubborn", Kind.UNARY, bytes, stubborn))
    assert site.handled == [("/t.T/Stubborn", Code.DEADLINE_EXCEEDED)]


@pytest.mark.parametrize("path", [WAITS, "/t.T/Bidi"])
def test_a_client_that_resets_its_stream_cancels_the_handler(path: str) -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call(path, QUESTION, end=path == WAITS)
        other = await peer.call(WAITS, QUESTION)
        peer.hear()
        before = len(answer.fields)
        await peer.send(h2.rst_stream(peer.number(answer)))
        assert echo.cancelled == 1
        assert len(answer.fields) == before, "something was said to a client that went"
        echo.go.set()
        await settle()
        peer.hear()
        assert other.status == (Code.OK, "")

    echo = Echo()
    site = serving(scene, *echo.methods)
    assert site.handled == [(path, Code.CANCELLED), (WAITS, Code.OK)]


def test_a_connection_that_is_lost_cancels_all_its_handlers_and_no_others() -> None:
    async def scene(site: Site) -> None:
        peers = [await site.connect(), await site.connect()]
        for peer in peers:
            await peer.call(WAITS, QUESTION)
            await peer.call("/t.T/Bidi", QUESTION, end=False)
        peers[0].transport.reset()
        await settle()
        assert echo.cancelled == 2
        echo.go.set()
        await settle()
        peers[1].hear()
        assert peers[1].answers[1].status == (Code.OK, "")

    echo = Echo()
    serving(scene, *echo.methods)


def test_a_client_that_resets_before_its_handler_started_has_none() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        await peer.call(WAITS, QUESTION[:4], end=False)
        assert site.budget.left_bytes < site.service.limits.partial_bytes
        await peer.send(h2.rst_stream(1))

    echo = Echo()
    site = serving(scene, *echo.methods)
    assert (echo.calls, site.handled) == ([], [(WAITS, Code.CANCELLED)])


def test_a_server_that_stops_tells_its_clients() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answers = [await peer.call(WAITS, QUESTION)]
        answers.append(await peer.call("/t.T/Bidi", QUESTION, end=False))
        await site.port.stop(1.0)
        peer.hear()
        assert [one.status for one in answers] == [(Code.UNAVAILABLE, "server stopped")] * 2
        assert peer.transport.lost

    echo = Echo()
    serving(scene, *echo.methods)
    assert echo.cancelled == 2


def test_a_server_that_stops_waits_for_what_ends_in_time() -> None:
    async def scene(site: Site) -> None:
        peer: Peer = await site.connect()
        answer = await peer.call(WAITS, QUESTION)
        asyncio.get_running_loop().call_later(0.9, echo.go.set)
        before_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            group.create_task(site.port.stop(10.0))
            await settle()
            await peer.ponged()
        peer.hear()
        assert answer.status == (Code.OK, "")
        assert asyncio.get_running_loop().time() - before_s < 2.0

    echo = Echo()
    serving(scene, *echo.methods)


def test_a_handler_can_not_send_to_a_call_that_has_ended() -> None:
    async def talks_on(_request: bytes, send: Any, _call: Call) -> None:
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            await send(b"too late")
            reached.append(True)

    reached: list[bool] = []

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/TalksOn", QUESTION, within(b"1S"))
        await asyncio.sleep(2)
        peer.hear()
        assert answer.status == LATE
        assert answer.messages == []

    serving(scene, Method("/t.T/TalksOn", Kind.SERVER_STREAM, bytes, talks_on))
    assert reached == []

"""Pages and JSON over HTTP/2: requests that are no gRPC."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dqlite_py.http.web import TOO_MUCH
from tests.http.grpc_site import Answer, Peer, Site, serving
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import settle

SHUT = h2.settings((h2.INITIAL_WINDOW_SIZE, 0))
BODY_BYTES = 1_000


def fields(method: str = "GET", path: str = "/page", *more: tuple[bytes, bytes]) -> h2.Fields:
    return [
        (b":method", method.encode()),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"example.com"),
        *more,
    ]


async def ask(
    peer: Peer, head: h2.Fields | None = None, *pieces: bytes, end: bool = True
) -> Answer:
    """Make a request; return its answer, which grows."""
    number = peer.begin()
    frames = [h2.headers(number, head or fields(), end_stream=end and not pieces)]
    frames += [h2.data(number, piece) for piece in pieces[:-1]]
    frames += [h2.data(number, piece, end_stream=end) for piece in pieces[-1:]]
    await peer.send(*frames)
    return peer.answers[number]


async def echo(request: Any, response: Any) -> None:
    body = await request.read(BODY_BYTES)
    await response.start(200, [("content-type", "text/plain")], body_bytes=len(body))
    await response.write(body)


def asked(handler: Any, head: h2.Fields | None = None, *pieces: bytes) -> tuple[Site, Answer]:
    answers = []

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answers.append(await ask(peer, head, *pieces))
        assert peer.goaways == []

    return serving(scene, web=handler), answers[0]


@pytest.mark.parametrize("pieces", [(), (b"",), (b"one",), (b"one", b"", b"two")])
def test_a_body_comes_back(pieces: tuple[bytes, ...]) -> None:
    _, answer = asked(echo, fields("POST"), *pieces)
    body = b"".join(pieces)
    assert bytes(answer.body) == body
    assert answer.head == {
        ":status": "200",
        "content-type": "text/plain",
        "content-length": str(len(body)),
    }
    assert answer.ended
    assert answer.reset is None


def test_a_handler_knows_what_was_asked() -> None:
    head = fields(
        *("PUT", "/a%20b?c=d?e"),
        *((b"x-two", b"1"), (b"cookie", b"a=b"), (b"x-two", b"2"), (b"cookie", b"c=d")),
    )
    site, _ = asked(echo, head)
    [request] = site.web_requests
    assert (request.method, request.path, request.query) == ("PUT", "/a%20b", "c=d?e")
    assert request.headers == {"x-two": "1, 2", "cookie": "a=b; c=d", "host": "example.com"}
    assert not request.secure


def test_a_handler_knows_who_asks_under_tls() -> None:
    async def scene(site: Site) -> None:
        certificate = {"subject": ((("commonName", "root"),),)}
        peer = Peer(site.arrive(sslcontext=object(), peercert=certificate))
        await peer.send(h2.PREFACE, h2.settings())
        await ask(peer)

    [request] = serving(scene, web=echo).web_requests
    assert (request.secure, request.certificate_name) == (True, "root")


def test_an_answer_to_head_has_no_body() -> None:
    async def page(_request: Any, response: Any) -> None:
        await response.start(200, [], body_bytes=4)
        await response.write(b"page")

    _, answer = asked(page, fields("HEAD"))
    assert answer.head["content-length"] == "4"
    assert (bytes(answer.body), answer.ended) == (b"", True)


@pytest.mark.parametrize("more", [0, 1])
def test_a_body_above_the_handlers_limit_is_413(more: int) -> None:
    site, answer = asked(echo, fields("POST"), bytes(600), bytes(400 + more))
    assert answer.head[":status"] == ("413" if more else "200")
    assert site.failures == []


def test_a_body_too_large_is_refused_before_it_ends() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await ask(peer, fields("POST"), bytes(1_001), end=False)
        assert answer.head[":status"] == "413"
        assert answer.ended
        assert answer.reset == h2.NO_ERROR
        await peer.send(h2.data(1, b"more", end_stream=True))
        assert (await ask(peer)).head[":status"] == "200"

    serving(scene, web=echo)


def test_an_error_before_the_answer_is_500() -> None:
    async def fails(_request: Any, _response: Any) -> None:
        raise ValueError("oh")

    site, answer = asked(fails)
    assert answer.head[":status"] == "500"
    assert b"oh" not in answer.body
    assert site.failures == [("/page", "ValueError('oh')")]


def test_an_error_within_the_answer_breaks_it_off() -> None:
    async def fails(_request: Any, response: Any) -> None:
        await response.start(200, [])
        await response.write(b"half")
        raise ValueError("oh")

    site, answer = asked(fails)
    assert (bytes(answer.body), answer.ended) == (b"half", False)
    assert answer.reset == h2.INTERNAL_ERROR
    assert len(site.failures) == 1


def test_a_handler_without_an_answer_is_an_error() -> None:
    async def silent(_request: Any, _response: Any) -> None:
        return

    site, answer = asked(silent)
    assert answer.head[":status"] == "500"
    assert len(site.failures) == 1


def test_a_client_that_resets_cancels_the_handler() -> None:
    ended = []

    async def waits(_request: Any, _response: Any) -> None:
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await ask(peer)
        await peer.send(h2.rst_stream(1))
        assert ended == ["cancelled"]
        assert answer.reset is None
        await ask(peer)
        peer.transport.reset()
        await settle()
        assert ended == ["cancelled"] * 2

    serving(scene, web=waits)


def test_a_server_that_stops_breaks_off_what_runs() -> None:
    async def waits(_request: Any, response: Any) -> None:
        await response.start(200, [])
        await asyncio.sleep(1_000)

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await ask(peer)
        await site.port.stop(1.0)
        peer.hear()
        assert answer.reset == h2.CANCEL
        assert not answer.ended

    serving(scene, web=waits)


def test_a_client_that_opens_no_window_makes_the_handler_wait() -> None:
    wrote = []

    async def talks(_request: Any, response: Any) -> None:
        await response.start(200, [])
        for _ in range(100):
            await response.write(bytes(10_000))
            wrote.append(10_000)

    async def scene(site: Site) -> None:
        peer = await site.connect(SHUT)
        answer = await ask(peer)
        await asyncio.sleep(10)
        assert sum(wrote) <= 70_000
        wide = (h2.window_update(1, 1 << 30), h2.window_update(0, 1 << 30))
        await peer.send(*wide)
        await peer.send()
        assert (len(answer.body), answer.ended) == (1_000_000, True)

    serving(scene, web=talks)


def test_a_handler_that_reads_nothing_shuts_the_window() -> None:
    go = asyncio.Event()

    async def late(request: Any, response: Any) -> None:
        await go.wait()
        size = 0
        async for chunk in request.chunks:
            size += len(chunk)
        await response.start(200, [("x-size", str(size))])

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await ask(peer, fields("POST"), *[bytes(16_384)] * 16, end=False)
        stream = peer.transport.protocol.connection.streams[1]
        assert stream.receive_window == 0
        assert not [one for one in peer.of_kind(h2.WINDOW_UPDATE) if one.stream_id == 1]
        go.set()
        await peer.send()
        assert stream.receive_window > 0
        await peer.send(h2.data(1, b"the end", end_stream=True))
        assert answer.head["x-size"] == str(16 * 16_384 + 7)

    serving(scene, web=late)


async def greedy(request: Any, response: Any) -> None:
    await request.read(1 << 20)
    await response.start(204, [])


@pytest.mark.parametrize("speaks_h2", [True, False])
def test_incomplete_bodies_are_bounded_over_all_connections(speaks_h2: bool) -> None:
    async def scene(site: Site) -> None:
        hog = await site.connect()
        await ask(hog, fields("POST"), bytes(9_000), end=False)
        if speaks_h2:
            peer = await site.connect()
            assert (await ask(peer, fields("POST"), bytes(2_000))).head[":status"] == "204"
        else:
            transport = site.arrive()
            transport.receive(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2000\r\n\r\n")
            transport.receive(bytes(2_000))
            await settle()
            assert bytes(transport.sent).startswith(b"HTTP/1.1 204")
        hog.hear()
        assert hog.answers[1].head[":status"] == "503"
        assert hog.answers[1].body == TOO_MUCH.encode() + b"\n"
        assert (await ask(hog, fields("POST"), bytes(10_001))).head[":status"] == "503"

    assert serving(scene, web=greedy).failures == []


def test_calls_and_pages_share_a_connection() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        page, call = await ask(peer), await peer.call("/no.Such/Method")
        assert page.head[":status"] == "200"
        assert call.status[0] == 12

    serving(scene, web=echo)

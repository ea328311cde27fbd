"""HTTP/1.1 as well-behaved clients use it."""

from __future__ import annotations

import asyncio

import pytest

from dqlite_py.http.web import WebRequest, WebResponse
from tests.http.h1_site import Site, get, hello, serving
from tests.kit.fake_transport import settle


async def echo(request: WebRequest, response: WebResponse) -> None:
    """Send back each piece of the body as it comes."""
    await response.start(200, [])
    async for chunk in request.chunks:
        await response.write(chunk)


async def measure(request: WebRequest, response: WebResponse) -> None:
    """Read the whole body, then say how long it was."""
    size = str(len(await request.read(100_000))).encode()
    await response.start(200, [], body_bytes=len(size))
    await response.write(size)


def test_a_connection_carries_one_request_after_another() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/a"), get("/b"))
        first, second = site.answers("GET", "GET")
        assert (first.status, first.body, second.body) == (200, b"/a", b"/b")
        assert first.headers["content-length"] == "2"
        assert "GMT" in first.headers["date"]
        assert not site.transport.closing

    assert serving(scenario).statuses == [200, 200]


def test_requests_sent_ahead_are_served_one_at_a_time_in_order() -> None:
    release = asyncio.Event()

    async def slow(request: WebRequest, response: WebResponse) -> None:
        if request.path == "/slow":
            await release.wait()
        await hello(request, response)

    async def scenario(site: Site) -> None:
        await site.send(get("/slow") + get("/b") + get("/c"))
        assert site.paths == ["/slow"]
        release.set()
        await settle()
        assert [reply.body for reply in site.answers(*["GET"] * 3)] == [b"/slow", b"/b", b"/c"]

    serving(scenario, slow)


def test_an_answer_to_head_has_headers_only() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/abc", method="HEAD") + get("/d"))
        head, after = site.answers("HEAD", "GET")
        assert (head.headers["content-length"], head.body, after.body) == ("4", b"", b"/d")

    serving(scenario)


def test_a_body_is_passed_on_as_it_arrives_and_so_is_the_answer() -> None:
    async def scenario(site: Site) -> None:
        head = get("/", "transfer-encoding: chunked", method="POST")
        await site.send(head, b"3\r\nabc\r\n")
        assert site.answers("POST")[0].chunks == [b"abc"]
        await site.send(b"2\r\nde\r\n")
        assert site.answers("POST")[0].body == b"abcde"
        assert not site.answers("POST")[0].whole
        await site.send(b"0\r\n\r\n")
        [reply] = site.answers("POST")
        assert reply.whole
        assert reply.headers["transfer-encoding"] == "chunked"

    serving(scenario, echo)


def test_http_1_0_gets_its_answer_and_the_end() -> None:
    async def scenario(site: Site) -> None:
        await site.send(b"GET /old HTTP/1.0\r\n\r\n")
        [reply] = site.answers()
        assert (reply.status, reply.body, reply.whole) == (200, b"/old", True)
        assert site.transport.ended

    serving(scenario)


def test_a_streamed_answer_to_http_1_0_ends_with_the_connection() -> None:
    async def scenario(site: Site) -> None:
        await site.send(b"POST / HTTP/1.0\r\ncontent-length: 3\r\n\r\nabc")
        assert bytes(site.transport.sent).endswith(b"\r\n\r\nabc")
        assert b"transfer-encoding" not in site.transport.sent.lower()
        assert site.transport.ended

    serving(scenario, echo)


def test_connection_close_is_obeyed() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/a", "connection: close") + get("/b"))
        assert site.paths == ["/a"]
        assert site.answers()[0].headers["connection"] == "close"
        assert site.transport.ended

    serving(scenario)


def test_under_tls_a_last_answer_closes_at_once() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/a", "connection: close"))
        assert site.answers()[0].body == b"/a"
        assert site.transport.lost
        assert not site.transport.aborted

    serving(scenario, secure=True)


def test_the_target_and_the_headers_are_taken_apart() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("http://other/p%20q?a=1&b=2?", "X-Twice: 1", "x-twice: 2"))
        [request] = site.requests
        assert (request.method, request.path, request.query) == ("GET", "/p%20q", "a=1&b=2?")
        assert request.headers["x-twice"] == "1, 2"
        assert (request.secure, request.certificate_name) == (False, None)
        await site.send(get("http://other") + get("*", method="OPTIONS"))
        assert site.paths[1:] == ["/", "*"]

    serving(scenario)


def test_over_tls_the_name_in_the_certificate_is_known() -> None:
    certificate = {"subject": ((("organizationName", "o"),), (("commonName", "root"),))}

    async def scenario(site: Site) -> None:
        await site.send(get("/"))
        assert site.requests[0].secure
        assert site.requests[0].certificate_name == "root"

    serving(scenario, secure=True, extra={"peercert": certificate})


def test_a_client_that_asks_first_is_told_to_go_on_when_its_body_is_wanted() -> None:
    wanted = asyncio.Event()

    async def wait_then_measure(request: WebRequest, response: WebResponse) -> None:
        await wanted.wait()
        await measure(request, response)

    async def scenario(site: Site) -> None:
        await site.send(get("/", "expect: 100-continue", "content-length: 3", method="POST"))
        assert not site.transport.sent
        wanted.set()
        await settle()
        assert site.transport.sent.startswith(b"HTTP/1.1 100 ")
        await site.send(b"abc" + get("/", "content-length: 0", method="POST"))
        assert [reply.body for reply in site.answers("POST", "POST")] == [b"3", b"0"]

    serving(scenario, wait_then_measure)


def test_a_client_that_asks_first_and_is_refused_is_not_told_to_go_on() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/", "expect: 100-continue", "content-length: 3", method="POST"))
        [reply] = site.answers("POST")
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert site.transport.ended

    serving(scenario)


@pytest.mark.parametrize("size", [10, 900])
def test_a_small_body_that_nobody_read_is_skipped(size: int) -> None:
    async def scenario(site: Site) -> None:
        post = get("/a", f"content-length: {size}", method="POST")
        await site.send(post, b"x" * (size - 5), b"x" * 5 + get("/b"))
        assert [reply.body for reply in site.answers("POST", "GET")] == [b"/a", b"/b"]

    serving(scenario)


def test_a_client_that_says_it_asks_no_more_still_gets_its_answer() -> None:
    async def slow(request: WebRequest, response: WebResponse) -> None:
        await asyncio.sleep(2.0)
        await hello(request, response)

    async def scenario(site: Site) -> None:
        site.transport.receive(get("/a"))
        site.transport.end()
        await asyncio.sleep(2.5)
        assert site.answers()[0].body == b"/a"
        assert site.transport.lost

    serving(scenario, slow)


def test_the_handler_is_cancelled_when_the_client_goes() -> None:
    events = []

    async def endless(request: WebRequest, response: WebResponse) -> None:
        await response.start(200, [])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append(request.path)
            raise

    async def reset(site: Site) -> None:
        await site.send(get("/reset"))
        site.transport.reset()
        await settle()

    async def half_closed(site: Site) -> None:
        await site.send(get("/ended"))
        site.transport.end()
        await asyncio.sleep(4.0)

    assert serving(reset, endless).reports == []
    assert serving(half_closed, endless).reports == []
    assert events == ["/reset", "/ended"]


def test_draining_ends_an_idle_connection_at_once() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/a"))
        site.protocol.drain()
        await settle()
        assert site.transport.lost
        assert not site.transport.aborted

    serving(scenario)


def test_draining_lets_the_request_under_way_finish_and_says_that_it_is_the_last() -> None:
    release = asyncio.Event()

    async def slow(request: WebRequest, response: WebResponse) -> None:
        await release.wait()
        await hello(request, response)

    async def scenario(site: Site) -> None:
        await site.send(get("/a") + get("/b"))
        site.protocol.drain()
        release.set()
        await asyncio.sleep(2.0)
        [reply] = site.answers("GET", "GET")
        assert (reply.body, reply.headers["connection"]) == (b"/a", "close")
        assert site.paths == ["/a"]
        assert site.transport.lost

    serving(scenario, slow)


def test_draining_before_the_first_request_serves_it_if_it_has_come() -> None:
    async def scenario(site: Site) -> None:
        site.transport.receive(get("/a"))
        site.protocol.drain()
        await settle()
        assert site.answers()[0].headers["connection"] == "close"

    serving(scenario)


def test_closing_cancels_the_handler_and_breaks_its_answer_off() -> None:
    async def scenario(site: Site) -> None:
        post = get("/", "transfer-encoding: chunked", method="POST")
        await site.send(post + b"3\r\nabc\r\n")
        site.protocol.close()
        await settle()
        assert site.transport.aborted
        assert not site.answers("POST")[0].whole

    serving(scenario, echo)

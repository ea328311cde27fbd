"""HTTP/1.1 against clients, and handlers, that do not behave."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from dqlite_py.http.web import WebRequest, WebResponse
from tests.http.h1_site import LIMITS, Site, get, hello, serving
from tests.http.test_h1_conversation import echo, measure
from tests.kit.fake_transport import settle

POST_CHUNKED = get("/", "transfer-encoding: chunked", method="POST")
TOO_LONG = "a" * (LIMITS.header_bytes + 1)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nbad header: y\r\n\r\n", 400),
        (get("/", "content-length: 3", "content-length: 4"), 400),
        (get("/", "content-length: -3"), 400),
        (get("/", "transfer-encoding: gzip"), 501),
        (get("/", f"x-long: {TOO_LONG}"), 431),
        (get(f"/{TOO_LONG}"), 431),
        (get("/", *[f"x-{number}: y" for number in range(200)]), 431),
        (f"GET /{TOO_LONG}".encode(), 431),
    ],
)
def test_what_is_no_acceptable_request_is_refused(request_bytes: bytes, status: int) -> None:
    async def scenario(site: Site) -> None:
        await site.send(request_bytes)
        [reply] = site.answers()
        assert (reply.status, reply.headers["connection"]) == (status, "close")
        assert site.transport.ended
        await asyncio.sleep(1.5)
        assert site.transport.lost

    site = serving(scenario)
    assert (site.requests, site.statuses, site.reports) == ([], [status], [])


def test_the_rest_of_a_refused_request_is_read_so_that_the_client_sees_why() -> None:
    async def scenario(site: Site) -> None:
        await site.send(b"nonsense\r\n\r\n", b"more", b"and more")
        assert site.transport.reading
        assert not site.transport.closing
        site.transport.end()
        await settle()
        assert site.transport.lost
        assert not site.transport.aborted

    serving(scenario)


def test_under_tls_the_rest_is_read_before_closing() -> None:
    async def scenario(site: Site) -> None:
        await site.send(b"nonsense\r\n\r\n", b"more")
        assert site.answers()[0].status == 400
        assert not site.transport.closing
        await asyncio.sleep(1.5)
        assert site.transport.lost
        assert not site.transport.aborted

    serving(scenario, secure=True)


def test_under_tls_the_end_of_the_input_is_the_end() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/", "transfer-encoding: chunked", method="POST"))
        site.transport.end()
        await settle()
        assert site.transport.lost

    assert serving(scenario, echo, secure=True).reports == []


def test_a_request_ending_in_its_header_is_refused() -> None:
    async def scenario(site: Site) -> None:
        await site.send(b"GET / HT")
        site.transport.end()
        await settle()
        assert site.answers()[0].status == 400

    serving(scenario)


def test_a_body_larger_than_the_handler_reads_is_413() -> None:
    async def picky(request: WebRequest, response: WebResponse) -> None:
        await request.read(10)

    async def scenario(site: Site) -> None:
        await site.send(get("/", "content-length: 5000", method="POST") + b"x" * 500)
        [reply] = site.answers("POST")
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        await asyncio.sleep(1.5)
        assert site.transport.lost

    assert serving(scenario, picky).reports == []


@pytest.mark.parametrize("damage", [b"zz\r\nabc\r\n", b"3\r\nabcdef\r\n", b"f" * 2000])
def test_a_malformed_body_is_400_if_the_answer_has_not_begun(damage: bytes) -> None:
    async def scenario(site: Site) -> None:
        await site.send(POST_CHUNKED + damage)
        [reply] = site.answers("POST")
        assert (reply.status // 100, reply.headers["connection"]) == (4, "close")

    assert serving(scenario, measure).reports == []


def test_a_malformed_body_breaks_off_an_answer_that_has_begun() -> None:
    async def scenario(site: Site) -> None:
        await site.send(POST_CHUNKED + b"3\r\nabc\r\n", b"zz\r\n")
        assert site.transport.aborted
        assert not site.answers("POST")[0].whole

    assert serving(scenario, echo).reports == []


# --- time --------------------------------------------------------------------------------------
def test_a_header_that_does_not_end_is_408() -> None:
    async def scenario(site: Site) -> None:
        for letter in b"GET / HTTP/1.1\r\nhost: x":
            site.transport.receive(bytes((letter,)))
            await asyncio.sleep(0.5)
        assert site.answers()[0].status == 408
        await asyncio.sleep(1.5)
        assert site.transport.lost

    assert serving(scenario).cuts == ["slow header"]


@pytest.mark.parametrize(("requests", "patience_s"), [(0, 5.0), (1, 60.0)])
def test_a_silent_connection_is_closed(requests: int, patience_s: float) -> None:
    async def scenario(site: Site) -> None:
        await site.send(*[get("/")] * requests)
        await asyncio.sleep(patience_s - 0.5)
        assert not site.transport.closing
        await asyncio.sleep(1.0)
        assert site.transport.lost
        assert len(site.answers()) == requests

    assert serving(scenario).cuts == ["idle"]


def test_a_body_that_does_not_come_is_408() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/", "content-length: 3000", method="POST"))
        for _ in range(30):
            await asyncio.sleep(1.0)
            site.transport.receive(b"x" * 10)  # a tenth of the rate that is asked
            await settle()
        [reply] = site.answers("POST")
        assert (reply.status, reply.headers["connection"]) == (408, "close")

    assert serving(scenario, measure).cuts == ["slow body"]


def test_a_body_may_take_long_if_it_comes_steadily() -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/", "content-length: 9000", method="POST"))
        for _ in range(60):
            await asyncio.sleep(1.0)
            site.transport.receive(b"x" * 150)
        await settle()
        assert site.answers("POST")[0].body == b"9000"

    assert serving(scenario, measure).cuts == []


def test_in_a_conversation_the_client_may_be_silent() -> None:
    async def scenario(site: Site) -> None:
        await site.send(POST_CHUNKED)
        await asyncio.sleep(1000.0)
        await site.send(b"1\r\nx\r\n0\r\n\r\n")
        assert site.answers("POST")[0].whole

    assert serving(scenario, echo).cuts == []


def test_time_that_the_handler_takes_is_not_the_clients_fault() -> None:
    async def slow(request: WebRequest, response: WebResponse) -> None:
        await asyncio.sleep(100.0)
        await measure(request, response)

    async def scenario(site: Site) -> None:
        await site.send(get("/", "content-length: 4", method="POST"))
        await asyncio.sleep(105.0)
        await site.send(b"abcd")
        assert site.answers("POST")[0].body == b"4"

    serving(scenario, slow)


# --- backpressure ------------------------------------------------------------------------------
def test_a_handler_that_does_not_read_stops_the_client() -> None:
    wanted = asyncio.Event()

    async def late(request: WebRequest, response: WebResponse) -> None:
        await wanted.wait()
        await measure(request, response)

    async def scenario(site: Site) -> None:
        await site.send(get("/", "content-length: 9000", method="POST"))
        for _ in range(18):
            await site.send(b"x" * 500)
        assert not site.transport.reading
        buffered = len(site.protocol._wire._inbox)
        assert buffered <= LIMITS.read_ahead_bytes + 500
        wanted.set()
        await settle()
        assert site.answers("POST")[0].body == b"9000"
        assert site.transport.reading

    serving(scenario, late)


def test_requests_sent_ahead_without_end_stop_the_client() -> None:
    never = asyncio.Event()

    async def stuck(_request: WebRequest, _response: WebResponse) -> None:
        await never.wait()

    async def scenario(site: Site) -> None:
        for _ in range(100):
            await site.send(get("/"))
        assert len(site.requests) == 1
        assert not site.transport.reading

    serving(scenario, stuck)


def test_a_client_that_reads_slowly_slows_its_handler_only() -> None:
    written = []

    async def large(_request: WebRequest, response: WebResponse) -> None:
        await response.start(200, [])
        for number in range(20):
            await response.write(b"x" * 500)
            written.append(number)

    async def scenario(site: Site) -> None:
        site.transport.stalled = True
        await site.send(get("/"))
        assert len(written) < 5
        for _ in range(20):  # progress, if slow, is no reason to cut it off
            await asyncio.sleep(15.0)
            site.transport.take(400)
        site.transport.stalled = False
        site.transport.take(100_000)
        await settle()
        assert len(site.answers()[0].body) == 10_000

    assert serving(scenario, large).cuts == []


def test_a_client_that_reads_nothing_is_cut_off_and_its_handler_cancelled() -> None:
    cancelled = []

    async def large(_request: WebRequest, response: WebResponse) -> None:
        await response.start(200, [])
        try:
            while True:
                await response.write(b"x" * 500)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def scenario(site: Site) -> None:
        site.transport.stalled = True
        await site.send(get("/"))
        await asyncio.sleep(30.0)
        assert site.transport.aborted
        assert cancelled

    site = serving(scenario, large)
    assert (site.cuts, site.reports) == (["slow reader"], [])


def test_a_client_that_does_not_take_its_last_answer_is_cut_off() -> None:
    async def scenario(site: Site) -> None:
        site.transport.stalled = True
        await site.send(get("/", "connection: close"))
        await asyncio.sleep(60.0)
        assert site.transport.aborted

    assert serving(scenario).cuts == ["slow reader"]


# --- handlers ----------------------------------------------------------------------------------
async def fail(_request: WebRequest, _response: WebResponse) -> None:
    raise ValueError("secret")


async def say_nothing(_request: WebRequest, _response: WebResponse) -> None:
    return


async def bad_header(_request: WebRequest, response: WebResponse) -> None:
    await response.start(200, [("x-bad", "a\r\nb")])


@pytest.mark.parametrize("broken", [fail, say_nothing, bad_header])
def test_a_handler_that_fails_before_its_answer_is_500_and_reported(broken: object) -> None:
    async def sometimes(request: WebRequest, response: WebResponse) -> None:
        await (broken if request.path == "/bad" else hello)(request, response)  # type: ignore[operator]

    async def scenario(site: Site) -> None:
        await site.send(get("/bad"), get("/good"))
        bad, good = site.answers("GET", "GET")
        assert (bad.status, bad.body, good.body) == (500, b"internal error\n", b"/good")

    site = serving(scenario, sometimes)
    assert [path for path, _ in site.reports] == ["/bad"]


async def fail_late(_request: WebRequest, response: WebResponse) -> None:
    await response.start(200, [])
    await response.write(b"abc")
    raise ValueError("secret")


async def write_less(_request: WebRequest, response: WebResponse) -> None:
    await response.start(200, [], body_bytes=10)
    await response.write(b"abc")


async def write_more(_request: WebRequest, response: WebResponse) -> None:
    await response.start(200, [], body_bytes=2)
    await response.write(b"abc")


@pytest.mark.parametrize("broken", [fail_late, write_less, write_more])
def test_a_cut_answer_does_not_look_whole(broken: object) -> None:
    async def scenario(site: Site) -> None:
        await site.send(get("/"))
        assert site.transport.aborted
        assert not site.answers()[0].whole

    site = serving(scenario, broken)  # type: ignore[arg-type]
    assert [path for path, _ in site.reports] == ["/"]


# --- chance ------------------------------------------------------------------------------------
CONVERSATION = (
    get("/a", "expect: 100-continue", "content-length: 7", method="POST")
    + b"abcdefg"
    + POST_CHUNKED
    + b"5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\ntrailer: z\r\n\r\n"
    + get("/c")
)


@pytest.mark.parametrize("seed", range(20))
def test_however_the_bytes_are_cut_the_answers_are_the_same(seed: int) -> None:
    random = Random(seed)

    async def scenario(site: Site) -> None:
        at = 0
        while at < len(CONVERSATION):
            size = random.choice((1, 2, 3, 10, 50))
            site.transport.receive(CONVERSATION[at : at + size])
            at += size
            if random.random() < 0.7:
                await settle(random.randrange(10))
        await settle()
        assert [reply.body for reply in site.answers("POST", "POST", "GET")] == [b"7", b"8", b"0"]

    serving(scenario, measure)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_bytes_end_the_connection_in_good_order(seed: int) -> None:
    random = Random(seed)

    async def scenario(site: Site) -> None:
        data = bytearray(CONVERSATION * 2)
        for _ in range(random.randrange(1, 8)):
            at = random.randrange(len(data))
            data[at : at + random.randrange(3)] = random.randbytes(random.randrange(3))
        while data:
            size = random.choice((1, 5, 40, 200))
            site.transport.receive(bytes(data[:size]))
            del data[:size]
            await settle(random.randrange(10))
        site.transport.end()
        await asyncio.sleep(LIMITS.idle_s + 10.0)
        assert site.transport.lost

    assert serving(scenario, echo).reports == []

"""How connections end: leaving in good order, signs of life, pings, peers that are slow."""

from __future__ import annotations

import asyncio

import pytest

from dqlite_py.http.grpc.status import Code
from dqlite_py.http.h2.settings import H2Limits
from tests.http.grpc_site import Echo, Peer, Site, serving
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import settle

QUESTION = h2.message(b"?")
UNARY, WAITS = "/t.T/Unary", "/t.T/Waits"
PINGS = (h2.PING, 0)


def pings(peer: Peer) -> int:
    peer.hear()
    return sum((one.kind, one.flags) == PINGS for one in peer.frames)


def test_leaving_serves_what_was_under_way_and_refuses_what_comes_later() -> None:
    echo = Echo()

    async def scene(site: Site) -> None:
        peer = await site.connect()
        before = await peer.call(WAITS, QUESTION)
        async with asyncio.TaskGroup() as group:
            group.create_task(site.port.stop(100.0))
            await settle()
            peer.hear()
            assert peer.goaways == [(h2.LARGEST_WINDOW, h2.NO_ERROR, b"")]
            assert pings(peer) == 1
            between = await peer.call(UNARY, QUESTION)
            assert between.status == (Code.OK, "")
            await peer.ponged()
            assert peer.goaways[1:] == [(3, h2.NO_ERROR, b"")]
            after = await peer.call(UNARY, QUESTION)
            assert after.reset == h2.REFUSED_STREAM
            assert not peer.transport.closing
            echo.go.set()
            await settle()
            peer.hear()
            assert before.status == (Code.OK, "")
            assert peer.transport.lost
            assert not peer.transport.aborted
        assert asyncio.get_running_loop().time() < 1.0, "nothing was left to wait for"

    site = serving(scene, *echo.methods)
    assert site.counted == []


def test_leaving_an_idle_client_closes_when_it_has_answered() -> None:
    async def scene(site: Site) -> None:
        peer, silent = await site.connect(), site.arrive()
        async with asyncio.TaskGroup() as group:
            group.create_task(site.port.stop(100.0))
            await settle()
            assert silent.lost
            assert not peer.transport.closing
            await peer.ponged()
            assert [last for last, _, _ in peer.goaways] == [h2.LARGEST_WINDOW, 0]
            assert peer.transport.lost

    serving(scene)


def test_a_client_that_pongs_again_and_again_is_told_once() -> None:
    echo = Echo()

    async def scene(site: Site) -> None:
        peer = await site.connect()
        await peer.call(WAITS, QUESTION)
        async with asyncio.TaskGroup() as group:
            group.create_task(site.port.stop(5.0))
            await settle()
            await peer.ponged()
            [ping] = [one for one in peer.frames if (one.kind, one.flags) == PINGS]
            for _ in range(3):
                await peer.call(UNARY, QUESTION)
                await peer.send(h2.ping(ping.payload, ack=True))
            assert len(peer.goaways) == 2

    serving(scene, *echo.methods)


def test_connections_that_come_while_the_port_stops_are_closed() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        await peer.call(WAITS, QUESTION)
        async with asyncio.TaskGroup() as group:
            group.create_task(site.port.stop(5.0))
            await settle()
            late = site.arrive()
            await settle()
            assert late.lost

    serving(scene, *Echo().methods)


def test_an_idle_client_is_asked_for_a_sign_of_life_after_two_hours() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        await asyncio.sleep(7_198)
        assert pings(peer) == 0
        await asyncio.sleep(4)
        assert pings(peer) == 1
        await peer.ponged()
        await asyncio.sleep(7_198)
        assert pings(peer) == 1
        await asyncio.sleep(4)
        assert pings(peer) == 2
        assert not peer.transport.closing

    site = serving(scene)
    assert site.counted == []


def test_a_client_without_a_sign_of_life_is_gone_20_seconds_later() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        await peer.call(WAITS, QUESTION)
        await asyncio.sleep(7_202)
        assert pings(peer) == 1
        await asyncio.sleep(18)
        assert not peer.transport.lost
        await asyncio.sleep(4)
        assert peer.transport.lost
        assert echo.cancelled == 1

    echo = Echo()
    site = serving(scene, *echo.methods)
    assert site.counted == ["no_sign_of_life"]


def test_a_client_that_says_anything_is_not_asked() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        for _ in range(10):
            await asyncio.sleep(3_600)
            await peer.send(h2.window_update(0, 1))
        assert pings(peer) == 0

    serving(scene)


async def ping_every(peer: Peer, seconds: float, count: int) -> int:
    """Ping; return how many were answered before the connection was ended."""
    for number in range(count):
        await peer.send(h2.ping())
        if peer.goaways:
            return number
        await asyncio.sleep(seconds)
    return count


@pytest.mark.parametrize(
    ("streams", "seconds", "answered"),
    [(True, 5.0, 50), (True, 4.9, 3), (False, 7_200.0, 10), (False, 7_199.0, 3), (False, 5.0, 3)],
)
def test_pings_closer_together_than_allowed_end_the_connection(
    streams: bool, seconds: float, answered: int
) -> None:
    """The first is free and two are forgiven, as grpc-go with etcd's minimum of 5 s does it."""

    async def scene(site: Site) -> None:
        peer = await site.connect()
        if streams:
            await peer.call(WAITS, QUESTION)
        assert await ping_every(peer, seconds, max(answered, 10)) == answered
        if answered == 3:
            assert peer.goaways == [
                (1 if streams else 0, h2.ENHANCE_YOUR_CALM, b"too_many_pings"),
            ]
            assert peer.transport.lost

    site = serving(scene, *Echo().methods)
    assert site.counted == (["enhance_your_calm"] if answered == 3 else [])


def test_what_the_server_sends_forgives_pings() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        for _ in range(20):
            assert await ping_every(peer, 0.01, 2) == 2
            assert (await peer.call(UNARY, QUESTION)).status == (Code.OK, "")

    serving(scene, *Echo().methods)


def test_strikes_do_not_end_other_connections() -> None:
    async def scene(site: Site) -> None:
        one, other = await site.connect(), await site.connect()
        await ping_every(one, 0.0, 10)
        assert one.goaways
        assert (await other.call(UNARY, QUESTION)).status == (Code.OK, "")

    serving(scene, *Echo().methods)


@pytest.mark.parametrize(
    ("said", "limit_s"),
    [
        ((h2.PREFACE[:4],), 10.0),
        ((h2.PREFACE,), 10.0),
        ((h2.PREFACE, h2.settings()[:5]), 10.0),
        ((h2.PREFACE, h2.settings(), h2.ping()[:5]), 30.0),
        ((h2.PREFACE, h2.settings(), h2.headers(1, end_headers=False)), 30.0),
    ],
)
def test_a_client_that_stops_in_the_middle_is_ended(
    said: tuple[bytes, ...], limit_s: float
) -> None:
    async def scene(site: Site) -> None:
        peer = Peer(site.arrive())
        await peer.send(*said)
        await asyncio.sleep(limit_s - 1)
        assert not peer.transport.closing
        await asyncio.sleep(3)
        peer.hear()
        assert peer.goaways[-1][1:] == (
            h2.ENHANCE_YOUR_CALM,
            b"the rest of a frame did not come",
        )
        assert peer.transport.lost

    site = serving(scene)
    assert site.counted == ["slow_writer"]


def test_a_client_that_we_do_not_read_is_no_slow_writer() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        peer.transport.stalled = True
        frame = h2.frame(0x99, 0, 0, bytes(100))
        await peer.send(*[h2.headers(2 * at + 1) for at in range(2_000)], frame[:50])
        peer.transport.receive(h2.headers(5_001, h2.request_fields(b"/1"), end_stream=True))
        await asyncio.sleep(45)
        assert not peer.transport.closing
        await asyncio.sleep(20)
        assert peer.transport.lost

    site = serving(scene, h2_limits=H2Limits(output_bytes=1 << 20))
    assert site.counted == ["slow_reader"]


def test_a_client_of_many_broken_rules_costs_one_count() -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        await peer.call(WAITS, QUESTION)
        await peer.send(h2.data(99, b"x"), h2.data(101, b"x"))
        assert [code for _, code, _ in peer.goaways] == [h2.PROTOCOL_ERROR]
        assert peer.transport.lost
        assert echo.cancelled == 1

    echo = Echo()
    site = serving(scene, *echo.methods)
    assert site.counted == ["protocol_error"]

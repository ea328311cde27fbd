"""Connections that arrive: which protocol they speak, and how many there may be."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dqlite_py.http.connections import ConnectionLimits
from dqlite_py.http.grpc.status import Code
from tests.http.grpc_site import WIDE, Echo, Peer, Site, serving
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import replies, settle

QUESTION = h2.message(b"?")
FIRST = h2.PREFACE + WIDE + h2.headers(1, h2.request_fields(b"/t.T/Unary"))
REQUEST = b"POST /page HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"


async def page(request: Any, response: Any) -> None:
    body = await request.read(100)
    await response.start(200, [], body_bytes=len(body))
    await response.write(body)


@pytest.mark.parametrize("cut", range(1, 31))
def test_http_2_is_known_however_its_first_bytes_are_cut(cut: int) -> None:
    async def scene(site: Site) -> None:
        peer = Peer(site.arrive())
        await peer.send(FIRST[:cut])
        assert not peer.transport.closing
        await peer.send(FIRST[cut:], h2.data(1, QUESTION, end_stream=True))
        assert peer.answers[1].status == (Code.OK, "")

    serving(scene, *Echo().methods)


@pytest.mark.parametrize("cut", range(1, 31))
def test_http_1_is_known_however_its_first_bytes_are_cut(cut: int) -> None:
    async def scene(site: Site) -> None:
        transport = site.arrive()
        transport.receive(REQUEST[:cut])
        await settle()
        transport.receive(REQUEST[cut:])
        await settle()
        [reply] = replies(bytes(transport.sent), "POST")
        assert (reply.status, reply.body) == (200, b"hi")

    serving(scene, web=page)


@pytest.mark.parametrize("first", [FIRST, REQUEST])
def test_first_bytes_may_come_one_by_one(first: bytes) -> None:
    async def scene(site: Site) -> None:
        peer = Peer(site.arrive())
        for octet in first:
            peer.transport.receive(bytes([octet]))
        await settle()
        if first is FIRST:
            await peer.send(h2.data(1, QUESTION, end_stream=True))
            assert peer.answers[1].status == (Code.OK, "")
        else:
            assert replies(bytes(peer.transport.sent), "POST")[0].body == b"hi"

    serving(scene, *Echo().methods, web=page)


@pytest.mark.parametrize("nearly", [b"P", b"PR", b"PRI"])
def test_the_beginning_of_the_preface_alone_is_waited_for(nearly: bytes) -> None:
    async def scene(site: Site) -> None:
        transport = site.arrive()
        transport.receive(nearly)
        await settle()
        assert not transport.sent
        transport.receive(b"X / HTTP/1.1\r\nhost: x\r\n\r\n")
        await settle()
        assert bytes(transport.sent).startswith(b"HTTP/1.1 200")

    serving(scene, web=page)


def test_a_broken_preface_is_told_in_the_language_of_http_2() -> None:
    async def scene(site: Site) -> None:
        peer = Peer(site.arrive())
        await peer.send(b"PRI * ")
        await peer.send(b"HTTP/3.0\r\n\r\n")
        assert [code for _, code, _ in peer.goaways] == [h2.PROTOCOL_ERROR]
        assert peer.transport.lost

    serving(scene)


class Negotiated:
    def __init__(self, protocol: str | None) -> None:
        self._protocol = protocol

    def selected_alpn_protocol(self) -> str | None:
        return self._protocol


@pytest.mark.parametrize(("agreed", "is_h2"), [("h2", True), ("http/1.1", False), (None, True)])
def test_what_tls_agreed_on_counts(agreed: str | None, is_h2: bool) -> None:
    async def scene(site: Site) -> None:
        transport = site.arrive(ssl_object=Negotiated(agreed), sslcontext=object())
        transport.secure = True
        transport.receive(h2.PREFACE + h2.settings())
        await settle()
        assert bytes(transport.sent).startswith(b"HTTP/1.1 ") != is_h2

    serving(scene, web=page)


@pytest.mark.parametrize("said", [b"", b"P"])
def test_a_client_that_does_not_say_what_it_speaks_is_closed(said: bytes) -> None:
    async def scene(site: Site) -> None:
        transport = site.arrive()
        if said:
            transport.receive(said)
        await asyncio.sleep(9)
        assert not transport.closing
        await asyncio.sleep(3)
        assert transport.lost

    site = serving(scene)
    assert site.counted == ["slow_writer"]


def test_a_client_that_ends_before_it_says_anything_is_forgotten() -> None:
    async def scene(site: Site) -> None:
        transport = site.arrive()
        transport.end()
        await settle()
        assert transport.lost
        assert len(site.port.connections) == 0

    serving(scene)


def test_connections_of_one_address_are_bounded() -> None:
    async def scene(site: Site) -> None:
        peers = [await site.connect(address="192.0.2.1") for _ in range(2)]
        refused = site.arrive("192.0.2.1")
        await settle()
        assert refused.lost
        assert site.counted == ["too_many_of_address"]
        await site.connect(address="192.0.2.2")
        for peer in peers:
            assert (await peer.call("/t.T/Unary", QUESTION)).status == (Code.OK, "")
        peers[0].transport.reset()
        await settle()
        again = await site.connect(address="192.0.2.1")
        assert (await again.call("/t.T/Unary", QUESTION)).status == (Code.OK, "")

    limits = ConnectionLimits(connections=10, connections_of_address=2)
    serving(scene, *Echo().methods, connections=limits)


def test_connections_in_sum_are_bounded() -> None:
    async def scene(site: Site) -> None:
        peers = [await site.connect(address=f"192.0.2.{number}") for number in range(3)]
        refused = site.arrive("192.0.2.9")
        await settle()
        assert refused.lost
        assert site.counted == ["too_many"]
        assert len(site.port.connections) == 3
        peers[1].transport.reset()
        await settle()
        assert not site.arrive("192.0.2.9").lost

    serving(scene, connections=ConnectionLimits(connections=3, connections_of_address=2))


def test_clients_of_unix_sockets_count_as_one_address() -> None:
    async def scene(site: Site) -> None:
        site.arrive(peername="")
        refused = site.arrive(peername="")
        await settle()
        assert refused.lost

    serving(scene, connections=ConnectionLimits(connections_of_address=1))

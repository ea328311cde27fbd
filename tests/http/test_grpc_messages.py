"""Messages of gRPC: framing, compression, sizes, and how many a call may have."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from typing import Any

import pytest

from dqlite_py.http.grpc.messages import Assembler
from dqlite_py.http.grpc.methods import Call, Kind, Method
from dqlite_py.http.grpc.status import Code, Refused
from tests.http.grpc_site import LIMITS, Answer, Echo, Site, serving
from tests.kit import raw_h2 as h2

UNARY, STREAM, BIDI = "/t.T/Unary", "/t.T/Stream", "/t.T/Bidi"
GZIP = (b"grpc-encoding", b"gzip")
MOST = LIMITS.max_message_bytes
PREFIX_BYTES = 5


def packed(payload: bytes) -> bytes:
    """A compressed message in its envelope."""
    squeezed = gzip.compress(payload)
    return b"\x01" + h2.u32(len(squeezed)) + squeezed


def asked(path: str, body: bytes, *fields: tuple[bytes, bytes], end: bool = True) -> Answer:
    """Make one call of the echo; return its answer."""
    answers: list[Answer] = []

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answers.append(await peer.call(path, body, *fields, end=end))

    serving(scene, *Echo().methods)
    return answers[0]


@pytest.mark.parametrize("kind", [UNARY, STREAM, BIDI])
@pytest.mark.parametrize("payload", [b"", b"x", b"\x00" * 999])
def test_a_message_comes_back(kind: str, payload: bytes) -> None:
    answer = asked(kind, h2.message(payload))
    assert answer.head == {":status": "200", "content-type": "application/grpc"}
    assert answer.messages == [(0, payload)] * (3 if kind == STREAM else 1)
    assert answer.status == (Code.OK, "")
    assert answer.reset is None


@pytest.mark.parametrize("size", range(1, 14))
def test_a_message_may_be_cut_anywhere(size: int) -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call(UNARY, end=False)
        body = h2.message(b"question")
        for at in range(0, len(body), size):
            await peer.send(h2.data(1, body[at : at + size]))
            assert not answer.ended
        await peer.send(h2.data(1, end_stream=True))
        assert answer.messages == [(0, b"question")]

    serving(scene, *Echo().methods)


@pytest.mark.parametrize("kind", [UNARY, STREAM, BIDI])
def test_compressed_requests_are_answered_compressed(kind: str) -> None:
    answer = asked(kind, packed(b"q" * 500), GZIP)
    assert answer.head["grpc-encoding"] == "gzip"
    for flag, message in answer.messages:
        assert flag == 1
        assert len(message) < 100
        assert gzip.decompress(message) == b"q" * 500
    assert len(answer.messages) in (1, 3)


def test_a_plain_message_is_taken_although_the_call_is_compressed() -> None:
    answer = asked(UNARY, h2.message(b"plain"), GZIP)
    assert gzip.decompress(answer.messages[0][1]) == b"plain"


@pytest.mark.parametrize("kind", [UNARY, STREAM, BIDI])
@pytest.mark.parametrize("encoding", ["snappy", "deflate", "GZIP"])
def test_an_unknown_encoding_is_told_which_are_known(kind: str, encoding: str) -> None:
    answer = asked(kind, h2.message(b"x"), (b"grpc-encoding", encoding.encode()))
    code, text = answer.status
    assert code == Code.UNIMPLEMENTED
    assert text == f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"'
    assert answer.head["grpc-accept-encoding"] == "gzip"
    assert answer.trailers_only


@pytest.mark.parametrize("fields", [(), ((b"grpc-encoding", b"identity"),)])
def test_a_compressed_message_needs_an_encoding(fields: Any) -> None:
    answer = asked(UNARY, packed(b"x"), *fields)
    text = "grpc: compressed flag set with identity or empty encoding"
    assert answer.status == (Code.INTERNAL, text)


@pytest.mark.parametrize("flag", [2, 0x80, 0xFF])
def test_other_flags_are_refused(flag: int) -> None:
    answer = asked(UNARY, bytes([flag]) + h2.u32(1) + b"x", GZIP)
    text = f"grpc: received unexpected payload format {flag}"
    assert answer.status == (Code.INTERNAL, text)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_what_can_not_be_decompressed_is_refused(damage: str) -> None:
    squeezed = gzip.compress(b"question" * 10)
    broken = {"cut": squeezed[:-1], "garbage": b"\xff" * 30, "empty": b""}[damage]
    answer = asked(UNARY, b"\x01" + h2.u32(len(broken)) + broken, GZIP)
    assert answer.status[0] == Code.INTERNAL
    assert answer.status[1].startswith("grpc: failed to decompress the received message: ")


@pytest.mark.parametrize("kind", [UNARY, STREAM, BIDI])
def test_the_largest_message_is_taken_and_one_byte_more_is_not(kind: str) -> None:
    assert asked(kind, h2.message(bytes(MOST))).status == (Code.OK, "")
    text = f"grpc: received message larger than max ({MOST + 1} vs. {MOST})"
    assert asked(kind, h2.message(bytes(MOST + 1))).status == (Code.RESOURCE_EXHAUSTED, text)


def test_a_message_too_large_is_refused_by_its_prefix_alone() -> None:
    answer = asked(UNARY, h2.message(b"", declared=2**32 - 1), end=False)
    assert answer.status[0] == Code.RESOURCE_EXHAUSTED
    assert answer.reset == h2.NO_ERROR, "the client would send all of it"


def test_the_limit_holds_after_decompression() -> None:
    assert asked(UNARY, packed(bytes(MOST)), GZIP).status == (Code.OK, "")
    answer = asked(UNARY, packed(bytes(MOST + 1)), GZIP)
    text = f"grpc: message after decompression larger than max ({MOST + 1} vs. {MOST})"
    assert answer.status == (Code.RESOURCE_EXHAUSTED, text)


def test_a_bomb_takes_no_more_memory_than_a_message_may() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    squeezed = b"".join(bomb.compress(bytes(1 << 20)) for _ in range(64)) + bomb.flush()
    assembler = Assembler(1 << 20, gzip=True)
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="RESOURCE_EXHAUSTED"):
            assembler.feed(b"\x01" + h2.u32(len(squeezed)) + squeezed)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_an_incomplete_message_in_tiny_pieces_takes_little_more_than_its_bytes() -> None:
    assembler = Assembler(1 << 20, gzip=False)
    assembler.feed(h2.message(b"", declared=1 << 20))
    piece = 0
    tracemalloc.start()
    try:
        for piece in range(100_000):
            assembler.feed(b"%02d" % (piece % 100))
        assert tracemalloc.get_traced_memory()[0] < 600_000
    finally:
        tracemalloc.stop()
    assert assembler.held_bytes == PREFIX_BYTES + 2 * (piece + 1)


@pytest.mark.parametrize("kind", [UNARY, STREAM])
@pytest.mark.parametrize("at_once", [True, False])
def test_a_second_request_is_refused_where_one_is_asked_for(kind: str, at_once: bool) -> None:
    async def scene(site: Site) -> None:
        peer = await site.connect()
        message = h2.message(b"x")
        if at_once:
            answer = await peer.call(kind, message * 2)
        else:
            answer = await peer.call(kind, message, end=False)
            await peer.send(h2.data(1, message, end_stream=True))
        text = "grpc: more than one message in a unary request"
        assert answer.status == (Code.INTERNAL, text)
        assert answer.trailers_only

    echo = Echo()
    serving(scene, *echo.methods)
    assert echo.calls == []


@pytest.mark.parametrize("kind", [UNARY, STREAM])
@pytest.mark.parametrize("body", [b"", b"\0", h2.message(b"whole")[:-1]])
def test_a_request_without_a_whole_message_is_refused(kind: str, body: bytes) -> None:
    answer = asked(kind, body)
    assert answer.status == (Code.INTERNAL, "grpc: the request ended without a message")


@pytest.mark.parametrize("rest", [b"\0", h2.message(b"cut")[:-1]])
def test_a_whole_request_and_a_bit_more_is_refused(rest: bytes) -> None:
    answer = asked(UNARY, h2.message(b"whole") + rest)
    assert answer.status[0] == Code.INTERNAL


def test_a_stream_of_requests_may_be_empty_and_may_not_be_cut() -> None:
    assert asked(BIDI, b"").status == (Code.OK, "")
    answer = asked(BIDI, h2.message(b"whole") + h2.message(b"cut")[:-1])
    assert answer.messages == [(0, b"whole")]
    assert answer.status == (Code.INTERNAL, "unexpected EOF")


def test_requests_that_mean_nothing_are_refused_with_the_reason() -> None:
    def decode(_data: bytes) -> Any:
        raise ValueError("no such thing")

    async def never(_request: Any, _call: Call) -> bytes:
        raise AssertionError

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Never", h2.message(b"x"))
        text = "grpc: error unmarshalling request: no such thing"
        assert answer.status == (Code.INTERNAL, text)

    site = serving(scene, Method("/t.T/Never", Kind.UNARY, decode, never))
    assert site.failures == [], "a client's mistake was reported as the server's"


@pytest.mark.parametrize("kind", [Kind.UNARY, Kind.SERVER_STREAM])
def test_a_handler_that_answers_with_no_message_ends_as_an_error(kind: Kind) -> None:
    async def unary(_request: bytes, _call: Call) -> Any:
        return None

    async def stream(_request: bytes, send: Any, _call: Call) -> None:
        await send(None)

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Odd", h2.message(b"x"))
        assert answer.status[0] == Code.INTERNAL

    handler = unary if kind is Kind.UNARY else stream
    site = serving(scene, Method("/t.T/Odd", kind, bytes, handler))
    assert site.handled == [("/t.T/Odd", Code.INTERNAL)]
    assert len(site.failures) == 1


def test_a_response_of_any_size_is_sent() -> None:
    size = 3_000_000

    async def large(_request: bytes, _call: Call) -> bytes:
        return bytes(size)

    async def scene(site: Site) -> None:
        peer = await site.connect()
        answer = await peer.call("/t.T/Large", h2.message(b"x"))
        for _ in range(10):
            await peer.send()
        assert answer.messages == [(0, bytes(size))]
        assert answer.status == (Code.OK, "")

    serving(scene, Method("/t.T/Large", Kind.UNARY, bytes, large))

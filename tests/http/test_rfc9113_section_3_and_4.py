"""RFC 9113 sections 3 and 4: the prefaces, the form of frames, header blocks. One test a rule."""

from __future__ import annotations

import pytest

from dqlite_py.http.h2.settings import H2Limits
from tests.http.conversation import Conversation
from tests.kit import raw_h2 as h2

ANY_REQUEST = h2.block(h2.REQUEST)


def test_3_4_the_servers_preface_is_a_settings_frame() -> None:
    """The first frame that a server sends is SETTINGS."""
    first = Conversation(opened=False).hear()
    assert first[0].kind == h2.SETTINGS
    assert not first[0].flags & h2.ACK


@pytest.mark.parametrize("cut", range(1, len(h2.PREFACE)))
def test_3_4_the_clients_preface_may_come_in_pieces(cut: int) -> None:
    """The client's preface is 24 fixed octets, however the transport cuts them."""
    talk = Conversation(opened=False)
    talk.say(h2.PREFACE[:cut])
    talk.say(h2.PREFACE[cut:] + h2.settings())
    talk.alive()


@pytest.mark.parametrize("at", range(len(h2.PREFACE)))
def test_3_4_another_preface_is_an_error(at: int) -> None:
    """An invalid preface is a connection error PROTOCOL_ERROR."""
    wrong = bytearray(h2.PREFACE)
    wrong[at] ^= 1
    Conversation(opened=False).breaks(bytes(wrong), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "first", [h2.ping(), h2.headers(1), h2.settings(ack=True), h2.frame(0x77)], ids=repr
)
def test_3_4_settings_follow_the_preface(first: bytes) -> None:
    """The first frame of the client is SETTINGS; another is a connection error PROTOCOL_ERROR."""
    talk = Conversation(opened=False)
    talk.breaks(h2.PREFACE + first, code=h2.PROTOCOL_ERROR)


def test_3_4_the_clients_settings_are_acknowledged() -> None:
    """The SETTINGS of the client's preface are acknowledged."""
    assert h2.Frame(h2.SETTINGS, h2.ACK, 0, b"") in Conversation().first


@pytest.mark.parametrize("kind", [0x0A, 0x10, 0x7F, 0xFF])
@pytest.mark.parametrize("stream_id", [0, 1, 2])
def test_4_1_frames_of_unknown_types_are_discarded(kind: int, stream_id: int) -> None:
    """A frame of an unknown type is ignored."""
    talk = Conversation()
    assert talk.say(h2.frame(kind, 0xFF, stream_id, b"whatever")) == []
    talk.alive()


@pytest.mark.parametrize(
    ("kind", "flags", "payload"),
    [(h2.PING, 0xFE, bytes(8)), (h2.SETTINGS, 0xFE, b""), (h2.GOAWAY, 0xFF, bytes(8))],
)
def test_4_1_unused_flags_are_ignored(kind: int, flags: int, payload: bytes) -> None:
    """Flags that a frame's type does not define are ignored."""
    talk = Conversation()
    talk.say(h2.frame(kind, flags, 0, payload))
    talk.alive()


def test_4_1_unused_flags_are_not_sent() -> None:
    """Flags that a frame's type does not define are unset in what is sent, and the reserved bit."""
    defined = {h2.DATA: 0x9, h2.HEADERS: 0x2D, h2.SETTINGS: 1, h2.PING: 1, h2.CONTINUATION: 4}
    talk = Conversation()
    talk.say(h2.headers(1, end_stream=True), h2.ping())
    talk.connection.receive(h2.headers(3, end_stream=True), talk.now_s)
    encode = talk.connection.encoder.encode
    talk.connection.respond(talk.stream(3), encode([(b":status", b"200")]), b"x", encode([]))
    raw = talk.connection.take()
    frames, _ = h2.parse(raw)
    for one in [*talk.first, *frames]:
        assert not one.flags & ~defined.get(one.kind, 0), one
    at = 0
    while at < len(raw):
        assert raw[at + 5] < 0x80, "the reserved bit is set"
        at += 9 + h2.number(raw[at : at + 3])


def test_4_1_the_reserved_bit_is_ignored() -> None:
    """The reserved bit before the stream identifier is ignored."""
    talk = Conversation()
    talk.say(h2.headers(0x80000001, end_stream=True), h2.frame(h2.PING, 0, 0x80000000, bytes(8)))
    assert [stream.id for stream in talk.seen.requests] == [1]
    talk.alive()


def test_4_2_frames_of_16384_octets_are_taken() -> None:
    """Every implementation takes frames of 2^14 octets."""
    talk = Conversation()
    talk.say(h2.headers(1), h2.data(1, bytes(h2.DEFAULT_FRAME)))
    assert talk.seen.bodies == [(1, bytes(h2.DEFAULT_FRAME), False)]
    talk.alive()


@pytest.mark.parametrize("kind", range(10))
def test_4_2_larger_frames_than_announced_are_an_error(kind: int) -> None:
    """A frame above our SETTINGS_MAX_FRAME_SIZE is an error FRAME_SIZE_ERROR."""
    talk = Conversation()
    talk.say(h2.headers(1))
    too_large = h2.frame(kind, 0, 1, bytes(h2.DEFAULT_FRAME + 1))
    talk.breaks(too_large, code=h2.FRAME_SIZE_ERROR)


def test_4_2_a_frame_too_large_is_not_waited_for() -> None:
    """The announced length alone is the error: nobody makes us wait for 16 MiB."""
    head = h2.frame(h2.DATA, 0, 1, b"", length=2**24 - 1)
    Conversation().breaks(head, code=h2.FRAME_SIZE_ERROR)


@pytest.mark.parametrize(
    "short",
    [
        h2.frame(h2.HEADERS, h2.END_HEADERS | h2.WITH_PRIORITY, 1, bytes(4)),
        h2.frame(h2.HEADERS, h2.END_HEADERS | h2.PADDED, 1, b""),
        h2.frame(h2.GOAWAY, 0, 0, bytes(7)),
        h2.frame(h2.SETTINGS, 0, 0, bytes(5)),
        h2.frame(h2.WINDOW_UPDATE, 0, 0, bytes(3)),
        h2.frame(h2.PING, 0, 0, bytes(7)),
    ],
    ids=["priority", "padding", "goaway", "settings", "window", "ping"],
)
def test_4_2_frames_too_short_for_their_fields_are_an_error(short: bytes) -> None:
    """A frame without its mandatory octets that touches the connection's state ends it."""
    Conversation().breaks(short, code=h2.FRAME_SIZE_ERROR)


@pytest.mark.parametrize("size", [h2.DEFAULT_FRAME, 20_000, 2**24 - 1])
def test_4_2_no_frame_is_sent_above_the_peers_limit(size: int) -> None:
    """What is sent keeps to the peer's SETTINGS_MAX_FRAME_SIZE."""
    talk = Conversation()
    wide = (h2.INITIAL_WINDOW_SIZE, 1_000_000)
    talk.say(h2.settings((h2.MAX_FRAME_SIZE, size), wide), h2.window_update(0, 1_000_000))
    talk.say(h2.headers(1, end_stream=True))
    sent = [one for one in talk.answer(1, bytes(200_000)) if one.kind == h2.DATA]
    assert sum(len(one.payload) for one in sent) == 200_000
    assert max(len(one.payload) for one in sent) <= size


def test_4_3_a_block_may_be_cut_anywhere() -> None:
    """A block is HEADERS and CONTINUATION frames, with END_HEADERS on the last."""
    for cut in range(len(ANY_REQUEST) + 1):
        talk = Conversation()
        talk.say(
            h2.headers(1, ANY_REQUEST[:cut], end_headers=False, end_stream=True),
            h2.continuation(1, ANY_REQUEST[cut:], end_headers=True),
        )
        (stream,) = talk.seen.requests
        assert stream.head.path == b"/etcdserverpb.KV/Range"
        assert stream.ended_there


@pytest.mark.parametrize(
    "between",
    [
        h2.data(1, b"x"),
        h2.headers(1),
        h2.headers(3),
        h2.priority(1),
        h2.priority(5),
        h2.rst_stream(1),
        h2.settings(),
        h2.settings(ack=True),
        h2.ping(),
        h2.goaway(),
        h2.window_update(0, 1),
        h2.window_update(1, 1),
        h2.frame(0x77, 0, 0, b""),
        h2.continuation(3, b"", end_headers=True),
    ],
    ids=lambda frame: repr(h2.parse(frame)[0][0]),
)
def test_4_3_nothing_stands_between_the_frames_of_a_block(between: bytes) -> None:
    """A block's frames follow each other; any other frame is a connection error PROTOCOL_ERROR."""
    talk = Conversation()
    talk.say(h2.headers(1, ANY_REQUEST[:10], end_headers=False))
    talk.breaks(between, code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "block", [b"\x80", b"\xff\xff\xff\xff\xff\xff", b"\x00\x05abc", b"\x40"], ids=repr
)
def test_4_3_a_block_that_can_not_be_decoded_ends_the_connection(block: bytes) -> None:
    """A decoding error is a connection error COMPRESSION_ERROR."""
    Conversation().breaks(h2.headers(1, block), code=h2.COMPRESSION_ERROR)


def test_4_3_blocks_of_refused_streams_are_decoded_all_the_same() -> None:
    """The table of fields is shared, so a block counts even when its stream is refused."""
    talk = Conversation(H2Limits(max_concurrent_streams=1))
    adds = ANY_REQUEST + b"\x40\x05x-new\x05value"
    talk.say(h2.headers(1), h2.headers(3, adds), h2.rst_stream(1))
    talk.say(h2.headers(5, ANY_REQUEST + bytes([0x80 | 62]), end_stream=True))
    assert talk.seen.requests[-1].id == 5
    assert (b"x-new", b"value") in talk.seen.requests[-1].head.fields


def test_4_3_1_a_larger_table_than_announced_is_an_error() -> None:
    """A size update above our SETTINGS_HEADER_TABLE_SIZE: connection error COMPRESSION_ERROR."""
    update = b"\x3f\xe2\x1f"  # 4097
    Conversation().breaks(h2.headers(1, update + ANY_REQUEST), code=h2.COMPRESSION_ERROR)


def test_4_3_1_a_smaller_table_of_the_peer_is_taken_note_of() -> None:
    """After acknowledging a smaller SETTINGS_HEADER_TABLE_SIZE a block begins with the update."""
    talk = Conversation()
    talk.say(h2.settings((h2.HEADER_TABLE_SIZE, 0)), h2.headers(1, end_stream=True))
    head = next(one for one in talk.answer(1) if one.kind == h2.HEADERS)
    assert head.payload[:1] == b"\x20", "a size update to 0 comes first"

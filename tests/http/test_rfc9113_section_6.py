"""RFC 9113 sections 6.1 to 6.8 and 6.10, and 7: each type of frame by itself. One test a rule."""

from __future__ import annotations

import pytest

from tests.http.conversation import Conversation
from tests.kit import raw_h2 as h2


def opened() -> Conversation:
    """Stream 1 has begun a request."""
    talk = Conversation()
    talk.say(h2.headers(1))
    return talk


def test_6_1_data_belongs_to_a_stream() -> None:
    """DATA on stream 0 is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.data(0, b"x"), code=h2.PROTOCOL_ERROR)


def test_6_1_padding_is_taken_off() -> None:
    """The padding of DATA is not part of the body."""
    talk = opened()
    talk.say(h2.frame(h2.DATA, h2.PADDED, 1, h2.padded(b"body", 100)))
    assert talk.body_of(1) == b"body"
    talk.alive()


def test_6_1_padding_counts_for_the_window() -> None:
    """The whole payload, with padding and its length, takes from the windows."""
    talk = opened()
    stream = talk.stream(1)
    size = talk.limits.stream_window_bytes
    before = stream.receive_window
    talk.say(h2.frame(h2.DATA, h2.PADDED, 1, h2.padded(b"body", 250)))
    padding_owed = stream.owed_bytes
    assert before - stream.receive_window == 255
    assert padding_owed == 251, "padding is given back at once, for nobody consumes it"
    heard = []
    for _ in range(2 * size // 256):
        heard += talk.say(h2.frame(h2.DATA, h2.PADDED, 1, h2.padded(b"", 255)))
    assert talk.seen.end is None
    given = [h2.number(one.payload) for one in heard if one.stream_id == 1]
    assert sum(given) >= size


@pytest.mark.parametrize("kind", [h2.DATA, h2.HEADERS])
@pytest.mark.parametrize("payload", [b"\x01", b"\x05abcd", b"\xff" + bytes(254)], ids=len)
def test_6_1_padding_as_long_as_the_payload_is_an_error(kind: int, payload: bytes) -> None:
    """Padding of the payload's length or more is a connection error PROTOCOL_ERROR."""
    talk = opened()
    stream_id = 1 if kind == h2.DATA else 3
    talk.breaks(
        h2.frame(kind, h2.PADDED | h2.END_HEADERS, stream_id, payload), code=h2.PROTOCOL_ERROR
    )


def test_6_1_padding_may_fill_the_rest_of_the_payload() -> None:
    """Padding that leaves no data is no error."""
    talk = opened()
    talk.say(h2.frame(h2.DATA, h2.PADDED | h2.END_STREAM, 1, h2.padded(b"", 10)))
    assert talk.seen.bodies == [(1, b"", True)]
    talk.alive()


def test_6_2_headers_belong_to_a_stream() -> None:
    """HEADERS on stream 0 are a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.headers(0), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("padding", [None, 0, 1, 255])
@pytest.mark.parametrize("with_priority", [False, True])
def test_6_2_padding_and_priority_of_headers_are_taken_off(
    padding: int | None, with_priority: bool
) -> None:
    """The optional parts of HEADERS stand around the block."""
    payload = (h2.u32(0) + b"\x10" if with_priority else b"") + h2.block(h2.REQUEST)
    flags = h2.WITH_PRIORITY if with_priority else 0
    if padding is not None:
        payload, flags = h2.padded(payload, padding), flags | h2.PADDED
    talk = Conversation()
    talk.say(h2.headers(1, payload, flags=flags, end_stream=True))
    assert talk.seen.requests[0].head.path == b"/etcdserverpb.KV/Range"
    talk.alive()


def test_6_2_a_stream_that_depends_on_itself_is_an_error() -> None:
    """HEADERS that depend on their own stream are a stream error (RFC 7540, kept by h2spec)."""
    payload = h2.u32(1) + b"\x10" + h2.block(h2.REQUEST)
    frame = h2.headers(1, payload, flags=h2.WITH_PRIORITY, end_stream=True)
    Conversation().resets(1, frame, code=h2.PROTOCOL_ERROR)


def test_6_3_priority_belongs_to_a_stream() -> None:
    """PRIORITY on stream 0 is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.priority(0), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("size", [0, 4, 6])
def test_6_3_priority_has_five_octets(size: int) -> None:
    """PRIORITY of another length is a stream error FRAME_SIZE_ERROR."""
    opened().resets(1, h2.frame(h2.PRIORITY, 0, 1, bytes(size)), code=h2.FRAME_SIZE_ERROR)


def test_6_4_a_reset_belongs_to_a_stream() -> None:
    """RST_STREAM on stream 0 is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.rst_stream(0), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("stream_id", [1, 2, 3, 100])
def test_6_4_idle_streams_can_not_be_reset(stream_id: int) -> None:
    """RST_STREAM of an idle stream is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.rst_stream(stream_id), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("size", [0, 3, 5])
def test_6_4_a_reset_has_four_octets(size: int) -> None:
    """RST_STREAM of another length is a connection error FRAME_SIZE_ERROR."""
    frame = h2.frame(h2.RST_STREAM, 0, 1, bytes(size))
    opened().breaks(frame, code=h2.FRAME_SIZE_ERROR)


def test_6_4_a_reset_ends_the_stream_and_what_waits_on_it() -> None:
    """After the peer's RST_STREAM nothing more is sent on the stream, and its owner is told."""
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)), h2.headers(1, end_stream=True))
    talk.answer(1, b"waits for a window")
    assert talk.say(h2.rst_stream(1, h2.CANCEL)) == []
    assert talk.seen.resets == [(1, h2.CANCEL)]
    heard = talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 1000)))
    assert [one.kind for one in heard] == [h2.SETTINGS]


@pytest.mark.parametrize("size", [1, 6])
def test_6_5_an_acknowledgement_is_empty(size: int) -> None:
    """SETTINGS with ACK and a payload are a connection error FRAME_SIZE_ERROR."""
    frame = h2.frame(h2.SETTINGS, h2.ACK, 0, bytes(size))
    Conversation().breaks(frame, code=h2.FRAME_SIZE_ERROR)


def test_6_5_settings_belong_to_the_connection() -> None:
    """SETTINGS on a stream are a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.frame(h2.SETTINGS, 0, 1, b""), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("size", [1, 5, 7, 11])
def test_6_5_settings_have_six_octets_each(size: int) -> None:
    """SETTINGS of a length that is no multiple of 6 are a connection error FRAME_SIZE_ERROR."""
    frame = h2.frame(h2.SETTINGS, 0, 0, bytes(size))
    Conversation().breaks(frame, code=h2.FRAME_SIZE_ERROR)


@pytest.mark.parametrize("value", [2, 2**32 - 1])
def test_6_5_2_enable_push_is_0_or_1(value: int) -> None:
    """Another SETTINGS_ENABLE_PUSH is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.settings((h2.ENABLE_PUSH, value)), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("value", [0, 1])
def test_6_5_2_enable_push_of_a_client_is_taken(value: int) -> None:
    """A client may say either value of SETTINGS_ENABLE_PUSH; nothing is ever pushed."""
    talk = Conversation()
    talk.say(h2.settings((h2.ENABLE_PUSH, value)), h2.headers(1, end_stream=True))
    assert all(one.kind != h2.PUSH_PROMISE for one in talk.answer(1))
    talk.alive()


def test_6_5_2_a_server_does_not_enable_push() -> None:
    """A server leaves SETTINGS_ENABLE_PUSH out, or says 0."""
    said = dict(Conversation(opened=False).hear()[0].settings)
    assert said.get(h2.ENABLE_PUSH, 0) == 0


@pytest.mark.parametrize("value", [2**31, 2**32 - 1])
def test_6_5_2_initial_window_size_is_bounded(value: int) -> None:
    """SETTINGS_INITIAL_WINDOW_SIZE above 2^31-1 is a connection error FLOW_CONTROL_ERROR."""
    frame = h2.settings((h2.INITIAL_WINDOW_SIZE, value))
    Conversation().breaks(frame, code=h2.FLOW_CONTROL_ERROR)


@pytest.mark.parametrize("value", [0, h2.DEFAULT_FRAME - 1, 2**24, 2**32 - 1])
def test_6_5_2_max_frame_size_is_bounded(value: int) -> None:
    """SETTINGS_MAX_FRAME_SIZE outside 2^14 to 2^24-1 is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.settings((h2.MAX_FRAME_SIZE, value)), code=h2.PROTOCOL_ERROR)


def test_6_5_2_own_values_are_in_range() -> None:
    """What the server announces keeps to the same bounds."""
    said = dict(Conversation(opened=False).hear()[0].settings)
    assert said.get(h2.INITIAL_WINDOW_SIZE, 0) <= h2.LARGEST_WINDOW
    assert h2.DEFAULT_FRAME <= said.get(h2.MAX_FRAME_SIZE, h2.DEFAULT_FRAME) < 2**24


def test_6_5_2_unknown_settings_are_ignored() -> None:
    """A setting with an unknown identifier is ignored, the others in the frame count."""
    talk = Conversation()
    talk.say(h2.settings((0x1234, 7), (h2.INITIAL_WINDOW_SIZE, 3), (0, 0)))
    talk.say(h2.headers(1, end_stream=True))
    assert [one.payload for one in talk.answer(1) if one.kind == h2.DATA] == [b"ans"]


def test_6_5_3_values_count_in_their_order() -> None:
    """Of a setting given twice in a frame the last value counts."""
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 100), (h2.INITIAL_WINDOW_SIZE, 2)))
    talk.say(h2.headers(1, end_stream=True))
    assert [one.payload for one in talk.answer(1) if one.kind == h2.DATA] == [b"an"]


def test_6_5_3_settings_are_acknowledged_at_once() -> None:
    """Each SETTINGS frame is answered by one with ACK, after its values count."""
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)), h2.headers(1, end_stream=True))
    talk.answer(1, b"waits")
    heard = talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 5)), h2.settings())
    acks = [at for at, one in enumerate(heard) if (one.kind, one.flags) == (h2.SETTINGS, h2.ACK)]
    assert len(acks) == 2
    assert [one.payload for one in heard if one.kind == h2.DATA] == [b"waits"]
    assert heard[0].kind == h2.SETTINGS, "what the new values admit comes after the ACK"


def test_6_5_3_an_acknowledgement_is_not_acknowledged() -> None:
    """SETTINGS with ACK need no answer."""
    assert Conversation().say(h2.settings(ack=True)) == []


def test_6_6_clients_can_not_push() -> None:
    """PUSH_PROMISE of a client is a connection error PROTOCOL_ERROR."""
    promise = h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, h2.u32(2) + h2.block(h2.REQUEST))
    opened().breaks(promise, code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("payload", [bytes(8), b"\xff" * 8, b"ABCDEFGH"])
def test_6_7_a_ping_is_answered_with_its_payload(payload: bytes) -> None:
    """PING is answered by PING with ACK and the same eight octets."""
    heard = Conversation().say(h2.ping(payload))
    assert heard == [h2.Frame(h2.PING, h2.ACK, 0, payload)]


def test_6_7_the_answer_to_a_ping_is_not_answered() -> None:
    """PING with ACK is not answered; whoever asked is told."""
    talk = Conversation()
    talk.connection.ping(b"question")
    assert talk.hear() == [h2.Frame(h2.PING, 0, 0, b"question")]
    assert talk.say(h2.ping(b"question", ack=True)) == []
    assert talk.seen.pongs == [b"question"]


def test_6_7_pings_belong_to_the_connection() -> None:
    """PING on a stream is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.frame(h2.PING, 0, 1, bytes(8)), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("flags", [0, h2.ACK])
@pytest.mark.parametrize("size", [0, 7, 9])
def test_6_7_pings_have_eight_octets(size: int, flags: int) -> None:
    """PING of another length is a connection error FRAME_SIZE_ERROR."""
    frame = h2.frame(h2.PING, flags, 0, bytes(size))
    Conversation().breaks(frame, code=h2.FRAME_SIZE_ERROR)


def test_6_8_goaway_belongs_to_the_connection() -> None:
    """GOAWAY on a stream is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.frame(h2.GOAWAY, 0, 1, bytes(8)), code=h2.PROTOCOL_ERROR)


def test_6_8_a_client_that_goes_away_is_served_to_the_end() -> None:
    """After the client's GOAWAY its streams are still answered."""
    talk = Conversation()
    talk.say(h2.headers(1, end_stream=True), h2.goaway())
    assert [one.payload for one in talk.answer(1) if one.kind == h2.DATA] == [b"answer"]


def test_6_8_the_last_stream_in_goaway_does_not_grow() -> None:
    """GOAWAY frames that follow each other never name a higher stream."""
    talk = Conversation()
    talk.connection.announce_leaving()
    talk.say(h2.headers(1, end_stream=True))
    talk.connection.leave()
    heard = talk.hear()
    heard += talk.say(h2.headers(5, end_stream=True), h2.headers(7, end_stream=True))
    heard += talk.say(h2.data(0, b"an error"))
    named = [one.last_stream_id for one in heard if one.kind == h2.GOAWAY]
    assert len(named) >= 2
    assert named == sorted(named, reverse=True)


def test_6_8_streams_after_our_goaway_are_not_served() -> None:
    """Requests above the stream that GOAWAY named are refused, and their blocks decoded."""
    talk = Conversation()
    talk.say(h2.headers(1, end_stream=True))
    talk.connection.leave()
    (said,) = talk.hear()
    assert (said.kind, said.last_stream_id, said.code) == (h2.GOAWAY, 1, h2.NO_ERROR)
    heard = talk.say(h2.headers(3, h2.block(h2.REQUEST) + b"\x40\x01a\x01b", end_stream=True))
    assert [(one.kind, one.stream_id, one.code) for one in heard] == [
        (h2.RST_STREAM, 3, h2.REFUSED_STREAM)
    ]
    assert [stream.id for stream in talk.seen.requests] == [1]
    assert any(one.flags & h2.END_STREAM for one in talk.answer(1)), "stream 1 is served still"


def test_6_10_continuation_belongs_to_a_stream() -> None:
    """CONTINUATION on stream 0 is a connection error PROTOCOL_ERROR."""
    talk = Conversation()
    talk.say(h2.headers(1, b"", end_headers=False))
    talk.breaks(h2.continuation(0, b"", end_headers=True), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "before",
    [
        h2.headers(1),
        h2.headers(1) + h2.data(1, b"x"),
        h2.headers(1, b"", end_headers=False)
        + h2.continuation(1, h2.block(h2.REQUEST), end_headers=True),
        h2.settings(),
    ],
    ids=["headers", "data", "continuation", "settings"],
)
def test_6_10_continuation_follows_an_open_block(before: bytes) -> None:
    """CONTINUATION after anything but an open block is a connection error PROTOCOL_ERROR."""
    talk = Conversation()
    talk.say(before)
    talk.breaks(h2.continuation(1, b"", end_headers=True), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("code", [0x0E, 0xFF, 2**32 - 1])
def test_7_unknown_error_codes_are_like_others(code: int) -> None:
    """An unknown error code in RST_STREAM or GOAWAY has no effect of its own."""
    talk = opened()
    assert talk.say(h2.rst_stream(1, code)) == []
    assert talk.seen.resets == [(1, code)]
    talk.say(h2.goaway(0, code))
    talk.alive()

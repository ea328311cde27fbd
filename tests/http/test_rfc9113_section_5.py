"""RFC 9113 section 5: streams, their states and numbers, errors, extensions. One test a rule."""

from __future__ import annotations

import pytest

from dqlite_py.http.h2.settings import H2Limits
from tests.http.conversation import Conversation
from tests.kit import raw_h2 as h2


def half_closed() -> Conversation:
    """Stream 1 has sent its whole request and has no answer yet."""
    talk = Conversation()
    talk.say(h2.headers(1, end_stream=True))
    return talk


def closed() -> Conversation:
    """Stream 1 was answered and both sides have ended it."""
    talk = half_closed()
    talk.answer(1)
    return talk


def reset_by_us() -> Conversation:
    """Stream 1 was reset by the server while the request still came."""
    talk = Conversation()
    talk.say(h2.headers(1))
    talk.connection.reset_stream(talk.stream(1), h2.CANCEL)
    assert [one.kind for one in talk.hear()] == [h2.RST_STREAM]
    return talk


@pytest.mark.parametrize(
    "frame",
    [h2.data(1, b"x"), h2.rst_stream(1), h2.window_update(1, 1), h2.continuation(1, b"")],
    ids=lambda frame: repr(h2.parse(frame)[0][0]),
)
def test_5_1_idle_streams_take_headers_and_priority_only(frame: bytes) -> None:
    """Any frame but HEADERS or PRIORITY on an idle stream: connection error PROTOCOL_ERROR."""
    Conversation().breaks(frame, code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("state", [Conversation, half_closed, closed, reset_by_us])
def test_5_1_priority_is_taken_in_every_state(state: type[Conversation]) -> None:
    """PRIORITY can come in any state of a stream."""
    talk = state()
    assert talk.say(h2.priority(1, 3)) == []
    talk.alive()


@pytest.mark.parametrize(
    "frame", [h2.data(1, b"x"), h2.data(1, end_stream=True), h2.headers(1, end_stream=True)]
)
def test_5_1_half_closed_streams_take_no_data_and_headers(frame: bytes) -> None:
    """DATA or HEADERS after END_STREAM: stream error STREAM_CLOSED."""
    half_closed().resets(1, frame, code=h2.STREAM_CLOSED)


def test_5_1_half_closed_streams_take_window_updates() -> None:
    """WINDOW_UPDATE after END_STREAM widens the window of the answer."""
    talk = half_closed()
    talk.say(h2.window_update(1, 10))
    assert talk.stream(1).send_window == h2.DEFAULT_WINDOW + 10
    talk.alive()


def test_5_1_half_closed_streams_take_resets() -> None:
    """RST_STREAM after END_STREAM ends the answer."""
    talk = half_closed()
    assert talk.say(h2.rst_stream(1)) == []
    assert talk.seen.resets == [(1, h2.CANCEL)]
    talk.alive()


@pytest.mark.parametrize("frame", [h2.data(1, b"x"), h2.headers(1, end_stream=True)])
def test_5_1_closed_streams_take_no_data_and_headers(frame: bytes) -> None:
    """DATA or HEADERS after both sides have ended: connection error STREAM_CLOSED."""
    closed().breaks(frame, code=h2.STREAM_CLOSED)


@pytest.mark.parametrize("frame", [h2.window_update(1, 1), h2.rst_stream(1)])
def test_5_1_window_updates_and_resets_that_crossed_our_end_are_ignored(frame: bytes) -> None:
    """WINDOW_UPDATE and RST_STREAM on a closed stream are no error."""
    talk = closed()
    assert talk.say(frame) == []
    talk.alive()


@pytest.mark.parametrize(
    "frame",
    [h2.data(1, b"x"), h2.headers(1, end_stream=True), h2.window_update(1, 1), h2.rst_stream(1)],
    ids=lambda frame: repr(h2.parse(frame)[0][0]),
)
def test_5_1_frames_that_crossed_our_reset_are_ignored(frame: bytes) -> None:
    """After sending RST_STREAM the frames of the peer that were on their way are ignored."""
    talk = reset_by_us()
    assert [one for one in talk.say(frame) if one.kind != h2.WINDOW_UPDATE] == []
    assert not talk.seen.bodies
    talk.alive()


def test_5_1_data_that_crossed_our_reset_counts_for_the_connection() -> None:
    """DATA that is ignored after a reset takes from the connection's window, and is given back."""
    talk = reset_by_us()
    given = 0
    for _ in range(2 * talk.limits.connection_window_bytes // h2.DEFAULT_FRAME):
        heard = talk.say(h2.data(1, bytes(h2.DEFAULT_FRAME)))
        given += sum(h2.number(one.payload) for one in heard if one.kind == h2.WINDOW_UPDATE)
    assert talk.seen.end is None
    assert given >= talk.limits.connection_window_bytes


def test_5_1_headers_that_crossed_our_reset_are_decoded() -> None:
    """HEADERS that are ignored after a reset still change the table of fields."""
    talk = reset_by_us()
    talk.say(h2.headers(1, b"\x40\x05x-new\x05value", end_stream=True))
    talk.say(h2.headers(3, h2.block(h2.REQUEST) + bytes([0x80 | 62]), end_stream=True))
    assert (b"x-new", b"value") in talk.seen.requests[-1].head.fields


@pytest.mark.parametrize("frame", [h2.data(1, b"x"), h2.headers(1, end_stream=True)])
def test_5_1_after_its_own_reset_the_peer_sends_nothing_more(frame: bytes) -> None:
    """DATA or HEADERS after the peer's RST_STREAM are an error STREAM_CLOSED."""
    talk = Conversation()
    talk.say(h2.headers(1), h2.rst_stream(1))
    heard = talk.say(frame)
    assert [(one.kind, one.code) for one in heard] in (
        [(h2.RST_STREAM, h2.STREAM_CLOSED)],
        [(h2.GOAWAY, h2.STREAM_CLOSED)],
    )


def test_5_1_nothing_is_sent_on_a_closed_stream() -> None:
    """Once both sides have ended a stream, or the peer has reset it, nothing is sent on it."""
    talk = closed()
    assert [one for one in talk.say(h2.window_update(0, 1000)) if one.stream_id == 1] == []
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 1)), h2.headers(1, end_stream=True))
    assert sum(len(one.payload) for one in talk.answer(1, b"long") if one.kind == h2.DATA) == 1
    talk.say(h2.rst_stream(1))
    heard = talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 1000)), h2.window_update(0, 1000))
    assert [one for one in heard if one.stream_id == 1] == []


@pytest.mark.parametrize("stream_id", [2, 100])
def test_5_1_1_clients_use_odd_numbers(stream_id: int) -> None:
    """A client's stream with an even number is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.headers(stream_id, end_stream=True), code=h2.PROTOCOL_ERROR)


def test_5_1_1_numbers_only_grow() -> None:
    """A new stream below an earlier one is a connection error PROTOCOL_ERROR."""
    talk = Conversation()
    talk.say(h2.headers(5, end_stream=True))
    talk.breaks(h2.headers(3, end_stream=True), code=h2.PROTOCOL_ERROR)


def test_5_1_1_numbers_are_not_used_again() -> None:
    """A number is used once: a second request on it is an error, and never a request."""
    talk = closed()
    heard = talk.say(h2.headers(1, end_stream=True))
    assert heard[-1].kind == h2.GOAWAY
    assert len(talk.seen.requests) == 1


def test_5_1_1_opening_a_stream_closes_the_idle_ones_below() -> None:
    """The first use of a number closes lower ones: data on them is an error, not a new stream."""
    talk = Conversation()
    talk.say(h2.headers(7, end_stream=True))
    heard = talk.say(h2.data(3, b"x"))
    assert heard[-1].kind == h2.GOAWAY
    assert not talk.seen.bodies


@pytest.mark.parametrize("stream_id", [h2.LARGEST_WINDOW])
def test_5_1_1_the_largest_number_is_a_stream_like_others(stream_id: int) -> None:
    """The number is of 31 bits: the last one is served."""
    talk = Conversation()
    talk.say(h2.headers(stream_id, end_stream=True))
    assert [stream.id for stream in talk.seen.requests] == [stream_id]
    assert talk.answer(stream_id)[-1].flags & h2.END_STREAM


def test_5_1_2_streams_above_the_announced_limit_are_refused() -> None:
    """A stream above our SETTINGS_MAX_CONCURRENT_STREAMS is refused, and the others live."""
    talk = Conversation(H2Limits(max_concurrent_streams=2))
    talk.say(h2.headers(1), h2.headers(3))
    heard = talk.say(h2.headers(5, end_stream=True))
    assert [(one.kind, one.stream_id) for one in heard] == [(h2.RST_STREAM, 5)]
    assert heard[0].code in (h2.REFUSED_STREAM, h2.PROTOCOL_ERROR)
    assert len(talk.seen.requests) == 2
    talk.say(h2.rst_stream(1))
    talk.say(h2.headers(7, end_stream=True))
    assert talk.seen.requests[-1].id == 7


def test_5_1_2_the_limit_is_announced() -> None:
    """The limit of concurrent streams is told in the first SETTINGS."""
    first = Conversation(H2Limits(max_concurrent_streams=123), opened=False).hear()
    assert (h2.MAX_CONCURRENT_STREAMS, 123) in first[0].settings


def test_5_2_1_flow_control_is_respected() -> None:
    """Data is sent within the windows of stream and connection only."""
    talk = Conversation()
    talk.say(h2.headers(1, end_stream=True))
    sent = talk.answer(1, bytes(100_000))
    assert sum(len(one.payload) for one in sent if one.kind == h2.DATA) == h2.DEFAULT_WINDOW
    assert not any(one.flags & h2.END_STREAM for one in sent)


def test_5_2_2_frames_are_read_while_data_waits_for_a_window() -> None:
    """Frames are read and acted upon although what we send waits: no deadlock."""
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)), h2.headers(1, end_stream=True))
    assert [one for one in talk.answer(1) if one.kind == h2.DATA] == []
    talk.alive()
    sent = talk.say(h2.window_update(1, 100))
    assert [one.payload for one in sent if one.kind == h2.DATA] == [b"answer"]


def test_5_4_1_a_connection_error_is_told_with_the_last_stream() -> None:
    """GOAWAY names the last stream that was looked at, then everything ends."""
    talk = Conversation()
    talk.say(h2.headers(1), h2.headers(9, end_stream=True))
    assert talk.breaks(h2.frame(h2.PING, 0, 0, b"short"), code=6).last_stream_id == 9
    assert sorted(number for number, _ in talk.seen.resets) == [1, 9]
    assert not talk.connection.streams


def test_5_4_2_a_stream_error_leaves_the_others_alone() -> None:
    """RST_STREAM names the stream at fault; the others are served on."""
    talk = Conversation()
    talk.say(h2.headers(1), h2.headers(3))
    talk.say(h2.window_update(1, 0))
    assert list(talk.connection.streams) == [3]
    assert talk.say(h2.data(3, b"on", end_stream=True)) == []
    assert talk.body_of(3) == b"on"


@pytest.mark.parametrize("state", [half_closed, closed, reset_by_us])
def test_5_4_2_a_reset_is_not_answered_by_a_reset(state: type[Conversation]) -> None:
    """RST_STREAM is never answered with RST_STREAM."""
    talk = state()
    assert talk.say(h2.rst_stream(1), h2.rst_stream(1)) == []
    talk.alive()


def test_5_5_unknown_settings_and_frames_are_ignored() -> None:
    """Unknown values of what can be extended are ignored."""
    talk = Conversation()
    heard = talk.say(h2.settings((0x99, 1), (0xFFFF, 2**32 - 1)), h2.frame(0x99, 0xFF, 1, b"x"))
    assert [(one.kind, one.flags) for one in heard] == [(h2.SETTINGS, h2.ACK)]
    talk.alive()


def test_5_5_unknown_frames_within_a_block_are_an_error() -> None:
    """An extension's frame in the middle of a block is a connection error PROTOCOL_ERROR."""
    talk = Conversation()
    talk.say(h2.headers(1, b"", end_headers=False))
    talk.breaks(h2.frame(0x99, 0, 1, b""), code=h2.PROTOCOL_ERROR)

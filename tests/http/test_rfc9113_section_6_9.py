"""RFC 9113 section 6.9: flow control. One test a rule."""

from __future__ import annotations

import pytest

from dqlite_py.http.h2.settings import H2Limits
from tests.http.conversation import Conversation
from tests.kit import raw_h2 as h2


def requested(*stream_ids: int, window: int | None = None) -> Conversation:
    """Streams have sent whole requests; ``window`` is the peer's initial window."""
    talk = Conversation()
    if window is not None:
        talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, window)))
    talk.say(*(h2.headers(number, end_stream=True) for number in stream_ids))
    return talk


def data_of(frames: list[h2.Frame], stream_id: int) -> bytes:
    return b"".join(
        one.payload for one in frames if (one.kind, one.stream_id) == (h2.DATA, stream_id)
    )


def test_6_9_an_increment_of_0_is_a_stream_error() -> None:
    """WINDOW_UPDATE of 0 on a stream is a stream error PROTOCOL_ERROR."""
    requested(1).resets(1, h2.window_update(1, 0), code=h2.PROTOCOL_ERROR)


def test_6_9_an_increment_of_0_is_a_connection_error() -> None:
    """WINDOW_UPDATE of 0 on the connection is a connection error PROTOCOL_ERROR."""
    Conversation().breaks(h2.window_update(0, 0), code=h2.PROTOCOL_ERROR)


@pytest.mark.parametrize("stream_id", [0, 1])
@pytest.mark.parametrize("size", [0, 3, 5])
def test_6_9_a_window_update_has_four_octets(stream_id: int, size: int) -> None:
    """WINDOW_UPDATE of another length is a connection error FRAME_SIZE_ERROR."""
    frame = h2.frame(h2.WINDOW_UPDATE, 0, stream_id, bytes(size))
    requested(1).breaks(frame, code=h2.FRAME_SIZE_ERROR)


def test_6_9_the_reserved_bit_of_an_increment_is_ignored() -> None:
    """The increment has 31 bits; the bit before them is ignored."""
    talk = requested(1, window=0)
    talk.answer(1)
    heard = talk.say(h2.frame(h2.WINDOW_UPDATE, 0, 1, h2.u32(0x80000003)))
    assert data_of(heard, 1) == b"ans"


def test_6_9_only_data_is_subject_to_flow_control() -> None:
    """Everything but DATA is sent while the windows are shut."""
    talk = requested(1, 3, window=0)
    encode = talk.connection.encoder.encode
    talk.connection.headers(talk.stream(1), encode([(b":status", b"200")]), end=False)
    talk.connection.reset_stream(talk.stream(3), h2.CANCEL)
    talk.connection.ping(bytes(8))
    kinds = [one.kind for one in talk.hear()]
    assert kinds == [h2.HEADERS, h2.RST_STREAM, h2.PING]


def test_6_9_every_data_frame_counts_even_one_in_error() -> None:
    """DATA of a stream that is at fault takes from the connection's window all the same."""
    talk = Conversation(H2Limits(connection_window_bytes=h2.DEFAULT_WINDOW))
    talk.say(h2.headers(1, end_stream=True))
    heard = talk.say(h2.data(1, bytes(h2.DEFAULT_FRAME)))
    heard += talk.say(*[h2.data(1, bytes(h2.DEFAULT_FRAME)) for _ in range(2)])
    assert [one.code for one in heard if one.kind == h2.RST_STREAM] == [h2.STREAM_CLOSED]
    given = [h2.number(one.payload) for one in heard if one.kind == h2.WINDOW_UPDATE]
    assert sum(given) >= 2 * h2.DEFAULT_FRAME


@pytest.mark.parametrize("window", [0, 1, 5, 6, 7])
def test_6_9_1_no_more_data_is_sent_than_the_streams_window(window: int) -> None:
    """The stream's window bounds what is sent on it."""
    talk = requested(1, window=window)
    assert data_of(talk.answer(1, b"answer"), 1) == b"answer"[:window]


def test_6_9_1_no_more_data_is_sent_than_the_connections_window() -> None:
    """The connection's window bounds what is sent on all streams together."""
    talk = requested(1, 3, window=1_000_000)
    sent = talk.answer(1, bytes(40_000)) + talk.answer(3, bytes(40_000))
    assert len(data_of(sent, 1)) + len(data_of(sent, 3)) == h2.DEFAULT_WINDOW
    sent = talk.say(h2.window_update(0, 100_000))
    assert len(data_of(sent, 3)) == 80_000 - h2.DEFAULT_WINDOW


def test_6_9_1_an_empty_end_of_stream_needs_no_window() -> None:
    """An empty DATA frame with END_STREAM is sent although no window is left."""
    talk = requested(1, window=0)
    encode = talk.connection.encoder.encode
    talk.connection.headers(talk.stream(1), encode([(b":status", b"200")]), end=False)
    talk.connection.data(talk.stream(1), b"", end=True)
    assert talk.hear()[-1].flags & h2.END_STREAM


def test_6_9_1_a_window_of_a_stream_above_the_maximum_resets_it() -> None:
    """A stream's window above 2^31-1 is a stream error FLOW_CONTROL_ERROR."""
    talk = requested(1)
    talk.say(h2.window_update(1, h2.LARGEST_WINDOW - h2.DEFAULT_WINDOW))
    talk.resets(1, h2.window_update(1, 1), code=h2.FLOW_CONTROL_ERROR)


def test_6_9_1_a_window_of_the_connection_above_the_maximum_ends_it() -> None:
    """The connection's window above 2^31-1 is a connection error FLOW_CONTROL_ERROR."""
    talk = Conversation()
    talk.say(h2.window_update(0, h2.LARGEST_WINDOW - h2.DEFAULT_WINDOW))
    talk.breaks(h2.window_update(0, 1), code=h2.FLOW_CONTROL_ERROR)


def test_6_9_1_more_data_than_our_stream_window_is_an_error() -> None:
    """A peer that overruns a stream's window gets a stream error FLOW_CONTROL_ERROR."""
    talk = Conversation(H2Limits(stream_window_bytes=100_000, connection_window_bytes=1_000_000))
    talk.say(h2.headers(1))
    for _ in range(6):
        talk.say(h2.data(1, bytes(h2.DEFAULT_FRAME)))
    talk.resets(1, h2.data(1, bytes(h2.DEFAULT_FRAME)), code=h2.FLOW_CONTROL_ERROR)


def test_6_9_1_what_is_consumed_is_given_back() -> None:
    """A window is opened again as its bytes are consumed, so that a body of any size comes."""
    talk = Conversation(H2Limits(stream_window_bytes=65_536, connection_window_bytes=65_536))
    talk.say(h2.headers(1))
    window, sent = 65_536, 0
    for _ in range(100):
        piece = min(window, h2.DEFAULT_FRAME)
        assert piece, "the window is shut for ever"
        heard = talk.say(h2.data(1, bytes(piece)))
        talk.connection.consumed(talk.stream(1), piece)
        heard += talk.hear()
        sent, window = sent + piece, window - piece
        window += sum(h2.number(one.payload) for one in heard if one.stream_id == 1)
    assert len(talk.body_of(1)) == sent == 100 * h2.DEFAULT_FRAME


def test_6_9_1_what_is_not_consumed_is_not_given_back() -> None:
    """A handler that does not read shuts its stream's window, and no other's."""
    talk = Conversation()
    talk.say(h2.headers(1), h2.headers(3))
    size = talk.limits.stream_window_bytes
    for _ in range(size // h2.DEFAULT_FRAME):
        heard = talk.say(h2.data(1, bytes(h2.DEFAULT_FRAME)))
        assert all(one.stream_id == 0 for one in heard)
    assert talk.stream(1).receive_window == 0
    talk.say(h2.data(3, b"goes on", end_stream=True))
    assert talk.body_of(3) == b"goes on"


def test_6_9_2_the_first_windows_are_65535() -> None:
    """Until the peer says otherwise its windows are of 65,535 octets."""
    talk = requested(1)
    assert len(data_of(talk.answer(1, bytes(100_000)), 1)) == 65_535


def test_6_9_2_a_new_initial_window_changes_every_stream() -> None:
    """A change of SETTINGS_INITIAL_WINDOW_SIZE moves the windows of open streams by the step."""
    talk = requested(1, 3, window=2)
    assert data_of(talk.answer(1), 1) == b"an"
    assert data_of(talk.answer(3), 3) == b"an"
    heard = talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 3)))
    assert (data_of(heard, 1), data_of(heard, 3)) == (b"s", b"s")


def test_6_9_2_a_window_can_become_negative() -> None:
    """A negative window is kept account of: nothing is sent until it is positive again."""
    talk = requested(1, window=4)
    assert data_of(talk.answer(1), 1) == b"answ"
    assert data_of(talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 1))), 1) == b""
    assert talk.stream(1).send_window == -3
    assert data_of(talk.say(h2.window_update(1, 3)), 1) == b""
    assert data_of(talk.say(h2.window_update(1, 1)), 1) == b"e"


def test_6_9_2_a_new_initial_window_leaves_the_connection_alone() -> None:
    """Only WINDOW_UPDATE changes the connection's window."""
    talk = requested(1, window=1_000_000)
    assert len(data_of(talk.answer(1, bytes(100_000)), 1)) == h2.DEFAULT_WINDOW


def test_6_9_2_a_change_that_makes_a_window_too_large_ends_the_connection() -> None:
    """A change that lifts a window above 2^31-1: connection error FLOW_CONTROL_ERROR."""
    talk = requested(1)
    talk.say(h2.window_update(1, h2.LARGEST_WINDOW - h2.DEFAULT_WINDOW))
    larger = h2.settings((h2.INITIAL_WINDOW_SIZE, h2.DEFAULT_WINDOW + 1))
    talk.breaks(larger, code=h2.FLOW_CONTROL_ERROR)


def test_6_9_3_data_within_our_announced_window_is_taken_before_the_acknowledgement() -> None:
    """A stream's first window is what the first SETTINGS announce, acknowledged or not."""
    talk = Conversation()
    talk.say(h2.headers(1))
    for _ in range(talk.limits.stream_window_bytes // h2.DEFAULT_FRAME):
        talk.say(h2.data(1, bytes(h2.DEFAULT_FRAME)))
    talk.alive()

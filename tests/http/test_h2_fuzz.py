"""A few seconds of `tests.http.fuzz` with fixed seeds, and what it has found."""

from __future__ import annotations

import pytest

from dqlite_py.http.h2.settings import H2Limits
from tests.http.conversation import Conversation
from tests.http.fuzz import KINDS, converse
from tests.kit import raw_h2 as h2

FOUND = (
    "frames:1:14",
    "frames:1:20",
    "frames:1:29",
    "frames:1:144",
    "client:1:227",
    "client:101:419",
    "client:101:1259",
)


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_conversations_at_random_keep_every_invariant(kind: str, number: int) -> None:
    assert converse(kind, 2026, number) > 0


@pytest.mark.parametrize("found", FOUND)
def test_conversations_that_failed_once_do_not_any_more(found: str) -> None:
    kind, seed, number = found.split(":")
    converse(kind, int(seed), int(number))


def test_a_stream_that_we_reset_is_not_reset_again() -> None:
    """frames:1:14: a second mistake on a stream was answered with a second RST_STREAM."""
    talk = Conversation()
    talk.say(h2.headers(1))
    talk.resets(1, h2.window_update(1, 0), code=h2.PROTOCOL_ERROR)
    assert talk.say(h2.window_update(1, 0), h2.priority(1, 1)) == []
    talk.alive()


def test_the_number_in_a_goaway_does_not_grow() -> None:
    """frames:1:20 and frames:1:29: leaving twice admitted the streams begun in between."""
    talk = Conversation()
    talk.say(h2.headers(1))
    talk.connection.announce_leaving()
    talk.connection.leave()
    assert [one.last_stream_id for one in talk.hear()] == [h2.LARGEST_WINDOW, 1]
    assert [one.code for one in talk.say(h2.headers(3))] == [h2.REFUSED_STREAM]
    talk.connection.leave()
    talk.connection.announce_leaving()
    assert talk.hear() == []
    assert [one.code for one in talk.say(h2.headers(5))] == [h2.REFUSED_STREAM]


@pytest.mark.parametrize("frame", [h2.window_update(5, 0), h2.priority(5, 5), h2.priority(2, 2)])
def test_a_stream_that_never_began_is_not_reset(frame: bytes) -> None:
    Conversation().breaks(frame, code=h2.PROTOCOL_ERROR)


def test_a_body_ends_although_no_window_is_left() -> None:
    """The end waited for a window that a client with the whole body need not open."""
    talk = Conversation()
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 6)), h2.headers(1, end_stream=True))
    stream, encode = talk.stream(1), talk.connection.encoder.encode
    talk.connection.sender.room = False
    talk.connection.headers(stream, encode([(b":status", b"200")]), end=False)
    talk.connection.data(stream, b"answer", end=False)
    talk.connection.data(stream, b"", end=True)
    assert [one.kind for one in talk.hear()] == [h2.HEADERS]
    talk.connection.sender.room = True
    talk.connection.pump()
    [frame] = talk.hear()
    assert (frame.payload, frame.flags) == (b"answer", h2.END_STREAM)
    assert not talk.connection.streams


def test_the_end_of_a_body_waits_for_a_negative_window() -> None:
    """client:101:419: the PyPI library h2 ends the connection at an empty frame then."""
    talk = Conversation()
    talk.say(h2.headers(1, end_stream=True))
    stream, encode = talk.stream(1), talk.connection.encoder.encode
    talk.connection.headers(stream, encode([(b":status", b"200")]), end=False)
    talk.connection.data(stream, b"answer", end=False)
    talk.say(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)))
    talk.connection.data(stream, b"", end=True)
    assert talk.say(h2.window_update(1, 5)) == []
    assert [one.flags for one in talk.say(h2.window_update(1, 2))] == [h2.END_STREAM]


def test_no_window_is_opened_for_a_stream_that_is_gone() -> None:
    """client:101:1259: what its owner took afterwards was given back to the peer."""
    talk = Conversation()
    talk.say(h2.headers(1), *[h2.data(1, bytes(h2.DEFAULT_FRAME))] * 10)
    stream = talk.stream(1)
    talk.say(h2.rst_stream(1))
    talk.connection.consumed(stream, 10 * h2.DEFAULT_FRAME)
    assert talk.hear() == []


def test_the_first_part_of_a_header_block_is_measured_as_well() -> None:
    """octets:1002:18: only CONTINUATION was held against the limit."""
    talk = Conversation(H2Limits(header_block_bytes=1_000))
    talk.breaks(h2.headers(1, bytes(1_001), end_headers=False), code=h2.ENHANCE_YOUR_CALM)


def test_many_windows_in_one_settings_frame_cost_one_step_a_stream() -> None:
    talk = Conversation()
    talk.say(*(h2.headers(number, end_stream=True) for number in range(1, 1_000, 2)))
    steps = 0
    widen = talk.connection.sender.widen

    class Counting(type(talk.connection.sender)):  # type: ignore[misc]
        __slots__ = ()

        def widen(self, stream: object, increment: int) -> None:
            nonlocal steps
            steps += 1
            widen(stream, increment)  # type: ignore[arg-type]

    talk.connection.sender.__class__ = Counting
    sizes = [(h2.INITIAL_WINDOW_SIZE, size) for size in range(2_000)]
    talk.say(h2.settings(*sizes, (h2.INITIAL_WINDOW_SIZE, 3)))
    assert steps == 500
    assert {stream.send_window for stream in talk.connection.streams.values()} == {3}


def test_resets_that_answer_our_own_are_no_attack() -> None:
    """A client whose streams all end early resets each of them, as grpc-go does."""
    talk = Conversation()
    count = talk.limits.resets.burst + 500
    numbers = range(1, 2 * count, 2)
    talk.say(*(h2.headers(number) for number in numbers))
    for number in numbers:
        encode = talk.connection.encoder.encode
        talk.connection.headers(talk.stream(number), encode([(b":status", b"200")]), end=True)
    assert sum(one.kind == h2.RST_STREAM for one in talk.hear()) == count
    talk.say(*(h2.rst_stream(number, h2.NO_ERROR) for number in numbers))
    assert talk.seen.end is None
    talk.alive()


@pytest.mark.parametrize("frame", [h2.ping(ack=True), h2.settings(ack=True)])
def test_acknowledgements_without_end_are_an_attack(frame: bytes) -> None:
    talk = Conversation()
    talk.breaks(*[frame] * (H2Limits().idle_frames.burst + 1), code=h2.ENHANCE_YOUR_CALM)

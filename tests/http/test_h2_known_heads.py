"""What a connection remembers of request heads is little, whatever its peer sends."""

from __future__ import annotations

import tracemalloc

import pytest

from dqlite_py.http.h2.request_head import Fields, HeadReader, Malformed
from dqlite_py.http.h2.settings import H2Limits
from tests.http.conversation import Conversation
from tests.kit import raw_h2 as h2

PSEUDO = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a/B"))


def heads(kind: str) -> list[Fields]:
    """Return 2,000 different heads."""
    many = []
    for number in range(2_000):
        mark = b"%05d" % number
        if kind == "long values":
            many.append((*PSEUDO, (b"x-value", mark * 4_000)))
        elif kind == "long paths":
            many.append((*PSEUDO[:2], (b":path", b"/" + mark * 4_000)))
        elif kind == "long names":
            many.append((*PSEUDO, (mark * 4_000, b"")))
        else:
            fields = tuple((b"x-%d-%d" % (number, at), mark * 5) for at in range(100))
            many.append((*PSEUDO, *fields))
    return many


@pytest.mark.parametrize("kind", ["long values", "long paths", "long names", "many fields"])
def test_what_is_remembered_of_heads_is_bounded(kind: str) -> None:
    reader = HeadReader()
    tracemalloc.start()
    try:
        for fields in heads(kind):
            reader.read(fields)
        del fields
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def large(number: int) -> bytes:
    return h2.headers(number, [*h2.REQUEST, (b"x-large", b"v" * 10_000)])


def test_large_heads_of_open_streams_are_bounded_and_small_ones_are_not() -> None:
    talk = Conversation(H2Limits(large_heads_bytes=105_000))
    for number in range(1, 100, 2):
        talk.say(large(number))
    assert len(talk.seen.requests) == 10
    heard = talk.say(large(101))
    assert [(one.kind, one.code) for one in heard] == [(h2.RST_STREAM, h2.REFUSED_STREAM)]
    talk.say(*(h2.headers(number) for number in range(103, 503, 2)))
    assert len(talk.seen.requests) == 210
    talk.say(h2.rst_stream(1), h2.rst_stream(3))
    talk.say(large(1001), large(1003), large(1005))
    assert [stream.id for stream in talk.seen.requests[210:]] == [1001, 1003]
    talk.alive()


def test_large_heads_one_after_the_other_are_no_matter() -> None:
    talk = Conversation(H2Limits(large_heads_bytes=15_000))
    for number in range(1, 1_000, 2):
        talk.say(large(number))
        talk.answer(number)
        talk.say(h2.rst_stream(number))
    assert len(talk.seen.requests) == 500


def test_fields_that_a_block_repeats_by_index_count_whole() -> None:
    """A block of 20 octets can name 60 kB of fields, of which a handler makes as many."""
    talk = Conversation(H2Limits(large_heads_bytes=100_000))
    entry = b"\x40" + h2.field(b"x-large", b"v" * 3_000)[1:]
    talk.say(h2.headers(1, h2.block(h2.REQUEST) + entry))
    for number in (3, 5, 7):
        talk.say(h2.headers(number, h2.block(h2.REQUEST) + bytes([0x80 | 62]) * 15))
    assert [stream.id for stream in talk.seen.requests] == [1, 3, 5]


def test_a_head_that_repeats_is_read_once() -> None:
    reader = HeadReader()
    fields = (*PSEUDO, (b"grpc-timeout", b"1S"))
    assert reader.read(fields) is reader.read(tuple(fields[:]))


def test_what_is_not_remembered_is_checked_every_time() -> None:
    reader = HeadReader()
    bad = (*PSEUDO, (b"x-bad", b"\n" + b"v" * 1_000))
    for _ in range(3):
        with pytest.raises(Malformed):
            reader.read(bad)

"""What a connection remembers of request heads is little, whatever its peer sends."""

from __future__ import annotations

import tracemalloc

import pytest

from dqlite_py.http.h2.request_head import Fields, HeadReader, Malformed

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

"""What RFC 7541 demands of an encoder of header blocks, and what ours promises beyond that."""

from __future__ import annotations

import random
import tracemalloc

import hpack
import pytest

from dqlite_py.http.h2.header_encoder import HeaderEncoder
from dqlite_py.http.h2.static_table import STATIC_TABLE

ANSWER = ((b":status", b"200"), (b"content-type", b"application/grpc"))
TRAILERS = ((b"grpc-status", b"5"), (b"grpc-message", b"etcdserver: requested lease not found"))
FORGET_TABLE = b"\x20"


def decoded(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in hpack.Decoder().decode(block, raw=True)]


def test_2_1_fields_keep_their_order_and_their_number() -> None:
    fields = [(b"b", b"2"), (b"a", b"1"), (b"b", b"2"), (b"b", b"")]
    assert decoded(HeaderEncoder().encode(fields)) == fields


def test_6_1_what_the_static_table_has_is_sent_as_its_index() -> None:
    for index, field in enumerate(STATIC_TABLE, 1):
        assert HeaderEncoder().encode((field,)) == bytes([0x80 | index])


def test_6_2_2_the_rest_is_sent_as_literals_that_leave_the_table_alone() -> None:
    decoder = hpack.Decoder()
    for fields in (ANSWER, TRAILERS, ((b":path", b"/x"), (b"www-authenticate", b"Basic"))):
        block = HeaderEncoder().encode(fields)
        assert [tuple(field) for field in decoder.decode(block, raw=True)] == list(fields)
    assert len(decoder.header_table.dynamic_entries) == 0


def test_5_2_a_string_is_compressed_when_that_makes_it_shorter() -> None:
    assert len(HeaderEncoder().encode(((b"age", b"0000"),))) == len(b"\x0f\x06\x83...")
    assert HeaderEncoder().encode(((b"age", b"~~~~"),)) == b"\x0f\x06\x04~~~~"
    assert HeaderEncoder().encode(((b"age", b"X"),)) == b"\x0f\x06\x01X"  # as long either way


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 256, 16_384, 100_000])
def test_5_1_strings_of_any_length_are_sent(length: int) -> None:
    for octet in (b"0", b"~", b"\n"):
        fields = [(b"x-" + octet * (length // 2), octet * length)]
        block = HeaderEncoder().encode(fields)
        limit = 300_000
        assert hpack.Decoder(limit).decode(block, raw=True) == fields


@pytest.mark.parametrize("size_bytes", [0, 1, 100, 4095])
def test_4_2_a_table_below_the_default_size_is_given_up_once(size_bytes: int) -> None:
    encoder = HeaderEncoder()
    plain = encoder.encode(ANSWER)
    encoder.peer_table_size(size_bytes)
    assert encoder.encode(TRAILERS) == FORGET_TABLE + HeaderEncoder().encode(TRAILERS)
    assert encoder.encode(ANSWER) == plain
    encoder.peer_table_size(0)
    encoder.peer_table_size(65_536)
    assert encoder.encode(ANSWER) == plain


@pytest.mark.parametrize("size_bytes", [4096, 4097, 1 << 32])
def test_4_2_a_table_of_the_default_size_or_more_needs_no_word(size_bytes: int) -> None:
    encoder = HeaderEncoder()
    plain = encoder.encode(ANSWER)
    encoder.peer_table_size(size_bytes)
    assert encoder.encode(ANSWER) == plain


def test_4_2_a_size_that_was_lowered_and_raised_again_is_signalled() -> None:
    encoder = HeaderEncoder()
    encoder.peer_table_size(100)
    encoder.peer_table_size(4096)
    assert encoder.encode(ANSWER) == FORGET_TABLE + HeaderEncoder().encode(ANSWER)


def test_4_2_another_connections_blocks_are_not_touched() -> None:
    lowered, other = HeaderEncoder(), HeaderEncoder()
    lowered.peer_table_size(0)
    plain = other.encode(ANSWER)
    assert lowered.encode(ANSWER) == FORGET_TABLE + plain
    assert other.encode(ANSWER) == plain


def test_a_strict_peer_that_lowered_its_table_takes_our_blocks() -> None:
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 50
    encoder = HeaderEncoder()
    encoder.peer_table_size(50)
    for _ in range(2):
        assert decoder.decode(encoder.encode(ANSWER), raw=True) == list(ANSWER)


@pytest.mark.parametrize("seed", range(3))
def test_a_list_has_the_same_block_whatever_was_encoded_before(seed: int) -> None:
    draw = random.Random(seed)
    names = [name for name, _ in STATIC_TABLE] + [b"grpc-status", b"x" * 40]
    lists = [
        [(draw.choice(names), draw.randbytes(draw.randrange(20))) for _ in range(draw.randrange(6))]
        for _ in range(400)
    ]
    first = [HeaderEncoder().encode(tuple(fields)) for fields in lists]
    encoder = HeaderEncoder()
    for at in draw.choices(range(len(lists)), k=1000):
        assert encoder.encode(lists[at]) == first[at]
    assert [decoded(block) for block in first] == lists


def test_what_is_remembered_of_lists_is_bounded() -> None:
    encoder = HeaderEncoder()
    tracemalloc.start()
    try:
        for number in range(400):
            encoder.encode(((b"x" * 100, b"%08d" % number * 40),))
            encoder.encode(((b"x", b"%08d" % number * 1000),))
        assert tracemalloc.get_traced_memory()[1] < 250_000
    finally:
        tracemalloc.stop()

"""The PyPI library hpack as oracle: the same blocks, the same lists, the same errors."""

from __future__ import annotations

import random

import hpack
import pytest

from dqlite_py.http.h2.header_decoder import HeaderBlockError, HeaderDecoder, HeaderListTooLarge
from dqlite_py.http.h2.static_table import STATIC_TABLE
from tests.http.hpack_blocks import (
    FIRST_DYNAMIC,
    INDEXING,
    NEVER,
    PLAIN,
    indexed,
    literal,
    resize,
)

Fields = list[tuple[bytes, bytes]]

NAMES = [name for name, _ in STATIC_TABLE] + [b"te", b"grpc-timeout", b"x-\xff\x00", b"n" * 200]
TOO_LARGE, WRONG = "too large", "wrong"
LIST_MAX_BYTES = 3000


def random_value(draw: random.Random) -> bytes:
    kind = draw.randrange(4)
    if kind == 0:
        return b"%du" % draw.randrange(10**8)
    if kind == 1:
        return draw.choice((b"", b"GET", b"POST", b"/", b"http", b"200", b"trailers"))
    if kind == 2:
        return draw.randbytes(draw.randrange(40))
    return draw.choice(b"aeiou~&").to_bytes(1, "big") * draw.randrange(300)


def random_fields(draw: random.Random) -> Fields:
    return [(draw.choice(NAMES), random_value(draw)) for _ in range(draw.randrange(12))]


def random_block(draw: random.Random, table_max_bytes: int) -> bytes:
    """Return a block made of every form; its indices are right more often than not."""
    parts = [resize(draw.randrange(table_max_bytes + 1)) for _ in range(draw.choice((0, 0, 0, 1)))]
    for _ in range(draw.randrange(10)):
        index = draw.choice((draw.randrange(1, FIRST_DYNAMIC), FIRST_DYNAMIC, FIRST_DYNAMIC + 3))
        if draw.randrange(2):
            parts.append(indexed(index))
            continue
        name = draw.choice((index, draw.choice(NAMES)))
        form = draw.choice((INDEXING, INDEXING, PLAIN, NEVER))
        parts.append(literal(name, random_value(draw), form, compressed=draw.random() < 0.5))
    return b"".join(parts)


def ours(decoder: HeaderDecoder, block: bytes) -> Fields | str:
    try:
        return list(decoder.decode(block))
    except HeaderListTooLarge:
        return TOO_LARGE
    except HeaderBlockError:
        return WRONG


def theirs(decoder: hpack.Decoder, block: bytes) -> Fields | str:
    try:
        return [(name, value) for name, value in decoder.decode(block, raw=True)]
    except hpack.OversizedHeaderListError:
        return TOO_LARGE
    except hpack.HPACKDecodingError:
        return WRONG


def table(decoder: HeaderDecoder) -> Fields:
    return decoder._entries[FIRST_DYNAMIC:]


@pytest.mark.parametrize("seed", range(20))
def test_lists_survive_the_librarys_encoder(seed: int) -> None:
    draw = random.Random(seed)
    encoder, decoder, oracle = hpack.Encoder(), HeaderDecoder(65_536), hpack.Decoder()
    oracle.max_allowed_table_size = 65_536
    pool = [random_fields(draw) for _ in range(8)]
    for _ in range(60):
        if draw.random() < 0.2:
            encoder.header_table_size = draw.choice((0, 40, 100, 1000, 4096, 20_000))
        fields = draw.choice(pool) if draw.random() < 0.6 else random_fields(draw)
        block = encoder.encode(fields, huffman=draw.random() < 0.7)
        assert list(decoder.decode(block)) == fields
        assert theirs(oracle, block) == fields
        assert table(decoder) == list(oracle.header_table.dynamic_entries)


@pytest.mark.parametrize("seed", range(40))
def test_blocks_of_every_form_mean_the_same(seed: int) -> None:
    draw = random.Random(seed)
    table_max_bytes = draw.choice((0, 33, 64, 200, 4096))
    decoder = HeaderDecoder(table_max_bytes, LIST_MAX_BYTES)
    oracle = hpack.Decoder(LIST_MAX_BYTES)
    oracle.header_table_size = oracle.max_allowed_table_size = table_max_bytes
    for _ in range(80):
        block = random_block(draw, table_max_bytes)
        found, expected = ours(decoder, block), theirs(oracle, block)
        if expected == TOO_LARGE:
            assert found in {TOO_LARGE, WRONG}  # the library stops reading there
        else:
            assert found == expected
        if isinstance(expected, str):
            decoder = HeaderDecoder(table_max_bytes, LIST_MAX_BYTES)
            oracle = hpack.Decoder(LIST_MAX_BYTES)
            oracle.header_table_size = oracle.max_allowed_table_size = table_max_bytes
            continue
        assert table(decoder) == list(oracle.header_table.dynamic_entries)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_blocks_are_refused_where_the_library_refuses_them(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(150):
        decoder, oracle = HeaderDecoder(), hpack.Decoder()
        before = b"".join(literal(b"n", b"%d" % at) for at in range(4))
        assert ours(decoder, before) == theirs(oracle, before)
        block = bytearray(random_block(draw, 4096))
        for _ in range(draw.randrange(3)):
            if block:
                block[draw.randrange(len(block))] = draw.randrange(256)
        del block[draw.randrange(len(block) + 1) + draw.randrange(20) :]
        found, expected = ours(decoder, bytes(block)), theirs(oracle, bytes(block))
        assert found == expected, bytes(block).hex()

"""Octets nobody should send: only the two exceptions, a table in bounds, a decoder that goes on."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from dqlite_py.http.h2.header_decoder import HeaderBlockError, HeaderDecoder, HeaderListTooLarge
from tests.http.hpack_blocks import FIRST_DYNAMIC, INDEXING, NEVER, PLAIN, indexed, literal, resize

LIST_MAX_BYTES = 1000
ENTRY_OVERHEAD_BYTES = 32


def size_bytes(fields: tuple[tuple[bytes, bytes], ...] | list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + ENTRY_OVERHEAD_BYTES for name, value in fields)


def random_octets(draw: random.Random) -> bytes:
    """Return octets that mean nothing, or fields some of whose octets were changed."""
    if draw.randrange(2):
        return draw.randbytes(draw.choice((1, 2, 3, 8, 40, 200)))
    pieces = (
        indexed(draw.randrange(1, FIRST_DYNAMIC)),
        indexed(FIRST_DYNAMIC),
        literal(draw.randrange(1, FIRST_DYNAMIC), draw.randbytes(9), INDEXING, compressed=True),
        literal(b"name", draw.randbytes(draw.randrange(300)), draw.choice((PLAIN, NEVER))),
        literal(b"other", b"v" * draw.randrange(60), INDEXING),
    )
    start = resize(draw.randrange(5000)) * (draw.randrange(4) == 0)
    octets = bytearray(start + b"".join(draw.choices(pieces, k=draw.randrange(1, 20))))
    for _ in range(draw.randrange(4)):
        octets[draw.randrange(len(octets))] ^= 1 << draw.randrange(8)
    return bytes(octets)


def survive(seed: int, blocks: int) -> tuple[int, int, int]:
    """Decode random blocks; return how many were right, too large and wrong."""
    draw = random.Random(seed)
    decoder = HeaderDecoder(4096, LIST_MAX_BYTES)
    right = too_large = wrong = 0
    for _ in range(blocks):
        block = random_octets(draw)
        try:
            fields = decoder.decode(block)
            assert size_bytes(fields) <= LIST_MAX_BYTES
            if decoder.decode(block) == fields:
                right += 1
        except HeaderListTooLarge as error:
            assert error.size_bytes > LIST_MAX_BYTES
            too_large += 1
        except HeaderBlockError:
            wrong += 1
            decoder = HeaderDecoder(4096, LIST_MAX_BYTES)
        entries = decoder._entries[FIRST_DYNAMIC:]
        assert decoder._table_bytes == size_bytes(entries) <= decoder._capacity_bytes <= 4096
        assert len(decoder._sizes) == len(decoder._entries)
    return right, too_large, wrong


@pytest.mark.parametrize("seed", range(10))
def test_random_blocks_end_as_a_list_or_as_one_of_two_errors(seed: int) -> None:
    right, too_large, wrong = survive(seed, 500)
    assert right > 20
    assert too_large > 3
    assert wrong > 100


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1100))
def test_many_random_blocks_end_as_a_list_or_as_one_of_two_errors(seed: int) -> None:
    survive(seed, 20_000)


@pytest.mark.parametrize("seed", range(5))
def test_a_decoder_that_remembers_says_the_same_as_one_that_does_not(seed: int) -> None:
    draw = random.Random(seed)
    decoder, forgetful = HeaderDecoder(), HeaderDecoder()
    pool = [indexed(draw.randrange(1, 70)) * draw.randrange(1, 4) for _ in range(30)]
    pool += [literal(b"n", b"v" * at, PLAIN, compressed=True) for at in range(5, 30)]
    changes = [literal(b"t", b"%d" % at) for at in range(3)] + [resize(40), resize(4096)]
    for block in [changes[0] * 9, *draw.choices(pool * 3 + changes, k=2000)]:
        forgetful._blocks.clear()
        forgetful._strings.clear()
        outcomes = []
        for each in (decoder, forgetful):
            try:
                outcomes.append(each.decode(block))
            except HeaderBlockError as error:
                outcomes.append(((b"error", str(error).encode()),))
        assert outcomes[0] == outcomes[1]


def test_random_blocks_leave_little_memory_behind() -> None:
    draw = random.Random(3)
    blocks = [random_octets(draw) for _ in range(500)]
    decoders = [HeaderDecoder() for _ in range(20)]
    for block in blocks:  # fills what all connections share
        _try(HeaderDecoder(), block)
    tracemalloc.start()
    try:
        for decoder in decoders:
            for block in blocks:
                _try(decoder, block)
        assert tracemalloc.get_traced_memory()[0] / len(decoders) < 120_000
    finally:
        tracemalloc.stop()


def _try(decoder: HeaderDecoder, block: bytes) -> None:
    try:
        decoder.decode(block)
    except (HeaderBlockError, HeaderListTooLarge):
        return

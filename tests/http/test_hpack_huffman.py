"""The Huffman code: every symbol, every way to end a string (RFC 7541 section 5.2)."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

import pytest
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from dqlite_py.http.h2 import huffman
from dqlite_py.http.h2.header_decoder import HeaderBlockError, HeaderDecoder
from dqlite_py.http.h2.huffman import HuffmanError

END_OF_STRING_BITS = "1" * 30
CODES = [f"{code:0{REQUEST_CODES_LENGTH[at]}b}" for at, code in enumerate(REQUEST_CODES)]


def octets(bits: str) -> bytes:
    assert len(bits) % 8 == 0
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))


def padded(bits: str) -> bytes:
    return octets(bits + "1" * (-len(bits) % 8))


def test_the_code_is_that_of_appendix_b() -> None:
    assert CODES[256] == END_OF_STRING_BITS
    for symbol in range(256):
        assert huffman.encode(bytes([symbol])) == padded(CODES[symbol])


@pytest.mark.parametrize("before", [b"", b"0", b" ", b":", b"&", b"\x00", b"\n"])
def test_every_symbol_is_decoded_at_every_place_in_an_octet(before: bytes) -> None:
    for count in range(8):
        for symbol in range(256):
            text = before * count + bytes([symbol]) + before
            bits = "".join(CODES[each] for each in text)
            assert huffman.decode(padded(bits)) == text


def test_the_empty_string_has_no_octets() -> None:
    assert huffman.encode(b"") == b""
    assert huffman.decode(b"") == b""


def test_padding_longer_than_seven_bits_is_an_error() -> None:
    for text in (b"", b"0", b"ab", b"&", b"\n\r", b"www.example.com"):
        right = huffman.encode(text)
        assert huffman.decode(right) == text
        for octets_more in (1, 2, 3):
            with pytest.raises(HuffmanError):
                huffman.decode(right + b"\xff" * octets_more)


def test_padding_other_than_ones_is_an_error() -> None:
    for symbol in range(256):
        used_bits = len(CODES[symbol]) % 8
        padding_bits = -used_bits % 8
        for wrong in range(2**padding_bits - 1):
            # Short padding may happen to be a symbol; then it is not padding.
            padding = f"{wrong:0{padding_bits}b}" if padding_bits else ""
            if any(padding.startswith(code) for code in CODES):
                continue
            with pytest.raises(HuffmanError):
                huffman.decode(octets(CODES[symbol] + padding))


@pytest.mark.parametrize("before", [b"", b"0", b"a&", b"\x00:", b"0123456"])
@pytest.mark.parametrize("after", [b"", b"0", b"a&"])
def test_the_symbol_that_ends_a_string_is_an_error(before: bytes, after: bytes) -> None:
    start = "".join(CODES[symbol] for symbol in before)
    end = "".join(CODES[symbol] for symbol in after)
    with pytest.raises(HuffmanError):
        huffman.decode(padded(start + END_OF_STRING_BITS + end))


def test_a_string_cut_off_within_a_symbol_is_an_error() -> None:
    text = bytes(range(256))
    whole = huffman.encode(text)
    ends = [0]
    for symbol in text:
        ends.append(ends[-1] + len(CODES[symbol]))
    bits = "".join(CODES[symbol] for symbol in text)
    for length in range(len(whole)):
        complete = max(at for at, end in enumerate(ends) if end <= 8 * length)
        rest = bits[ends[complete] : 8 * length]
        if len(rest) < 8 and "0" not in rest:
            assert huffman.decode(whole[:length]) == text[:complete]
        else:
            with pytest.raises(HuffmanError):
                huffman.decode(whole[:length])


def test_a_wrong_string_is_an_error_of_its_block() -> None:
    for wrong in (b"\xff", b"\xff\xff\xff\xff", b"\x00"):
        block = b"\x00\x01a" + bytes([0x80 | len(wrong)]) + wrong
        with pytest.raises(HeaderBlockError):
            HeaderDecoder().decode(block)


@pytest.mark.parametrize("seed", range(3))
def test_what_is_encoded_is_decoded(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(300):
        text = draw.randbytes(draw.randrange(60))
        encoded = huffman.encode(text)
        assert len(encoded) == huffman.encoded_length_bytes(text)
        assert huffman.decode(encoded) == text


def test_codes_are_canonical() -> None:
    order = sorted(range(257), key=lambda symbol: (len(CODES[symbol]), symbol))
    for one, next_one in pairwise(order):
        width = len(CODES[next_one])
        assert int(CODES[next_one], 2) == int(CODES[one], 2) + 1 << width - len(CODES[one])


def test_random_octets_do_not_fill_the_memory_and_ordinary_text_is_decoded_after_them() -> None:
    draw = random.Random(7)
    ordinary = huffman.encode(b"/etcdserverpb.KV/Range")
    tracemalloc.start()
    try:
        for _ in range(2000):
            text = draw.randbytes(100)
            assert huffman.decode(huffman.encode(text)) == text
        assert tracemalloc.get_traced_memory()[0] < 1_900_000
    finally:
        tracemalloc.stop()
    assert huffman.decode(ordinary) == b"/etcdserverpb.KV/Range"

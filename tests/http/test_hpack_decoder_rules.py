"""What RFC 7541 and RFC 9113 demand of a decoder of header blocks, one test a rule."""

from __future__ import annotations

import tracemalloc

import pytest

from dqlite_py.http.h2.header_decoder import HeaderBlockError, HeaderDecoder, HeaderListTooLarge
from dqlite_py.http.h2.static_table import STATIC_TABLE
from tests.http.hpack_blocks import (
    EVERY_STATIC_INDEX,
    FIRST_DYNAMIC,
    INDEXING,
    NEVER,
    PLAIN,
    indexed,
    literal,
    resize,
    string,
)

A = literal(b"a", b"1")  # 34 bytes of the table
B = literal(b"b", b"2")
ENTRY_BYTES = 34


def newest(decoder: HeaderDecoder, count: int) -> list[tuple[bytes, bytes]]:
    block = b"".join(indexed(FIRST_DYNAMIC + at) for at in range(count))
    return list(decoder.decode(block))


def assert_refused(decoder: HeaderDecoder, block: bytes) -> None:
    with pytest.raises(HeaderBlockError):
        decoder.decode(block)


def test_an_empty_block_is_an_empty_list() -> None:
    assert HeaderDecoder().decode(b"") == ()


def test_2_1_fields_keep_their_order_and_their_number() -> None:
    block = literal(b"b", b"2", PLAIN) + literal(b"a", b"1", PLAIN) + literal(b"b", b"2", PLAIN)
    assert HeaderDecoder().decode(block) == ((b"b", b"2"), (b"a", b"1"), (b"b", b"2"))


def test_2_3_1_every_entry_of_the_static_table_can_be_named() -> None:
    block = b"".join(map(indexed, EVERY_STATIC_INDEX))
    assert HeaderDecoder().decode(block) == STATIC_TABLE


def test_2_3_2_duplicate_entries_are_no_error() -> None:
    decoder = HeaderDecoder()
    decoder.decode(A + A)
    assert newest(decoder, 2) == [(b"a", b"1"), (b"a", b"1")]


def test_2_3_3_the_newest_entry_has_the_lowest_index() -> None:
    decoder = HeaderDecoder()
    decoder.decode(A + B)
    assert newest(decoder, 2) == [(b"b", b"2"), (b"a", b"1")]


def test_2_3_3_an_entry_can_be_named_in_the_block_that_adds_it() -> None:
    assert HeaderDecoder().decode(A + indexed(FIRST_DYNAMIC)) == ((b"a", b"1"), (b"a", b"1"))


@pytest.mark.parametrize("entries", [0, 1, 2])
@pytest.mark.parametrize("form", ["field", "name, indexed", "name, not indexed", "name, never"])
def test_2_3_3_an_index_beyond_both_tables_is_an_error(entries: int, form: str) -> None:
    decoder = HeaderDecoder()
    decoder.decode(A * entries)
    beyond = FIRST_DYNAMIC + entries
    block = {
        "field": indexed(beyond),
        "name, indexed": literal(beyond, b"", INDEXING),
        "name, not indexed": literal(beyond, b"", PLAIN),
        "name, never": literal(beyond, b"", NEVER),
    }[form]
    assert_refused(decoder, block)


def test_2_3_3_an_evicted_entry_can_not_be_named() -> None:
    decoder = HeaderDecoder(2 * ENTRY_BYTES)
    decoder.decode(A + A + B)
    assert newest(decoder, 2) == [(b"b", b"2"), (b"a", b"1")]
    assert_refused(decoder, indexed(FIRST_DYNAMIC + 2))


def test_4_1_an_entry_takes_up_its_lengths_and_32() -> None:
    decoder = HeaderDecoder(2 * ENTRY_BYTES - 1)
    decoder.decode(A + B)
    assert newest(decoder, 1) == [(b"b", b"2")]
    assert_refused(decoder, indexed(FIRST_DYNAMIC + 1))


def test_4_1_lengths_are_counted_without_the_huffman_code() -> None:
    decoder = HeaderDecoder(32 + 20)
    decoder.decode(literal(b"a" * 10, b"e" * 10, compressed=True))
    assert newest(decoder, 1) == [(b"a" * 10, b"e" * 10)]
    decoder.decode(literal(b"a" * 10, b"e" * 11, compressed=True))
    assert_refused(decoder, indexed(FIRST_DYNAMIC))


@pytest.mark.parametrize("smallest", [0, 33])
def test_4_2_the_smallest_then_the_final_size_may_begin_a_block(smallest: int) -> None:
    decoder = HeaderDecoder()
    decoder.decode(A)
    assert decoder.decode(resize(smallest) + resize(4096) + indexed(2)) == ((b":method", b"GET"),)
    decoder.decode(B)
    assert newest(decoder, 1) == [(b"b", b"2")]
    assert_refused(decoder, indexed(FIRST_DYNAMIC + 1))


@pytest.mark.parametrize("field", [indexed(2), literal(b"a", b"1", PLAIN), A])
def test_4_2_a_size_update_after_a_field_is_an_error(field: bytes) -> None:
    assert_refused(HeaderDecoder(), field + resize(0))


def test_4_2_a_size_update_may_be_all_of_a_block() -> None:
    decoder = HeaderDecoder()
    decoder.decode(A)
    assert decoder.decode(resize(ENTRY_BYTES)) == ()
    decoder.decode(B)
    assert newest(decoder, 1) == [(b"b", b"2")]
    assert_refused(decoder, indexed(FIRST_DYNAMIC + 1))


def test_4_2_a_table_above_the_default_size_begins_when_the_peer_says_so() -> None:
    decoder = HeaderDecoder(8192)
    large = literal(b"a", b"x" * 4064)
    decoder.decode(large)
    assert_refused(decoder, indexed(FIRST_DYNAMIC))
    decoder = HeaderDecoder(8192)
    decoder.decode(resize(8192) + large)
    assert newest(decoder, 1) == [(b"a", b"x" * 4064)]


def test_4_3_a_smaller_size_evicts_the_oldest() -> None:
    decoder = HeaderDecoder()
    decoder.decode(A + B)
    decoder.decode(resize(2 * ENTRY_BYTES - 1))
    assert newest(decoder, 1) == [(b"b", b"2")]
    assert_refused(decoder, indexed(FIRST_DYNAMIC + 1))


def test_4_4_an_entry_larger_than_the_table_empties_it_and_is_no_error() -> None:
    decoder = HeaderDecoder(ENTRY_BYTES)
    decoder.decode(A)
    assert decoder.decode(literal(b"a", b"12")) == ((b"a", b"12"),)
    assert_refused(decoder, indexed(FIRST_DYNAMIC))


def test_4_4_the_name_of_an_entry_that_is_evicted_for_it_can_be_used() -> None:
    decoder = HeaderDecoder(ENTRY_BYTES)
    decoder.decode(A)
    assert decoder.decode(literal(FIRST_DYNAMIC, b"3")) == ((b"a", b"3"),)
    assert newest(decoder, 1) == [(b"a", b"3")]


@pytest.mark.parametrize("octets", [5, 6, 50, 5000])
@pytest.mark.parametrize("form", ["index", "name", "length", "size"])
def test_5_1_an_integer_that_goes_on_too_long_is_an_error(octets: int, form: str) -> None:
    tail = b"\x80" * (octets - 1) + b"\x00"  # adds nothing to the value
    block = {
        "index": b"\xff" + tail,
        "name": b"\x7f" + tail + string(b"1"),
        "length": b"\x00\x7f" + tail + b"a" * 127 + string(b"1"),
        "size": b"\x3f" + tail,
    }[form]
    assert_refused(HeaderDecoder(), block)


def test_5_1_an_integer_may_be_longer_than_it_needs_to_be() -> None:
    decoder = HeaderDecoder()
    decoder.decode(A * 66)
    assert decoder.decode(b"\xff\x80\x80\x00") == ((b"a", b"1"),)


@pytest.mark.parametrize("prefix", [b"\xff", b"\x7f", b"\x0f", b"\x1f", b"\x3f", b"\x00\x7f"])
@pytest.mark.parametrize("octets", [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\x7f", b"\xff" * 9])
def test_5_1_a_huge_integer_is_an_error(prefix: bytes, octets: bytes) -> None:
    assert_refused(HeaderDecoder(), prefix + octets + b"\x00" * 20)


@pytest.mark.parametrize("compressed", [False, True])
def test_5_2_a_block_that_ends_early_is_an_error(compressed: bool) -> None:
    block = literal(b"name", b"value" * 30, compressed=compressed)
    for length in range(1, len(block)):
        assert_refused(HeaderDecoder(), block[:length])


@pytest.mark.parametrize("length", [126, 127, 128, 254, 255, 256, 20_000])
def test_5_2_strings_of_any_length_are_taken(length: int) -> None:
    field = (b"n" * length, b"~" * length)
    for compressed in (False, True):
        assert HeaderDecoder().decode(literal(*field, PLAIN, compressed=compressed)) == (field,)


def test_6_1_index_0_of_a_field_is_an_error() -> None:
    assert_refused(HeaderDecoder(), b"\x80")
    assert_refused(HeaderDecoder(), indexed(2) + b"\x80")


@pytest.mark.parametrize("compressed", [False, True])
def test_6_2_1_a_literal_with_indexing_becomes_an_entry(compressed: bool) -> None:
    decoder = HeaderDecoder()
    assert decoder.decode(literal(4, b"/put", compressed=compressed)) == ((b":path", b"/put"),)
    assert newest(decoder, 1) == [(b":path", b"/put")]


@pytest.mark.parametrize("form", [PLAIN, NEVER])
def test_6_2_2_a_literal_without_indexing_leaves_the_table_alone(form: tuple[int, int]) -> None:
    decoder = HeaderDecoder()
    for _ in range(2):
        assert decoder.decode(literal(b"a", b"1", form)) == ((b"a", b"1"),)
        assert decoder.decode(literal(17, b"de", form)) == ((b"accept-language", b"de"),)
    assert_refused(decoder, indexed(FIRST_DYNAMIC))


def test_6_3_a_size_above_the_limit_is_an_error() -> None:
    assert HeaderDecoder(300).decode(resize(300)) == ()
    assert_refused(HeaderDecoder(300), resize(301))


def test_9113_4_3_1_a_lowered_limit_must_be_taken_note_of_in_the_next_block() -> None:
    decoder = HeaderDecoder()
    decoder.decode(indexed(2))
    decoder.limit_table(100)
    assert_refused(decoder, indexed(2))


def test_9113_4_3_1_a_size_update_within_the_lowered_limit_takes_note_of_it() -> None:
    decoder = HeaderDecoder()
    decoder.decode(A + B)
    decoder.limit_table(ENTRY_BYTES)
    assert decoder.decode(resize(ENTRY_BYTES) + indexed(FIRST_DYNAMIC)) == ((b"b", b"2"),)
    assert decoder.decode(indexed(2)) == ((b":method", b"GET"),)
    assert_refused(decoder, resize(ENTRY_BYTES + 1))


@pytest.mark.parametrize("limit_bytes", [4096, 8192])
def test_9113_4_3_1_a_limit_kept_or_raised_needs_no_size_update(limit_bytes: int) -> None:
    decoder = HeaderDecoder()
    decoder.decode(A)
    decoder.limit_table(limit_bytes)
    assert newest(decoder, 1) == [(b"a", b"1")]
    assert decoder.decode(resize(limit_bytes)) == ()


@pytest.mark.parametrize("form", ["indexed", "plain", "indexing"])
def test_9113_6_5_2_a_list_is_counted_as_lengths_and_32_a_field(form: str) -> None:
    block = {"indexed": indexed(2), "plain": literal(2, b"PUT", PLAIN), "indexing": A}[form]
    size = len(HeaderDecoder().decode(block)[0][0] + HeaderDecoder().decode(block)[0][1]) + 32
    assert len(HeaderDecoder(max_list_bytes=3 * size).decode(block * 3)) == 3
    with pytest.raises(HeaderListTooLarge) as caught:
        HeaderDecoder(max_list_bytes=3 * size - 1).decode(block * 3)
    assert (caught.value.size_bytes, caught.value.most_bytes) == (3 * size, 3 * size - 1)


def test_a_list_that_is_too_large_changes_the_table_all_the_same() -> None:
    decoder = HeaderDecoder(max_list_bytes=100)
    for _ in range(2):
        with pytest.raises(HeaderListTooLarge):
            decoder.decode(resize(4096) + A * 5 + B + literal(b"c", b"x" * 100) + B)
    assert newest(decoder, 1) == [(b"b", b"2")]
    assert decoder.decode(indexed(FIRST_DYNAMIC + 2)) == ((b"b", b"2"),)


def test_an_error_behind_the_end_of_a_list_that_is_too_large_is_an_error() -> None:
    assert_refused(HeaderDecoder(max_list_bytes=100), A * 5 + b"\x80")


def test_a_remembered_block_is_forgotten_when_the_table_changes() -> None:
    decoder = HeaderDecoder()
    block = indexed(FIRST_DYNAMIC)
    changes = [A, B, A, resize(ENTRY_BYTES) + B, resize(0) + resize(4096) + A]
    for change in changes:
        expected = decoder.decode(change)[-1]
        assert decoder.decode(block) == (expected,)
        assert decoder.decode(block) == (expected,)
    decoder.decode(resize(0))
    assert_refused(decoder, block)


def test_a_block_that_changes_the_table_is_not_remembered() -> None:
    decoder = HeaderDecoder()
    decoder.decode(A)
    decoder.decode(A)
    assert len(newest(decoder, 2)) == 2
    decoder.decode(resize(0))
    decoder.decode(resize(4096) + A)
    decoder.decode(resize(0))
    assert_refused(decoder, indexed(FIRST_DYNAMIC))


def peak_bytes(decoder: HeaderDecoder, block: bytes) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(HeaderListTooLarge):
            decoder.decode(block)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["references to one large entry", "empty literals", "entries"])
def test_a_block_that_expands_takes_no_more_memory_than_the_limit_allows(kind: str) -> None:
    decoder = HeaderDecoder()
    decoder.decode(literal(b"a", b"x" * 4000))
    block = {
        "references to one large entry": indexed(FIRST_DYNAMIC) * 100_000,
        "empty literals": literal(b"", b"", PLAIN) * 40_000,
        "entries": literal(b"", b"") * 40_000,
    }[kind]
    assert peak_bytes(decoder, block) < 200_000


@pytest.mark.parametrize("kind", ["many fields", "long blocks", "strings", "right ones"])
def test_what_is_remembered_of_a_connection_is_bounded(kind: str) -> None:
    decoder = HeaderDecoder()
    tracemalloc.start()
    try:
        for number in range(200):
            text = b"%08d" % number
            block = {
                "many fields": literal(b"", b"", PLAIN) * 80 + literal(b"", text, PLAIN),
                "long blocks": literal(b"", text * 1000, PLAIN),
                "strings": literal(b"", text * 20, compressed=True),
                "right ones": literal(b"", b"", PLAIN) * 31 + literal(b"n", text * 16, PLAIN),
            }[kind]
            decoder.decode(block)
        assert tracemalloc.get_traced_memory()[0] < 45_000
    finally:
        tracemalloc.stop()

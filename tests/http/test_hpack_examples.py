"""The examples of RFC 7541 appendix C."""

from __future__ import annotations

import pytest

from dqlite_py.http.h2 import header_decoder, header_encoder, huffman
from dqlite_py.http.h2.header_decoder import HeaderDecoder

Fields = list[tuple[str, str]]
Table = list[tuple[str, str]]

REQUEST_1: Fields = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "www.example.com"),
]
REQUEST_2: Fields = [*REQUEST_1, ("cache-control", "no-cache")]
REQUEST_3: Fields = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
]
REQUEST_TABLES: list[tuple[Table, int]] = [
    ([(":authority", "www.example.com")], 57),
    ([("cache-control", "no-cache"), (":authority", "www.example.com")], 110),
    (
        [
            ("custom-key", "custom-value"),
            ("cache-control", "no-cache"),
            (":authority", "www.example.com"),
        ],
        164,
    ),
]
DATE_1 = "Mon, 21 Oct 2013 20:13:21 GMT"
DATE_2 = "Mon, 21 Oct 2013 20:13:22 GMT"
COOKIE = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
SITE = ("location", "https://www.example.com")
RESPONSE_1: Fields = [(":status", "302"), ("cache-control", "private"), ("date", DATE_1), SITE]
RESPONSE_2: Fields = [(":status", "307"), *RESPONSE_1[1:]]
RESPONSE_3: Fields = [
    (":status", "200"),
    ("cache-control", "private"),
    ("date", DATE_2),
    SITE,
    ("content-encoding", "gzip"),
    ("set-cookie", COOKIE),
]
RESPONSE_TABLES: list[tuple[Table, int]] = [
    ([SITE, ("date", DATE_1), ("cache-control", "private"), (":status", "302")], 222),
    ([(":status", "307"), SITE, ("date", DATE_1), ("cache-control", "private")], 222),
    ([("set-cookie", COOKIE), ("content-encoding", "gzip"), ("date", DATE_2)], 215),
]

C_3 = (
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
)
C_4 = (
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
)
C_5 = (
    (
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
        "6e1768747470733a2f2f7777772e6578616d706c652e636f6d"
    ),
    "4803333037c1c0bf",
    (
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f"
        "3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076"
        "657273696f6e3d31"
    ),
)
C_6 = (
    (
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f"
        "0b97c8e9ae82ae43d3"
    ),
    "4883640effc1c0bf",
    (
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335df"
        "dfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"
    ),
)


def dynamic_table(decoder: HeaderDecoder) -> Table:
    entries = decoder._entries[header_decoder._FIRST_DYNAMIC :]
    return [(name.decode(), value.decode()) for name, value in entries]


def decode(decoder: HeaderDecoder, block: str) -> Fields:
    return [(name.decode(), value.decode()) for name, value in decoder.decode(bytes.fromhex(block))]


@pytest.mark.parametrize(
    ("value", "prefix_bits", "encoded"),
    [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")],
    ids=["C.1.1", "C.1.2", "C.1.3"],
)
def test_integers_are_encoded_as_in_the_examples(
    value: int, prefix_bits: int, encoded: str
) -> None:
    octets = bytes.fromhex(encoded)
    assert header_encoder._integer(value, prefix_bits, 0) == octets
    prefix_max = (1 << prefix_bits) - 1
    if octets[0] == prefix_max:
        assert header_decoder._integer(octets, 1, prefix_max) == (value, len(octets))


@pytest.mark.parametrize(
    ("block", "field", "table_bytes"),
    [
        (
            "400a637573746f6d2d6b65790d637573746f6d2d686561646572",
            ("custom-key", "custom-header"),
            55,
        ),
        ("040c2f73616d706c652f70617468", (":path", "/sample/path"), 0),
        ("100870617373776f726406736563726574", ("password", "secret"), 0),
        ("82", (":method", "GET"), 0),
    ],
    ids=["C.2.1 indexed literal", "C.2.2 literal", "C.2.3 never indexed", "C.2.4 indexed"],
)
def test_a_field_is_decoded_as_in_the_examples(
    block: str, field: tuple[str, str], table_bytes: int
) -> None:
    decoder = HeaderDecoder()
    assert decode(decoder, block) == [field]
    assert dynamic_table(decoder) == ([field] if table_bytes else [])
    assert decoder._table_bytes == table_bytes


@pytest.mark.parametrize(
    ("blocks", "lists", "tables", "max_table_bytes"),
    [
        (C_3, (REQUEST_1, REQUEST_2, REQUEST_3), REQUEST_TABLES, 4096),
        (C_4, (REQUEST_1, REQUEST_2, REQUEST_3), REQUEST_TABLES, 4096),
        (C_5, (RESPONSE_1, RESPONSE_2, RESPONSE_3), RESPONSE_TABLES, 256),
        (C_6, (RESPONSE_1, RESPONSE_2, RESPONSE_3), RESPONSE_TABLES, 256),
    ],
    ids=["C.3 requests", "C.4 requests, Huffman", "C.5 responses", "C.6 responses, Huffman"],
)
def test_blocks_and_the_dynamic_table_follow_the_examples(
    blocks: tuple[str, ...],
    lists: tuple[Fields, ...],
    tables: list[tuple[Table, int]],
    max_table_bytes: int,
) -> None:
    decoder = HeaderDecoder(max_table_bytes)
    for block, fields, (table, table_bytes) in zip(blocks, lists, tables, strict=True):
        assert decode(decoder, block) == fields
        assert dynamic_table(decoder) == table
        assert decoder._table_bytes == table_bytes


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
        ("no-cache", "a8eb10649cbf"),
        ("custom-key", "25a849e95ba97d7f"),
        ("custom-value", "25a849e95bb8e8b4bf"),
        ("302", "6402"),
        ("307", "640eff"),
        ("private", "aec3771a4b"),
        (DATE_1, "d07abe941054d444a8200595040b8166e082a62d1bff"),
        (DATE_2, "d07abe941054d444a8200595040b8166e084a62d1bff"),
        ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
        ("gzip", "9bd9ab"),
        (
            COOKIE,
            (
                "94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b106"
                "3d5007"
            ),
        ),
    ],
)
def test_strings_are_compressed_as_in_the_examples(text: str, encoded: str) -> None:
    assert huffman.encode(text.encode()) == bytes.fromhex(encoded)
    assert huffman.encoded_length_bytes(text.encode()) == len(encoded) // 2
    assert huffman.decode(bytes.fromhex(encoded)) == text.encode()

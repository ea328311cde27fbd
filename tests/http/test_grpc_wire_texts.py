"""Status texts as fields, and compressed messages that are more than one."""

from __future__ import annotations

import gzip
from urllib.parse import unquote

import pytest

from dqlite_py.http.grpc.messages import PREFIX, Assembler
from dqlite_py.http.grpc.status import Refused, percent_encoded


@pytest.mark.parametrize(
    "text", ["", "plain text", " before", "behind ", " ", "100 %", "größer ", "a\tb\n", "\x7f"]
)
def test_a_status_text_is_a_field_value_that_decodes_to_itself(text: str) -> None:
    value = percent_encoded(text)
    assert value == value.strip()
    assert all(0x20 <= octet <= 0x7E for octet in value)
    assert unquote(value.decode("ascii")) == text


@pytest.mark.parametrize("more", [gzip.compress(b"more"), b"garbage", b"\x00"])
def test_a_compressed_message_with_something_behind_it_is_refused(more: bytes) -> None:
    packed = gzip.compress(b"message")
    whole = PREFIX.pack(1, len(packed)) + packed
    assert Assembler(1000, gzip=True).feed(whole) == [b"message"]
    packed += more
    with pytest.raises(Refused, match="failed to decompress"):
        Assembler(1000, gzip=True).feed(PREFIX.pack(1, len(packed)) + packed)

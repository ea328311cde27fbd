"""Status texts as fields, compressed messages that are more than one, and other methods."""

from __future__ import annotations

import gzip
from urllib.parse import unquote

import pytest

from dqlite_py.http.grpc.call_head import read
from dqlite_py.http.grpc.messages import PREFIX, Assembler
from dqlite_py.http.grpc.methods import Call, Kind, Method
from dqlite_py.http.grpc.status import Code, Refused, percent_encoded
from dqlite_py.http.h2.request_head import HeadReader, RequestHead


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


@pytest.mark.parametrize("verb", [b"GET", b"PUT", b"post", b"\xff"])
def test_a_call_is_made_by_post_only(verb: bytes) -> None:
    async def handler(_request: bytes, _call: Call) -> bytes:
        return b""

    methods = {b"/a.B/C": Method("/a.B/C", Kind.UNARY, bytes, handler)}

    def head(method: bytes) -> RequestHead:
        return HeadReader().read(
            ((b":method", method), (b":scheme", b"http"), (b":path", b"/a.B/C"))
        )

    assert read(head(b"POST"), methods, None).method is methods[b"/a.B/C"]
    refused = read(head(verb), methods, None)
    assert refused.method is None
    assert refused.refusal is not None
    assert refused.refusal.code is Code.INTERNAL

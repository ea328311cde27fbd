"""The requests of the load generators, as bytes: HTTP/2 frames, HPACK and protobuf by hand.

They are made by hand because a generator must cost far less than the server that it measures.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
FRAME_HEADER_BYTES = 9
INITIAL_WINDOW_SETTING = 0x4
BIG_WINDOW_BYTES = 1 << 30
RANDOM_POOL_BYTES = 1 << 22
KEY_COUNT = 10_000
VALUE_BYTES = 256
METHODS = {
    "put": "/etcdserverpb.KV/Put",
    "range": "/etcdserverpb.KV/Range",
    "serializable": "/etcdserverpb.KV/Range",
}
SERIALIZABLE_FIELD = b"\x38\x01"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one HTTP/2 frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def opening() -> bytes:
    """Return what a client sends first, with windows that do not hold the server back."""
    settings = struct.pack(">HI", INITIAL_WINDOW_SETTING, BIG_WINDOW_BYTES)
    window = struct.pack(">I", BIG_WINDOW_BYTES)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, window)


def header_block(path: str, authority: str) -> bytes:
    """Return request headers as HPACK that leaves the dynamic table alone (RFC 7541)."""

    def text(value: str) -> bytes:
        assert len(value) < 127
        return bytes([len(value)]) + value.encode()

    method_post, scheme_http = b"\x83", b"\x86"
    literal_path, literal_authority, literal_content_type = b"\x04", b"\x01", b"\x0f\x10"
    return b"".join(
        [
            method_post,
            scheme_http,
            literal_path + text(path),
            literal_authority + text(authority),
            literal_content_type + text("application/grpc"),
            b"\x00" + text("te") + text("trailers"),
        ]
    )


def varint(value: int) -> bytes:
    """Return a number as protobuf's base-128 varint."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def prefixed(message: bytes) -> bytes:
    """Return a message with gRPC's five bytes before it."""
    return b"\x00" + struct.pack(">I", len(message)) + message


def request(kind: str, key: bytes, value: bytes) -> bytes:
    """Return a PutRequest or RangeRequest; ``value`` is used by puts only."""
    message = bytes_field(1, key)
    if kind == "put":
        message += bytes_field(2, value)
    elif kind == "serializable":
        message += SERIALIZABLE_FIELD
    return message


def rotating_key(number: int) -> bytes:
    """Return one of the KEY_COUNT keys."""
    return b"bench/%08d" % (number % KEY_COUNT)


def rotating(kind: str, seed: int) -> Iterator[bytes]:
    """Yield requests for ever: rotating keys, random values."""
    draw = random.Random(seed)
    pool = draw.randbytes(RANDOM_POOL_BYTES)
    number = draw.randrange(KEY_COUNT)
    while True:
        number += 1
        at = draw.randrange(RANDOM_POOL_BYTES - VALUE_BYTES)
        yield request(kind, rotating_key(number), pool[at : at + VALUE_BYTES])

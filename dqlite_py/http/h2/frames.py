"""Frames of HTTP/2: their numbers, and writing them (RFC 9113 sections 4 and 6)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

HEADER_BYTES = 9
STREAM_ID_MASK = 0x7FFFFFFF
LARGEST_WINDOW_BYTES = 2**31 - 1
DEFAULT_WINDOW_BYTES = 65_535
DEFAULT_FRAME_BYTES = 16_384  # the largest payload unless SETTINGS_MAX_FRAME_SIZE says more
LARGEST_FRAME_BYTES = 2**24 - 1

# length in three bytes (one and two), type, flags, stream
HEAD = struct.Struct(">BHBBL")
UINT32 = struct.Struct(">L")
SETTING = struct.Struct(">HL")

_pack = HEAD.pack


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return one frame; ``payload`` must fit the peer's largest frame."""
    length = len(payload)
    return _pack(length >> 16, length & 0xFFFF, kind, flags, stream_id) + payload


def head(length_bytes: int, kind: int, flags: int, stream_id: int) -> bytes:
    """Return the nine bytes before a payload of ``length_bytes``."""
    return _pack(length_bytes >> 16, length_bytes & 0xFFFF, kind, flags, stream_id)


def header_frames(
    block: bytes, stream_id: int, most_bytes: int, *, end_stream: bool
) -> Iterator[bytes]:
    """Yield a header block as HEADERS and as many CONTINUATION frames as it takes.

    No other frame may stand between them (RFC 9113 section 6.10).
    """
    kind, flags = HEADERS, END_STREAM if end_stream else 0
    for start in range(0, len(block) or 1, most_bytes):
        piece = block[start : start + most_bytes]
        last = END_HEADERS if start + most_bytes >= len(block) else 0
        yield frame(kind, flags | last, stream_id, piece)
        kind, flags = CONTINUATION, 0


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame of (identifier, value) pairs."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(*pair) for pair in values))


def window_update(stream_id: int, increment_bytes: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, UINT32.pack(increment_bytes))


def rst_stream(stream_id: int, code: int) -> bytes:
    """Return an RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, UINT32.pack(code))


def goaway(last_stream_id: int, code: int, reason: bytes) -> bytes:
    """Return a GOAWAY frame; ``reason`` is for people who debug."""
    return frame(GOAWAY, 0, 0, UINT32.pack(last_stream_id) + UINT32.pack(code) + reason)


def ping(payload: bytes, *, acknowledges: bool) -> bytes:
    """Return a PING frame of eight bytes."""
    return frame(PING, ACK if acknowledges else 0, 0, payload)

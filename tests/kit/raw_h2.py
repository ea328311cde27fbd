"""Frames of HTTP/2 written and read by hand, as the peer of a server: rules obeyed or broken.

It knows nothing of the server's code, so that a mistake there is not made here as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9
NAMES = (
    *("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS"),
    *("PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"),
)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM = 4, 5, 6, 7
CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = 8, 9, 10, 11

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS = 1, 2, 3
INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = 4, 5, 6

LARGEST_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME = 16_384

Fields = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Frame:
    """A frame that came."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of an RST_STREAM or GOAWAY."""
        at = 4 if self.kind == GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")

    @property
    def last_stream_id(self) -> int:
        """The last stream that a GOAWAY says was looked at."""
        return number(self.payload[:4]) & LARGEST_WINDOW

    @property
    def settings(self) -> list[tuple[int, int]]:
        return list(struct.iter_unpack(">HL", self.payload))

    def __repr__(self) -> str:
        name = NAMES[self.kind] if self.kind < len(NAMES) else hex(self.kind)
        return f"{name} flags={self.flags:#x} stream={self.stream_id} {self.payload[:40]!r}"


def number(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def u32(value: int) -> bytes:
    return struct.pack(">L", value)


def frame(
    kind: int, flags: int = 0, stream_id: int = 0, payload: bytes = b"", length: int | None = None
) -> bytes:
    """Return a frame; ``length`` says another length than the payload's."""
    size = len(payload) if length is None else length
    return u32(size)[1:] + struct.pack(">BBL", kind, flags, stream_id) + payload


def parse(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames at the beginning of ``data``, and the rest."""
    found = []
    while len(data) >= 9:
        size = number(data[:3])
        if len(data) < 9 + size:
            break
        kind, flags, stream_id = struct.unpack_from(">BBL", data, 3)
        found.append(Frame(kind, flags, stream_id & LARGEST_WINDOW, data[9 : 9 + size]))
        data = data[9 + size :]
    return found, data


def field(name: bytes, value: bytes) -> bytes:
    """Return one field: a literal without indexing, a new name, no Huffman code."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, octets = len(text) - 127, [127]
    while rest > 127:
        octets.append(rest % 128 + 128)
        rest //= 128
    return bytes([*octets, rest]) + text


def block(fields: Fields) -> bytes:
    return b"".join(field(*pair) for pair in fields)


def request_fields(
    path: bytes = b"/etcdserverpb.KV/Range", *more: tuple[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the fields of a gRPC call."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
        *more,
    ]


REQUEST = request_fields()


def headers(
    stream_id: int,
    fields: Fields | bytes = REQUEST,
    *,
    end_stream: bool = False,
    end_headers: bool = True,
    flags: int = 0,
) -> bytes:
    """Return a HEADERS frame of fields or of a ready block."""
    flags |= (END_STREAM if end_stream else 0) | (END_HEADERS if end_headers else 0)
    payload = fields if isinstance(fields, bytes) else block(fields)
    return frame(HEADERS, flags, stream_id, payload)


def continuation(stream_id: int, part: bytes, *, end_headers: bool = False) -> bytes:
    return frame(CONTINUATION, END_HEADERS if end_headers else 0, stream_id, part)


def data(stream_id: int, payload: bytes = b"", *, end_stream: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end_stream else 0, stream_id, payload)


def padded(payload: bytes, padding: int) -> bytes:
    """Return a payload with ``padding`` octets behind it, for a frame with PADDED."""
    return bytes([padding]) + payload + bytes(padding)


def priority(stream_id: int, depends_on: int = 0) -> bytes:
    return frame(PRIORITY, 0, stream_id, u32(depends_on) + b"\x0f")


def rst_stream(stream_id: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream_id, u32(code))


def settings(*pairs: tuple[int, int], ack: bool = False) -> bytes:
    payload = b"".join(struct.pack(">HL", *pair) for pair in pairs)
    return frame(SETTINGS, ACK if ack else 0, 0, payload)


def ping(payload: bytes = b"12345678", *, ack: bool = False) -> bytes:
    return frame(PING, ACK if ack else 0, 0, payload)


def goaway(last_stream_id: int = 0, code: int = NO_ERROR) -> bytes:
    return frame(GOAWAY, 0, 0, u32(last_stream_id) + u32(code))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, u32(increment))


def message(payload: bytes, *, declared: int | None = None) -> bytes:
    """Return a gRPC message in its envelope; ``declared`` says another length."""
    return b"\0" + u32(len(payload) if declared is None else declared) + payload


def odd_ids(start: int = 1) -> Iterator[int]:
    """Yield the numbers of a client's streams."""
    while True:
        yield start
        start += 2

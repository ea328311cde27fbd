"""Frames: a length, then one msgpack array whose first element says what it is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import msgpack

from dqlite_py.seams import Stream

HEADER_BYTES = 4
"""Big-endian unsigned length of the body that follows."""

LONGEST_BODY_BYTES = (1 << 32) - 1

_length = struct.Struct(">I")
_packer = msgpack.Packer(use_bin_type=True)
_pack: Callable[[Any], bytes] = _packer.pack


class FrameKind(IntEnum):
    """First element of every body after the handshake. Numbers are never reused."""

    MESSAGE = 0  # [0, Raft message fields ...]
    CALL = 1  # [1, call id, method, payload]
    REPLY = 2  # [2, call id, payload]
    FAILURE = 3  # [3, call id, [error class, [field values]]]
    PING = 4  # [4]
    PONG = 5  # [5]


class FrameError(ConnectionError):
    """The other side sent bytes that are no valid frame; the connection cannot go on."""


def encode_frame(content: list[Any]) -> bytes:
    """Return header and body of one frame."""
    body = _pack(content)
    return _length.pack(len(body)) + body


def decode_body(body: bytes) -> list[Any]:
    """Return the array in ``body``; raise FrameError unless it is one non-empty msgpack array."""
    try:
        content = msgpack.unpackb(body, raw=False, use_list=True)
    except (ValueError, msgpack.UnpackException) as error:
        raise FrameError(f"a frame is not msgpack: {error}") from error
    if type(content) is not list or not content:
        raise FrameError("a frame is not a msgpack array")
    return content


async def read_body(stream: Stream, limit_bytes: int) -> bytes:
    """Return the next frame's body.

    Raises FrameError for a longer one than ``limit_bytes``, before reading it, and
    ConnectionError when the stream ends.
    """
    (length,) = _length.unpack(await stream.read_exactly(HEADER_BYTES))
    if length > limit_bytes:
        raise FrameError(f"a frame of {length} bytes exceeds the limit of {limit_bytes}")
    return await stream.read_exactly(length)

"""Builds WatchResponse bytes out of parts that are serialised once and shared.

A protobuf message is the concatenation of its fields, so a response is put together from the
header's bytes, the watch id's bytes and the events' bytes (protobuf encoding: field tag, then a
varint, or a length and that many bytes).
"""

from __future__ import annotations

from collections.abc import Sequence

from dqlite_py.pb import rpc_pb2

_HEADER = b"\x0a"  # WatchResponse field 1, bytes
_WATCH_ID = b"\x10"  # field 2, varint
_EVENT = b"\x5a"  # field 11, bytes
_PREVIOUS = b"\x1a"  # Event field 3, bytes
FRAGMENT = b"\x38\x01"  # WatchResponse field 7, true


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def header_field(header: rpc_pb2.ResponseHeader) -> bytes:
    """Return the header as a field of a WatchResponse."""
    data = header.SerializeToString()
    return _HEADER + _varint(len(data)) + data


def watch_id_field(watch_id: int) -> bytes:
    """Return the watch id as a field of a WatchResponse; zero is left out."""
    return _WATCH_ID + _varint(watch_id & 2**64 - 1) if watch_id else b""


def event_field(event: bytes) -> bytes:
    """Return a serialised event as a field of a WatchResponse."""
    return _EVENT + _varint(len(event)) + event


def with_previous(event: bytes, previous: bytes) -> bytes:
    """Return a serialised event with a serialised previous key-value pair added."""
    return event + _PREVIOUS + _varint(len(previous)) + previous


def responses(prefix: bytes, events: Sequence[bytes], fragment_bytes: int | None) -> list[bytes]:
    """Return the responses that carry ``events``: one, or several of about ``fragment_bytes``.

    ``prefix`` is the header and the watch id. Of several, all but the last are marked as fragments.
    An event is never split, so a response may be larger by one event.
    """
    if fragment_bytes is None or sum(map(len, events)) < fragment_bytes:
        return [prefix + b"".join(events)]
    parts: list[list[bytes]] = [[]]
    size = 0
    for event in events:
        if parts[-1] and size + len(event) >= fragment_bytes:
            parts.append([])
            size = 0
        parts[-1].append(event)
        size += len(event)
    whole = [prefix + b"".join(part) for part in parts]
    return [response + FRAGMENT for response in whole[:-1]] + whole[-1:]

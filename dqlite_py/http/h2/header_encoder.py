"""HPACK for what is sent (RFC 7541): header lists become blocks.

Answers hold few and mostly constant fields. They are encoded with the static table and literals
only: without a dynamic table a block depends on nothing that was sent before, costs the peer no
memory, and repeated lists are encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dqlite_py.http.h2 import huffman
from dqlite_py.http.h2.static_table import STATIC_TABLE

_DEFAULT_TABLE_BYTES: Final = 4096
_FORGET_TABLE: Final = b"\x20"  # a size update to 0 (RFC 7541 section 6.3)

_LISTS_MAX: Final = 64
_LIST_MAX_BYTES: Final = 512

_INDEXED: Final = {field: bytes([0x80 | index]) for index, field in enumerate(STATIC_TABLE, 1)}
# Of a name with several entries the first one's index is used.
_NAME_INDICES: Final = {
    name: index for index, (name, _) in reversed(list(enumerate(STATIC_TABLE, 1)))
}


def _integer(value: int, prefix_bits: int, pattern: int) -> bytes:
    """Encode ``value`` behind the bits of ``pattern`` (RFC 7541 section 5.1)."""
    prefix_max = (1 << prefix_bits) - 1
    if value < prefix_max:
        return bytes([pattern | value])
    octets = bytearray([pattern | prefix_max])
    value -= prefix_max
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def _string(text: bytes) -> bytes:
    """Encode a string literal, with the Huffman code if that is shorter (section 5.2)."""
    length_bytes = huffman.encoded_length_bytes(text)
    if length_bytes < len(text):
        return _integer(length_bytes, 7, 0x80) + huffman.encode(text)
    return _integer(len(text), 7, 0) + text


def _field(name: bytes, value: bytes) -> bytes:
    """Encode one field: indexed (section 6.1) or a literal without indexing (section 6.2.2)."""
    indexed = _INDEXED.get((name, value))
    if indexed is not None:
        return indexed
    index = _NAME_INDICES.get(name)
    start = b"\x00" + _string(name) if index is None else _integer(index, 4, 0)
    return start + _string(value)


class HeaderEncoder:
    """The sending side of one connection's header compression; not safe for threads."""

    __slots__ = ("_capacity_bytes", "_update_due")

    # Blocks depend on nothing but their list, so all connections share them.
    _known: Final[dict[tuple[tuple[bytes, bytes], ...], bytes]] = {}

    def __init__(self) -> None:
        self._capacity_bytes = _DEFAULT_TABLE_BYTES
        self._update_due = False

    def peer_table_size(self, size_bytes: int) -> None:
        """Take note of the peer's SETTINGS_HEADER_TABLE_SIZE: call it when it is acknowledged.

        The dynamic table is never used, but the peer keeps one until it is told otherwise, and
        below its size a change must be signalled (RFC 7541 section 4.2): the next block gives it
        up for good, so that no later setting matters.
        """
        if size_bytes < self._capacity_bytes:
            self._capacity_bytes = 0
            self._update_due = True

    def encode(self, fields: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return the header block of ``fields``, which keep their order.

        Names must be in lower case, pseudo-header fields first (RFC 9113 section 8.3); neither is
        checked. Blocks must be sent in the order in which they were made. A list that repeats is
        looked up; that is cheapest if it is the same tuple.
        """
        key = fields if isinstance(fields, tuple) else tuple(fields)
        block = self._known.get(key)
        if block is None:
            block = b"".join([_field(name, value) for name, value in key])
            if len(block) <= _LIST_MAX_BYTES:
                if len(self._known) >= _LISTS_MAX:
                    self._known.clear()
                self._known[key] = block
        if self._update_due:
            self._update_due = False
            return _FORGET_TABLE + block
        return block

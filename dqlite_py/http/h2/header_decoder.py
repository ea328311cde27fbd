"""HPACK for what arrives (RFC 7541): header blocks become lists of fields.

Every request brings a header block, so this is the hottest code of the server. What makes it fast:
one list holds the static table and the dynamic one, so that an index is looked up at once; a
block that repeats is remembered as a whole while the dynamic table stays as it is; strings that
are long enough are remembered with their Huffman code.
"""

from __future__ import annotations

from typing import Final

from dqlite_py.http.h2 import huffman
from dqlite_py.http.h2.static_table import ENTRY_OVERHEAD_BYTES, STATIC_TABLE

Field = tuple[bytes, bytes]

DEFAULT_TABLE_BYTES: Final = 4096  # RFC 9113 section 6.5.2
DEFAULT_LIST_BYTES: Final = 65_536

_FIRST_DYNAMIC: Final = len(STATIC_TABLE) + 1
# Index 0 means nothing (RFC 7541 section 6.1) and is never looked up.
_STATIC_ENTRIES: Final[tuple[Field, ...]] = ((b"", b""), *STATIC_TABLE)
_STATIC_SIZES: Final = tuple(
    len(name) + len(value) + ENTRY_OVERHEAD_BYTES for name, value in _STATIC_ENTRIES
)

# 28 bits are more than any size or index that can be right here.
_CONTINUATION_MAX_OCTETS: Final = 4

# What a connection may remember is bounded so that a hostile peer gains little by filling it: at
# most about 100 kB beside the dynamic table.
_BLOCKS_MAX: Final = 16
_BLOCK_MAX_BYTES: Final = 256
_BLOCK_MAX_FIELDS: Final = 32
# A shorter string is decoded faster than it is cut out and looked up, and what changes from
# call to call (grpc-timeout: at most eight digits and a letter) stays out.
_STRING_MIN_BYTES: Final = 8
_STRING_MAX_BYTES: Final = 128
_STRINGS_MAX: Final = 64


class HeaderBlockError(Exception):
    """A header block can not be decoded; ``str()`` says why.

    The dynamic tables of the two sides are out of step from now on: the connection must end with
    COMPRESSION_ERROR (RFC 9113 section 4.3).
    """


class HeaderListTooLarge(Exception):
    """A header list is larger than allowed; the decoder stays usable.

    ``size_bytes`` is its size as RFC 9113 section 6.5.2 counts, ``most_bytes`` the limit.
    """

    def __init__(self, size_bytes: int, most_bytes: int) -> None:
        super().__init__(f"the header list has {size_bytes} bytes, {most_bytes} are allowed")
        self.size_bytes = size_bytes
        self.most_bytes = most_bytes


def _integer(block: bytes, position: int, prefix_max: int) -> tuple[int, int]:
    """Return an integer whose prefix was all ones, and where it ends (RFC 7541 section 5.1)."""
    value = prefix_max
    for shift in range(0, 7 * _CONTINUATION_MAX_OCTETS, 7):
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
    raise HeaderBlockError("an integer is too long")


class HeaderDecoder:
    """The receiving side of one connection's header compression; not safe for threads."""

    __slots__ = (
        "_blocks",
        "_capacity_bytes",
        "_entries",
        "_limit_bytes",
        "_list_max_bytes",
        "_sizes",
        "_strings",
        "_table_bytes",
        "_update_due",
    )

    def __init__(
        self,
        max_table_bytes: int = DEFAULT_TABLE_BYTES,
        max_list_bytes: int = DEFAULT_LIST_BYTES,
    ) -> None:
        """Start with an empty dynamic table.

        ``max_table_bytes`` is the limit for the dynamic table that both sides know from the start
        (4096 unless SETTINGS_HEADER_TABLE_SIZE was agreed before the first block; see
        ``limit_table``). ``max_list_bytes`` bounds a list: name, value and 32 for each field.
        """
        self._limit_bytes = max_table_bytes
        # A larger table begins when the peer says so (RFC 7541 section 4.2).
        self._capacity_bytes = min(max_table_bytes, DEFAULT_TABLE_BYTES)
        self._list_max_bytes = max_list_bytes
        self._entries: list[Field] = list(_STATIC_ENTRIES)
        self._sizes: list[int] = list(_STATIC_SIZES)
        self._table_bytes = 0
        self._update_due = False
        self._blocks: dict[bytes, tuple[Field, ...]] = {}
        self._strings: dict[bytes, bytes] = {}

    def limit_table(self, max_table_bytes: int) -> None:
        """Set the dynamic table's limit: call it when the peer acknowledges the setting.

        If the table is larger now, the next block must begin with a size update (RFC 9113 section
        4.3.1), otherwise ``decode`` raises HeaderBlockError.
        """
        self._limit_bytes = max_table_bytes
        self._update_due = self._capacity_bytes > max_table_bytes
        self._blocks.clear()

    def decode(self, block: bytes) -> tuple[Field, ...]:
        """Return the fields of a whole header block, names and values in the order sent.

        Blocks must be given in the order in which they arrived. Raises HeaderBlockError if the
        block is not valid; nothing may be decoded after that. Raises HeaderListTooLarge if the
        list exceeds its limit; the block took effect on the dynamic table all the same, and no
        more fields than the limit allows were kept meanwhile.
        """
        known = self._blocks.get(block)
        if known is not None:
            return known
        try:
            return self._decode(block)
        except IndexError:
            raise HeaderBlockError("it ends early, or an index is beyond the tables") from None
        except huffman.HuffmanError as error:
            raise HeaderBlockError(str(error)) from None

    def _decode(self, block: bytes) -> tuple[Field, ...]:
        entries = self._entries
        sizes = self._sizes
        room_bytes = self._list_max_bytes
        fields: list[Field] = []
        position = self._size_updates(block)
        unchanged = position == 0
        end = len(block)
        while position < end:
            octet = block[position]
            position += 1
            if octet > 0x80:
                index = octet & 0x7F
                if index == 0x7F:
                    index, position = _integer(block, position, 0x7F)
                field = entries[index]
                room_bytes -= sizes[index]
            else:
                field, position = self._literal(block, position, octet)
                size_bytes = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD_BYTES
                room_bytes -= size_bytes
                if octet >= 0x40:
                    unchanged = False
                    self._insert(field, size_bytes)
            if room_bytes >= 0:
                fields.append(field)
        if room_bytes < 0:
            raise HeaderListTooLarge(self._list_max_bytes - room_bytes, self._list_max_bytes)
        decoded = tuple(fields)
        if unchanged and end <= _BLOCK_MAX_BYTES and len(decoded) <= _BLOCK_MAX_FIELDS:
            if len(self._blocks) >= _BLOCKS_MAX:
                self._blocks.clear()
            self._blocks[block] = decoded
        return decoded

    def _size_updates(self, block: bytes) -> int:
        """Apply the size updates that begin a block; return where they end (section 6.3)."""
        position = 0
        while position < len(block) and 0x20 <= block[position] < 0x40:
            size_bytes = block[position] & 0x1F
            position += 1
            if size_bytes == 0x1F:
                size_bytes, position = _integer(block, position, 0x1F)
            if size_bytes > self._limit_bytes:
                raise HeaderBlockError("the dynamic table is made larger than allowed")
            self._update_due = False
            self._capacity_bytes = size_bytes
            self._evict(size_bytes)
        if self._update_due:
            raise HeaderBlockError("the dynamic table's smaller limit was not taken note of")
        return position

    def _literal(self, block: bytes, position: int, octet: int) -> tuple[Field, int]:
        """Return a literal field and where it ends; ``octet`` began it (section 6.2)."""
        if octet >= 0x40:
            if octet == 0x80:
                raise HeaderBlockError("index 0 of an indexed field")
            prefix_max = 0x3F
        elif octet < 0x20:
            prefix_max = 0x0F
        else:
            raise HeaderBlockError("a size update after a field")
        index = octet & prefix_max
        if index == prefix_max:
            index, position = _integer(block, position, prefix_max)
        if index:
            name = self._entries[index][0]
        else:
            name, position = self._string(block, position)
        value, position = self._string(block, position)
        return (name, value), position

    def _string(self, block: bytes, position: int) -> tuple[bytes, int]:
        """Return a string literal and where it ends (section 5.2)."""
        octet = block[position]
        position += 1
        length_bytes = octet & 0x7F
        if length_bytes == 0x7F:
            length_bytes, position = _integer(block, position, 0x7F)
        end = position + length_bytes
        if end > len(block):
            raise HeaderBlockError("a string is longer than its block")
        text = block[position:end]
        if octet < 0x80:
            return text, end
        if not _STRING_MIN_BYTES <= length_bytes <= _STRING_MAX_BYTES:
            return huffman.decode(text), end
        known = self._strings.get(text)
        if known is None:
            known = huffman.decode(text)
            if len(self._strings) >= _STRINGS_MAX:
                self._strings.clear()
            self._strings[text] = known
        return known, end

    def _insert(self, field: Field, size_bytes: int) -> None:
        """Make ``field`` the newest entry of the dynamic table (section 4.4)."""
        if self._blocks:
            self._blocks.clear()
        room_bytes = self._capacity_bytes - size_bytes
        if self._table_bytes > room_bytes:
            self._evict(room_bytes)
        if room_bytes >= 0:
            self._entries.insert(_FIRST_DYNAMIC, field)
            self._sizes.insert(_FIRST_DYNAMIC, size_bytes)
            self._table_bytes += size_bytes

    def _evict(self, most_bytes: int) -> None:
        """Drop the oldest entries until at most ``most_bytes`` are left (section 4.3)."""
        self._blocks.clear()
        while self._table_bytes > most_bytes and self._table_bytes:
            self._entries.pop()
            self._table_bytes -= self._sizes.pop()

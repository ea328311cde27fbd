"""Header blocks written by hand, field by field, right or wrong (RFC 7541 section 6)."""

from __future__ import annotations

from dqlite_py.http.h2 import huffman

INDEXED, INDEXING, PLAIN, NEVER, RESIZE = (
    (0x80, 7),
    (0x40, 6),
    (0x00, 4),
    (0x10, 4),
    (0x20, 5),
)
FIRST_DYNAMIC = 62
EVERY_STATIC_INDEX = range(1, FIRST_DYNAMIC)


def integer(value: int, form: tuple[int, int]) -> bytes:
    """Return ``value`` behind the pattern of ``form`` (section 5.1)."""
    pattern, prefix_bits = form
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes([pattern | value])
    value -= most
    octets = [pattern | most]
    while value > 0x7F:
        octets.append(value % 0x80 + 0x80)
        value //= 0x80
    return bytes([*octets, value])


def string(text: bytes, *, compressed: bool = False) -> bytes:
    """Return a string literal (section 5.2)."""
    if compressed:
        text = huffman.encode(text)
    return integer(len(text), (0x80 if compressed else 0, 7)) + text


def indexed(index: int) -> bytes:
    """Return an indexed field (section 6.1)."""
    return integer(index, INDEXED)


def literal(
    name: bytes | int,
    value: bytes,
    form: tuple[int, int] = INDEXING,
    *,
    compressed: bool = False,
) -> bytes:
    """Return a literal field whose name is given as text or as an index (section 6.2)."""
    if isinstance(name, int):
        start = integer(name, form)
    else:
        start = integer(0, form) + string(name, compressed=compressed)
    return start + string(value, compressed=compressed)


def resize(size_bytes: int) -> bytes:
    """Return a size update of the dynamic table (section 6.3)."""
    return integer(size_bytes, RESIZE)

"""The one page that every replica of a database starts from."""

from __future__ import annotations

import struct

from dqlite_py.errors import StartRefused

HEADER_BYTES = 100
PAGE_SIZES = tuple(512 << shift for shift in range(8))
_MAGIC = b"SQLite format 3\0"
_WAL_FORMAT = 2
_LEAF_TABLE = 0x0D
# A constant instead of the running library's version, so that all members build equal bytes.
_WRITER_VERSION = 3_050_000


def genesis_image(page_size: int) -> bytes:
    """Return an empty database of one page, in WAL format, the same bytes on every machine.

    ``page_size`` is in bytes, a power of two from 512 to 65536; otherwise raises StartRefused.
    Source: SQLite database file format, sections 1.3 (header) and 1.6 (b-tree pages).
    """
    if page_size not in PAGE_SIZES:
        raise StartRefused(reason=f"page size {page_size} is not a power of two in 512..65536")
    page = bytearray(page_size)
    page[:16] = _MAGIC
    stored_size = 1 if page_size == 65536 else page_size
    struct.pack_into(">HBBBBBB", page, 16, stored_size, _WAL_FORMAT, _WAL_FORMAT, 0, 64, 32, 32)
    change_counter, page_count = 1, 1
    struct.pack_into(">II", page, 24, change_counter, page_count)
    schema_format, utf8 = 4, 1
    struct.pack_into(">I", page, 44, schema_format)
    struct.pack_into(">I", page, 56, utf8)
    struct.pack_into(">II", page, 92, change_counter, _WRITER_VERSION)
    cell_area_start = page_size & 0xFFFF  # 65536 is stored as 0
    struct.pack_into(">BHHHB", page, HEADER_BYTES, _LEAF_TABLE, 0, 0, cell_area_start, 0)
    return bytes(page)


def page_size_of(first_bytes: bytes) -> int | None:
    """Return the page size in a database header, None when it is no WAL-format database.

    ``first_bytes`` are the first 100 bytes of the file.
    """
    if len(first_bytes) < HEADER_BYTES or not first_bytes.startswith(_MAGIC):
        return None
    if first_bytes[18] != _WAL_FORMAT or first_bytes[19] != _WAL_FORMAT:
        return None
    stored = int.from_bytes(first_bytes[16:18], "big")
    return 65536 if stored == 1 else stored


def page_count_of(first_bytes: bytes) -> int:
    """Return the database size in pages that the header records (offset 28)."""
    return int.from_bytes(first_bytes[28:32], "big")

"""What one SQLite commit changes: page images and the database's new size; and its byte form."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import lz4.block

from dqlite_py.errors import InvariantBroken

FULL_IMAGES_LZ4 = 1  # encoding id: whole page images, compressed together

# encoding id, reserved, log2(page size), page count after the commit, pages, bytes before lz4
_HEADER = struct.Struct("<BxHIII")


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """The effect of one commit on a database file.

    ``page_count`` is the database's size in pages after the commit. ``pages`` holds
    (page number from 1, image of exactly ``page_size`` bytes); no page occurs twice. A batch is
    valid only on the database state that it was captured from.
    """

    page_size: int
    page_count: int
    pages: tuple[tuple[int, bytes], ...]


def encode(batch: FrameBatch) -> bytes:
    """Return the byte form of ``batch``; the first byte is the encoding id."""
    count = len(batch.pages)
    numbers = struct.pack(f"<{count}I", *[number for number, _ in batch.pages])
    body = numbers + b"".join([image for _, image in batch.pages])
    header = _HEADER.pack(
        FULL_IMAGES_LZ4, batch.page_size.bit_length() - 1, batch.page_count, count, len(body)
    )
    packed: bytes = lz4.block.compress(body, store_size=False)
    return header + packed


def decode(data: bytes) -> FrameBatch:
    """Inverse of ``encode``.

    Raises InvariantBroken when the bytes are not a whole batch of a known encoding: they have
    passed the log's CRC, so the program that wrote them disagrees with this one.
    """
    if len(data) < _HEADER.size or data[0] != FULL_IMAGES_LZ4:
        raise InvariantBroken(detail=f"frame batch of unknown encoding {data[:1]!r}")
    _, size_bits, page_count, count, body_bytes = _HEADER.unpack_from(data)
    page_size = 1 << size_bits
    if body_bytes != count * (4 + page_size):
        raise InvariantBroken(detail=f"frame batch of {count} pages claims {body_bytes} bytes")
    try:
        body: bytes = lz4.block.decompress(
            memoryview(data)[_HEADER.size :], uncompressed_size=body_bytes
        )
    except lz4.block.LZ4BlockError as error:
        raise InvariantBroken(detail=f"frame batch does not decompress: {error}") from error
    if len(body) != body_bytes:
        raise InvariantBroken(detail=f"frame batch holds {len(body)} of {body_bytes} bytes")
    numbers = struct.unpack_from(f"<{count}I", body)
    start = 4 * count
    images = [body[at : at + page_size] for at in range(start, body_bytes, page_size)]
    return FrameBatch(page_size, page_count, tuple(zip(numbers, images, strict=True)))

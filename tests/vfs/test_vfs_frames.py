"""The byte form of a commit, and the page that all members start from."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from random import Random

import pytest

from dqlite_py.errors import InvariantBroken, StartRefused
from dqlite_py.vfs.frames import FULL_IMAGES_LZ4, FrameBatch, decode, encode
from dqlite_py.vfs.genesis import genesis_image, page_count_of, page_size_of
from tests.kit.replicated import PAGE_SIZES


def some_batch(page_size: int, count: int) -> FrameBatch:
    random = Random(count)
    pages = [(number * 7 + 1, random.randbytes(page_size)) for number in range(count)]
    return FrameBatch(page_size, count * 7, tuple(pages))


@pytest.mark.parametrize("page_size", PAGE_SIZES)
@pytest.mark.parametrize("count", [1, 2, 50])
def test_a_batch_survives_the_journey(page_size: int, count: int) -> None:
    batch = some_batch(page_size, count)
    data = encode(batch)
    assert data[0] == FULL_IMAGES_LZ4
    assert decode(data) == batch
    assert decode(memoryview(data).tobytes()) == batch


def test_repetitive_pages_are_compressed() -> None:
    batch = FrameBatch(4096, 9, tuple((number, b"abcdefgh" * 512) for number in range(1, 9)))
    assert len(encode(batch)) < 1000


@pytest.mark.parametrize("cut", [0, 1, 5, 15, 40, -1])
def test_a_cut_batch_is_refused(cut: int) -> None:
    with pytest.raises(InvariantBroken):
        decode(encode(some_batch(512, 3))[:cut])


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(InvariantBroken):
        decode(b"\x63" + encode(some_batch(512, 3))[1:])


@pytest.mark.parametrize("at", range(1, 16))
def test_a_wrong_header_is_refused(at: int) -> None:
    data = bytearray(encode(some_batch(512, 3)))
    data[at] ^= 0x40
    try:
        batch = decode(bytes(data))
    except InvariantBroken:
        return
    assert at in {1, 4, 5, 6, 7}  # an unused byte, and the page count, are not redundant
    assert batch.pages == some_batch(512, 3).pages


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_genesis_is_an_empty_database_in_wal_mode(tmp_path: Path, page_size: int) -> None:
    image = genesis_image(page_size)
    assert len(image) == page_size == page_size_of(image)
    assert page_count_of(image) == 1
    path = tmp_path / "genesis.sqlite"
    path.write_bytes(image)
    session = sqlite3.connect(path)
    for pragma, value in (
        ("journal_mode", "wal"), ("page_size", page_size), ("page_count", 1), ("auto_vacuum", 0),
        ("integrity_check", "ok"), ("encoding", "UTF-8"), ("freelist_count", 0),
    ):  # fmt: skip
        assert session.execute(f"PRAGMA {pragma}").fetchall() == [(value,)]
    session.close()


def test_genesis_never_changes() -> None:
    """Members of different versions must start from the same bytes."""
    digest = hashlib.sha256(b"".join(genesis_image(size) for size in PAGE_SIZES)).hexdigest()
    assert digest == "fb3164bb926745f6b6ec222437b6d037567a4f2c65b0cfd5401ccd5b7f31ae8c"


@pytest.mark.parametrize("page_size", [0, 256, 1000, 131072])
def test_other_page_sizes_are_refused(page_size: int) -> None:
    with pytest.raises(StartRefused):
        genesis_image(page_size)


def test_only_wal_databases_have_a_page_size() -> None:
    image = bytearray(genesis_image(4096))
    assert page_size_of(bytes(image[:99])) is None
    image[18] = 1
    assert page_size_of(bytes(image)) is None
    assert page_size_of(bytes(4096)) is None

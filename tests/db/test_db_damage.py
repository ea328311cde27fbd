"""A damaged database file: what is noticed when it is opened, when it is read, and never.

docs/limits.md states what these tests show: SQLite's pages have no checksum.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import CorruptFile, Fatal
from tests.kit.replicated import HandClock, create, execute, statement

PAGE_BYTES = 512
ROWS = 200
SIGNATURE = [*range(20)]  # magic, page size, WAL format


@dataclass(frozen=True)
class Original:
    """A database file at rest, all of it checkpointed, and its rows."""

    image: bytes
    rows: list[tuple[int, bytes, bytes]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    database = create(tmp_path_factory.mktemp("original"), "one", PAGE_BYTES)
    random = Random(1)
    rows = [(n, b"%d" % random.randrange(10**9), random.randbytes(90)) for n in range(ROWS)]
    execute(
        database,
        statement("CREATE TABLE t(id INTEGER PRIMARY KEY, k BLOB, v BLOB)"),
        statement("CREATE INDEX t_k ON t(k)"),
        *[statement("INSERT INTO t VALUES(?, ?, ?)", row) for row in rows],
    )
    database.set_committed(database.position())
    assert database.checkpoint().complete
    database.close()
    return Original(Path(database.path).read_bytes(), rows)


def read(folder: Path, image: bytes) -> tuple[list[tuple[int, bytes, bytes]], list[str]]:
    """Open a database with this file; return its rows and what the integrity check says."""
    path = folder / "damaged.sqlite"
    path.write_bytes(image)
    database = Database(str(path), page_size=PAGE_BYTES, clock=HandClock())
    try:
        database.open_sql(readers=1)
        rows = database.read(statement("SELECT * FROM t NOT INDEXED ORDER BY id"))
        by_key = database.read(statement("SELECT id, k FROM t INDEXED BY t_k ORDER BY k"))
        if sorted(by_key) != [(row[0], row[1]) for row in rows]:
            return [], ["table and index disagree"]
        return rows, database.integrity_check()
    finally:
        database.close()
        assert path.read_bytes() == image, "looking at a damaged file must not change it"


def test_the_original_is_whole(original: Original, tmp_path: Path) -> None:
    assert read(tmp_path, original.image) == (original.rows, [])


@pytest.mark.parametrize("offset", SIGNATURE)
def test_a_damaged_signature_is_refused(original: Original, tmp_path: Path, offset: int) -> None:
    image = bytearray(original.image)
    image[offset] ^= 0x10
    with pytest.raises(CorruptFile, match=r"damaged\.sqlite"):
        read(tmp_path, bytes(image))


def test_a_file_cut_anywhere_is_refused(original: Original, tmp_path: Path) -> None:
    length = len(original.image)
    lengths = {*range(0, length, 997), *range(0, length, PAGE_BYTES * 7), length - 1}
    for shorter in sorted(lengths):
        with pytest.raises(CorruptFile, match=r"damaged\.sqlite"):
            read(tmp_path, original.image[:shorter])


def test_pages_that_the_log_brings_again_may_be_missing(tmp_path: Path) -> None:
    """As after a crash in a checkpoint that had written the first page only."""
    database = create(tmp_path, "one", PAGE_BYTES)
    genesis = Path(database.path).read_bytes()
    outcome = execute(
        database, statement("CREATE TABLE t(v)"), statement("INSERT INTO t VALUES(zeroblob(9000))")
    )
    assert outcome.batch is not None
    database.set_committed(outcome.position)
    assert database.checkpoint().complete
    database.close()
    whole = Path(database.path).read_bytes()
    torn = tmp_path / "torn.sqlite"
    torn.write_bytes(whole[:PAGE_BYTES] + genesis[PAGE_BYTES:])
    again = Database(str(torn), page_size=PAGE_BYTES, clock=HandClock())
    again.inject(outcome.batch)
    again.open_sql(readers=1)
    assert again.integrity_check() == []
    again.close()


def test_flipped_bits_in_pages_are_mostly_not_noticed(original: Original, tmp_path: Path) -> None:
    """Not a wish but a fact, kept here so that the day it changes the documents change too."""
    random = Random(2)
    seen: Counter[str] = Counter()
    for _ in range(250):
        image = bytearray(original.image)
        image[random.randrange(100, len(image))] ^= 1 << random.randrange(8)
        try:
            rows, problems = read(tmp_path, bytes(image))
        except Fatal as error:
            assert "damaged.sqlite" in str(error)
            seen["refused by a read"] += 1
            continue
        right = "right" if rows == original.rows else "wrong"
        seen[f"{right}, {'noticed' if problems else 'silent'}"] += 1
    print(dict(seen))
    assert seen["refused by a read"]
    assert seen["wrong, noticed"] + seen["refused by a read"] < seen["wrong, silent"]

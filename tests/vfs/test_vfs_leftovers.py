"""What aborted work leaves in the WAL and its index never counts."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import apsw
import pytest

from dqlite_py.db.database import Database
from dqlite_py.vfs.inject import inject
from dqlite_py.vfs.wal_index import FIRST_REGION_FRAMES, WRITE_LOCK
from tests.kit.replicated import assert_equal, create, execute, replicate, statement, travelled
from tests.kit.slow_reader import SlowReader

MAKE = statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
INSERT = statement("INSERT INTO t(b) VALUES(randomblob(9000))")


def entries(database: Database) -> list[Any]:
    found = []
    for number in range(len(database._index._numbers)):
        pages, slots = database._index._region(number)
        found.append((pages.tolist(), slots.tolist()))
    return found


@pytest.mark.parametrize("before", [4, 1000, FIRST_REGION_FRAMES - 3])
def test_index_entries_never_published_are_replaced(tmp_path: Path, before: int) -> None:
    one, other = create(tmp_path, "one"), create(tmp_path, "other")
    for database in (one, other):
        database._index.append(1, range(100, 100 + before))
    one._index.append(before + 1, [9, 8, 7, 6, 5])
    for database in (one, other):
        database._index.append(before + 1, [9, 1, 2])
    assert entries(one)[0] == entries(other)[0]
    one.close()
    other.close()


def test_a_rollback_cleans_the_index(tmp_path: Path) -> None:
    leader, follower = create(tmp_path, "leader", 512), create(tmp_path, "follower", 512)
    replicate(leader, [follower], MAKE, INSERT)
    execute(leader, INSERT, INSERT)
    assert entries(leader) != entries(follower)
    leader.rollback_to_committed()
    assert entries(leader) == entries(follower)
    leader.close()
    follower.close()


def test_frames_never_published_are_dropped_by_an_injection(tmp_path: Path) -> None:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    replicate(leader, [follower], MAKE, INSERT)
    follower._wal.append(2, 0, b"x" * 4096)
    follower._wal.append(3, 9, b"x" * 4096)
    replicate(leader, [follower], INSERT)
    assert_equal(leader, follower)
    leader.close()
    follower.close()


def test_leftovers_of_an_aborted_spill_never_count(tmp_path: Path) -> None:
    """A transaction larger than the cache writes frames before it is rolled back."""
    leader = create(tmp_path, "leader", writer_cache_kib=16)
    follower = create(tmp_path, "follower")
    replicate(leader, [follower], MAKE, INSERT)
    position = leader.position()
    spilled: list[int] = []

    def abandon(session: apsw.Connection) -> None:
        session.execute("INSERT INTO t(b) VALUES(randomblob(400000))").fetchall()
        spilled.append(len(leader._wal.images) - position.max_frame)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        execute(leader, abandon)
    assert spilled[0] > 50
    assert leader.position() == position
    # What was a leader becomes a follower: its index still holds those entries.
    batch = execute(follower, INSERT).batch
    assert batch is not None
    follower.set_committed(follower.position())
    leader.inject(travelled(batch))
    assert_equal(leader, follower)
    leader.close()
    follower.close()


def test_a_pinned_checkpoint_of_speculation_is_survived(tmp_path: Path) -> None:
    """Pages with frames newer than the pin are skipped, though older frames count as copied.

    If those newer frames are taken back, the WAL holds the only copy of the older ones. The
    database refuses to checkpoint speculation; this goes behind its back.
    """
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    replicate(leader, [follower], MAKE, INSERT)
    reader = SlowReader(leader, stubborn=True)
    execute(leader, statement("UPDATE t SET b = randomblob(9000)"))
    assert leader._opened is not None
    assert not leader._opened.checkpointer.run(None).complete
    assert leader._index.backfilled == leader._committed.max_frame
    reader.end()
    leader.rollback_to_committed()
    replicate(leader, [follower], statement("CREATE TABLE u(a)"))
    assert_equal(leader, follower)
    leader.close()
    follower.close()


SOURCES = [
    path
    for package in ("vfs", "db")
    for path in sorted((Path(__file__).parents[2] / "dqlite_py" / package).glob("*.py"))
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_source_does_what_would_undermine_the_locks(path: Path) -> None:
    """A BEGIN IMMEDIATE around an injection leaves that connection with a stale cache, and closing
    a descriptor of the database file drops SQLite's lock on it.
    """
    text = path.read_text()
    assert "IMMEDIATE" not in text
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "open"]


def test_the_write_lock_is_released_after_a_refusal(tmp_path: Path) -> None:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    batch = replicate(leader, [follower], MAKE).batch
    assert batch is not None
    follower._wal.images.pop()
    with pytest.raises(Exception, match="WAL of"):
        inject(follower._wal, follower._index, batch)
    assert follower._index.try_lock(WRITE_LOCK)
    follower._index.unlock(WRITE_LOCK)
    leader.close()
    follower.close()

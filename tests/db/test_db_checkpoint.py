"""What reaches the database file, when, and in which order."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import CorruptFile, DiskFailed, InvariantBroken
from tests.kit.dbfile import SimulatedMainFiles
from tests.kit.disk import SimulatedDisk
from tests.kit.replicated import assert_equal, create, execute, image, replicate, statement
from tests.kit.slow_reader import SlowReader

MAKE = statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
INSERT = statement("INSERT INTO t(b) VALUES(randomblob(20000))")
FILE = "/one.sqlite"


class OnDisk:
    """A database whose file operations are recorded."""

    def __init__(self, folder: Path) -> None:
        self.disk = SimulatedDisk(Random(1))
        file = self.disk.open(FILE, create=True)
        file.pwrite(Database.create_genesis(4096), 0)
        file.fdatasync()
        self.files = SimulatedMainFiles(self.disk, str(folder))
        self.database = Database(FILE, page_size=4096, open_main_file=self.files)
        self.database.open_sql(readers=2)
        self.commit()
        self.disk.trace.clear()

    def commit(self) -> None:
        self.database.set_committed(execute(self.database, MAKE).position)

    def grow(self) -> None:
        self.database.set_committed(execute(self.database, INSERT).position)

    def operations(self) -> list[str]:
        return [line.split()[0] for line in self.disk.trace]


@pytest.fixture
def kept(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path)


def test_only_a_checkpoint_writes_the_file(kept: OnDisk) -> None:
    for _ in range(20):
        kept.grow()
    kept.database.close()
    assert kept.operations() == []
    assert len(kept.disk.files()[FILE]) == 4096


def test_the_limit_is_fixed_before_the_first_page_is_written(kept: OnDisk) -> None:
    kept.grow()
    seen: list[list[str]] = []
    result = kept.database.checkpoint(lambda: seen.append(kept.operations()))
    assert seen == [[]]
    assert result.complete
    assert result.frames == kept.database.position().max_frame
    assert kept.operations()[0] == "pwrite"
    assert kept.operations()[-1] == "fdatasync"
    kept.database.close()


def test_the_file_is_synced_even_if_frames_arrive_meanwhile(kept: OnDisk) -> None:
    kept.grow()
    limit = kept.database.position().max_frame
    result = kept.database.checkpoint(kept.grow)
    assert result.complete
    assert result.frames == limit < kept.database.position().max_frame
    assert not kept.database.backfilled
    assert kept.operations()[-1] == "fdatasync"
    kept.database.close()


def test_an_error_when_the_limit_is_fixed_leaves_the_file_alone(kept: OnDisk) -> None:
    kept.grow()

    def fail() -> None:
        raise DiskFailed(path="raft", detail="commit index not durable")

    with pytest.raises(DiskFailed):
        kept.database.checkpoint(fail)
    assert kept.operations() == []
    assert kept.database.checkpoint().complete
    kept.database.close()


def test_a_failing_disk_is_fatal(kept: OnDisk) -> None:
    kept.grow()
    kept.disk.fault = lambda operation, _: OSError(5, "no") if operation == "pwrite" else None
    with pytest.raises(DiskFailed):
        kept.database.checkpoint()
    kept.disk.fault = None
    kept.database.close()


def test_speculation_is_never_checkpointed(kept: OnDisk) -> None:
    execute(kept.database, INSERT)
    with pytest.raises(InvariantBroken):
        kept.database.checkpoint()
    assert kept.operations() == []
    kept.database.close()


def test_the_limit_callback_comes_even_if_nothing_can_be_copied(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    database.set_committed(execute(database, MAKE, INSERT).position)
    assert database.checkpoint().complete
    reader = SlowReader(database, stubborn=True)  # reads the file, so it must not change
    database.set_committed(execute(database, INSERT).position)
    calls: list[int] = []
    assert not database.checkpoint(lambda: calls.append(1)).complete
    assert calls == [1]
    reader.end()
    assert database.checkpoint(lambda: calls.append(2)).complete
    assert calls == [1, 2]
    database.close()


def test_a_reader_on_frames_delays_the_restart_only(tmp_path: Path) -> None:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    replicate(leader, [follower], MAKE, INSERT)
    readers = [SlowReader(leader, stubborn=True), SlowReader(follower, stubborn=True)]
    for database in (leader, follower):
        assert database.checkpoint().complete
        assert database.backfilled
        assert not database.restart_wal()
    generation = follower.position().generation
    replicate(leader, [follower], INSERT)
    assert follower.position().generation == generation
    for reader in readers:
        reader.end()
    for database in (leader, follower):
        assert database.checkpoint().complete
    replicate(leader, [follower], INSERT)
    assert follower.position().generation == generation + 1
    assert follower.wal_bytes == leader.wal_bytes <= 10 * 4120
    assert_equal(leader, follower)
    leader.close()
    follower.close()


def test_restarting_the_wal_frees_its_memory(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    database.set_committed(execute(database, MAKE, INSERT).position)
    assert not database.restart_wal()
    assert database.checkpoint().complete
    before = image(database)
    assert database.restart_wal()
    assert database.wal_bytes == 0
    assert not database.speculative
    assert image(database) == before
    execute(database, INSERT)
    assert database.rollback_to_committed().max_frame == 0
    assert image(database) == before
    database.close()


def test_under_constant_load_a_second_round_keeps_the_wal_bounded(kept: OnDisk) -> None:
    """Frames that arrive while a checkpoint copies keep the WAL from restarting for ever.

    The second round copies those few, with writers kept out to its end.
    """
    database = kept.database
    sizes = []
    for _ in range(5):
        for _ in range(10):
            kept.grow()
        assert database.checkpoint(kept.grow).complete
        assert not database.backfilled
        assert not database.restart_wal()
        assert database.checkpoint().complete
        assert database.backfilled
        sizes.append(database.wal_bytes)
        assert database.restart_wal()
    assert max(sizes) < 2 * min(sizes)
    assert database.wal_bytes == 0
    database.close()


def test_an_image_is_copied_in_whole_pages(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    database.set_committed(execute(database, MAKE, INSERT, INSERT).position)
    assert database.checkpoint().complete
    chunks: list[bytes] = []
    assert database.copy_image(chunks.append, 3 * 4096 + 7) == database.size_bytes
    assert {len(chunk) for chunk in chunks[:-1]} == {3 * 4096}
    assert b"".join(chunks) == image(database)
    database.close()


def test_no_other_process_can_open_the_file(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    database.set_committed(execute(database, MAKE, INSERT).position)
    assert database.checkpoint().complete
    assert database.copy_image(lambda _: None, 1 << 20)
    script = (
        f"import sqlite3; sqlite3.connect({database.path!r}, timeout=0).execute('select * from t')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "locked" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.sqlite"]
    database.close()


def test_a_closed_file_is_an_ordinary_database(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    database.set_committed(execute(database, MAKE, INSERT).position)
    assert database.checkpoint().complete
    database.close()
    other = sqlite3.connect(database.path)
    assert other.execute("SELECT length(b) FROM t").fetchall() == [(20000,)]
    other.close()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_another_program_left_is_refused(tmp_path: Path, suffix: str) -> None:
    create(tmp_path, "one").close()
    (tmp_path / f"one.sqlite{suffix}").write_bytes(b"x")
    with pytest.raises(CorruptFile) as found:
        Database(str(tmp_path / "one.sqlite"), page_size=4096)
    assert found.value.path.endswith(suffix)  # type: ignore[attr-defined]


def test_another_page_size_or_no_database_is_refused(tmp_path: Path) -> None:
    create(tmp_path, "one").close()
    path = tmp_path / "one.sqlite"
    with pytest.raises(CorruptFile):
        Database(str(path), page_size=8192)
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(CorruptFile):
        Database(str(path), page_size=4096)
    path.unlink()
    with pytest.raises(DiskFailed):
        Database(str(path), page_size=4096)

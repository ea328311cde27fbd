"""The disk that loses what was not synced: that it does, and that it loses nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jepsen.nodes.library import NoCompiler, build
from jepsen.nodes.lossy_disk import SOURCE, LossyDisk

WRITER = """
import os, signal, sys
folder = sys.argv[1]
def make(name):
    return os.open(f"{folder}/{name}", os.O_CREAT | os.O_RDWR)
directory = os.open(folder, os.O_RDONLY)
CHANGES
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def disk(tmp_path: Path) -> LossyDisk:
    try:
        build(SOURCE)
    except NoCompiler as reason:
        pytest.skip(str(reason))
    (tmp_path / "data").mkdir()
    lossy = LossyDisk(tmp_path / "data")
    lossy.lossy = True
    return lossy


def crash(disk: LossyDisk, changes: str) -> dict[str, bytes]:
    """Make changes, crash, lose what was not synced, and return what is left."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER.replace("CHANGES", changes), str(disk.data_dir)],
        env={**os.environ, **disk.environment()},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == -9, done.stderr
    disk.after_kill()
    return {path.name: path.read_bytes() for path in disk.data_dir.iterdir()}


MADE = 'a = make("a"); os.pwrite(a, b"0123456789", 0); os.fsync(a); os.fsync(directory)\n'


def test_synced_bytes_survive(disk: LossyDisk) -> None:
    assert crash(disk, MADE) == {"a": b"0123456789"}
    assert disk.dropped == 0


def test_bytes_written_after_the_sync_are_lost(disk: LossyDisk) -> None:
    left = crash(disk, MADE + 'os.pwrite(a, b"xx", 3); os.pwrite(a, b"tail", 10)')
    assert left == {"a": b"0123456789"}
    assert disk.dropped == 2


def test_the_size_cut_without_a_sync_comes_back(disk: LossyDisk) -> None:
    assert crash(disk, MADE + "os.ftruncate(a, 2)") == {"a": b"0123456789"}


def test_fdatasync_keeps_what_it_covers_and_only_that(disk: LossyDisk) -> None:
    left = crash(disk, MADE + 'os.pwrite(a, b"xx", 0); os.fdatasync(a); os.pwrite(a, b"yy", 5)')
    assert left == {"a": b"xx23456789"}


def test_a_sync_of_one_file_covers_no_other(disk: LossyDisk) -> None:
    more = 'b = make("b"); os.write(b, b"b"); os.fsync(directory); os.pwrite(a, b"x", 0)\n'
    left = crash(disk, MADE + more + "os.fsync(b)")
    assert left == {"a": b"0123456789", "b": b"b"}


def test_a_new_name_is_lost_without_a_sync_of_its_directory(disk: LossyDisk) -> None:
    left = crash(disk, MADE + 'b = make("b"); os.write(b, b"b"); os.fsync(b)')
    assert left == {"a": b"0123456789"}


def test_a_replaced_file_comes_back_without_a_sync_of_its_directory(disk: LossyDisk) -> None:
    replace = 'b = make("b"); os.write(b, b"new"); os.fsync(b); os.fsync(directory)\n'
    rename = 'os.rename(f"{folder}/b", f"{folder}/a")\n'
    assert crash(disk, MADE + replace + rename) == {"a": b"0123456789", "b": b"new"}
    assert disk.dropped == 1


def test_a_replaced_file_stays_replaced_once_its_directory_is_synced(disk: LossyDisk) -> None:
    replace = 'b = make("b"); os.write(b, b"new"); os.fsync(b)\n'
    rename = 'os.rename(f"{folder}/b", f"{folder}/a"); os.fsync(directory)\n'
    assert crash(disk, MADE + replace + rename) == {"a": b"new"}


def test_a_removed_file_comes_back_whole(disk: LossyDisk) -> None:
    assert crash(disk, MADE + 'os.unlink(f"{folder}/a")') == {"a": b"0123456789"}


def test_nothing_is_lost_while_the_disk_is_not_lossy(disk: LossyDisk) -> None:
    disk.lossy = False
    assert crash(disk, 'a = make("a"); os.write(a, b"kept")') == {"a": b"kept"}


def test_syncs_can_be_slowed_down_while_the_server_runs(disk: LossyDisk) -> None:
    disk.set_sync_delay_ms(150)
    timed = (
        "import time; a = make('a'); began = time.monotonic(); os.fsync(a)\n"
        "os.write(a, b'%d' % ((time.monotonic() - began) * 1000)); os.fsync(a); os.fsync(directory)"
    )
    assert int(crash(disk, timed)["a"]) >= 150

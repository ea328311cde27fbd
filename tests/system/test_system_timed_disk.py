"""The timed file system."""

from __future__ import annotations

from pathlib import Path

from dqlite_py.system.timed_disk import TimedDisk


def test_only_syncs_below_the_directory_are_told(tmp_path: Path) -> None:
    seconds: list[float] = []
    disk = TimedDisk(f"{tmp_path}/raft", seconds.append)
    for directory in ("raft", "raft-not"):
        disk.mkdir(f"{tmp_path}/{directory}")
        file = disk.open(f"{tmp_path}/{directory}/file", create=True)
        file.pwrite(b"x", 0)
        file.fdatasync()
        file.close()
    assert len(seconds) == 1
    assert seconds[0] >= 0

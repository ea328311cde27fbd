"""A disk that fills up under a running server: it stops by name, and loses nothing it confirmed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.kit.etcd_client import Refused
from tests.kit.processes import Cluster, ServerProcess, eventually
from tests.kit.products import Dqlite, Options, under_test

pytestmark = pytest.mark.process

STOPPED_BY_ITS_DISK = 1
SMALL_MIB, LARGE_MIB = 22, 96
VALUE_BYTES = 20_000
MOST_PUTS = 3000
LESS_A_SEGMENT_BYTES = (SMALL_MIB << 20) - (17 << 20)
LEFT_BYTES = 200 << 10


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system can not be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few MiB: the first segment and one prepared ahead just fit."""
    if under_test().name != "dqlite":
        pytest.skip("about this project's own files")
    path = tmp_path / "small"
    path.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SMALL_MIB}m", "tmpfs", str(path))
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def room_bytes(path: Path) -> int:
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize


def value(number: int) -> bytes:
    return Random(number).randbytes(VALUE_BYTES)


def write_until_it_stops(server: ServerProcess) -> int:
    """Put keys one after the other; return how many were confirmed."""
    for number in range(MOST_PUTS):
        try:
            server.client.put(b"key %d" % number, value(number), timeout_s=10.0)
        except Refused:
            return number
    raise AssertionError("the disk did not fill up")


@pytest.mark.parametrize("full", ["by the log", "by a checkpoint"])
def test_a_full_disk_stops_the_server_and_takes_nothing_confirmed(
    small_disk: Path, full: str
) -> None:
    options = Options(snapshot_count=20 if full == "by a checkpoint" else None)
    ballast = small_disk / "ballast"
    with Cluster(Dqlite(), size=1, options=options, directory=small_disk) as cluster:
        server = cluster.members[0]
        server.start()
        if full == "by a checkpoint":
            eventually(lambda: room_bytes(small_disk) < LESS_A_SEGMENT_BYTES, "a spare segment")
            ballast.write_bytes(bytes(room_bytes(small_disk) - LEFT_BYTES))
        confirmed = write_until_it_stops(server)
        assert confirmed > 0
        assert server.wait_exit() == STOPPED_BY_ITS_DISK
        log = server.log().decode()
        assert "Traceback" not in log
        line = log.splitlines()[-1]
        assert line.startswith("dqlite-py: DiskFailed(path='"), line
        assert str(server.address.data_dir) in line
        # While the log fills the disk, a checkpoint may be the first to find it full.
        places = ("/db/",) if full == "by a checkpoint" else ("/raft/", "/db/", "/manifest")
        assert any(place in line for place in places), line

        mount("-o", f"remount,size={LARGE_MIB}m", str(small_disk))
        server.start()
        found = {pair.key: pair.value for pair in server.client.prefix(b"key ").kvs}
        for number in range(confirmed):
            assert found[b"key %d" % number] == value(number)
        assert len(found) <= confirmed + 1, "at most the unconfirmed one is there as well"
        assert server.terminate() == 0

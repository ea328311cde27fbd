"""The simulated disk keeps at a power cut what a real one may keep, and nothing else."""

from __future__ import annotations

from random import Random

import pytest

from tests.kit.disk import SECTOR_BYTES, SimulatedDisk
from tests.kit.sim_scenes import NothingSurvives

CONTENT = b"abcdefgh" * (3 * SECTOR_BYTES // 8)
PATH = "/d/file"


def disk_with(random: Random) -> SimulatedDisk:
    disk = SimulatedDisk(random)
    disk.mkdir("/d")
    return disk


def write(disk: SimulatedDisk, path: str = PATH, *, sync: bool) -> None:
    file = disk.open(path, create=True)
    file.pwrite(CONTENT, 0)
    if sync:
        file.fdatasync()


def sectors(content: bytes) -> set[bytes]:
    return {content[at : at + SECTOR_BYTES] for at in range(0, len(content), SECTOR_BYTES)}


def test_a_file_removed_before_any_sync_comes_back_as_uncertain_as_any_other() -> None:
    found: list[bytes | None] = []
    for seed in range(300):
        disk = disk_with(Random(seed))
        write(disk, sync=False)
        disk.unlink(PATH)
        disk.crash()
        files = disk.files()
        found.append(files.get(PATH))
        disk.crash()
        assert disk.files() == files, "a crash decides once"
    back = [content for content in found if content is not None]
    assert 0 < len(back) < len(found)
    for content in back:
        assert len(content) in (0, len(CONTENT))
        assert sectors(content) <= {CONTENT[:SECTOR_BYTES], bytes(SECTOR_BYTES)}
    assert b"" in back
    assert CONTENT in back
    assert bytes(len(CONTENT)) in back
    assert any(len(sectors(content)) == 2 for content in back)


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_the_worst_power_cut_leaves_what_was_synced(removed: bool, named: bool) -> None:
    disk = disk_with(NothingSurvives())
    write(disk, sync=True)
    if named:
        disk.sync_dir("/d")
    disk.open(PATH).pwrite(b"newer", 0)
    if removed:
        disk.unlink(PATH)
    disk.crash()
    assert disk.files() == ({PATH: CONTENT} if named else {})


def test_bytes_never_synced_are_gone_at_the_worst_power_cut_even_if_the_name_is_durable() -> None:
    disk = disk_with(NothingSurvives())
    write(disk, sync=False)
    disk.sync_dir("/d")
    disk.unlink(PATH)
    disk.crash()
    assert not any(disk.files()[PATH])  # the length may be there, as zeros


def test_a_rename_that_is_not_durable_leaves_the_old_or_the_new_file_whole() -> None:
    seen: set[bytes] = set()
    for seed in range(100):
        disk = disk_with(Random(seed))
        write(disk, sync=True)
        disk.sync_dir("/d")
        file = disk.open(f"{PATH}.tmp", create=True)
        file.pwrite(b"new", 0)
        file.fdatasync()
        disk.rename(f"{PATH}.tmp", PATH)
        disk.crash()
        seen.add(disk.files()[PATH])
    assert seen == {CONTENT, b"new"}


def test_a_directorys_removal_may_be_durable_for_some_of_its_files() -> None:
    seen: set[tuple[str, ...]] = set()
    directory_without_files = 0
    for seed in range(200):
        disk = disk_with(Random(seed))
        disk.mkdir("/d/sub")
        for name in ("/d/sub/a", "/d/sub/b"):
            write(disk, name, sync=True)
        disk.sync_dir("/d/sub")
        disk.rmtree("/d/sub")
        assert not disk.files()
        disk.crash()
        seen.add(tuple(disk.files()))
        directory_without_files += disk.exists("/d/sub") and not disk.files()
        if disk.files():
            assert disk.exists("/d/sub")
    assert seen == {(), ("/d/sub/a",), ("/d/sub/b",), ("/d/sub/a", "/d/sub/b")}
    assert 0 < directory_without_files < 200

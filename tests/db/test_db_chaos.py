"""Role changes, lost speculation, power cuts in checkpoints: all members stay byte-equal.

Two members share a log, here a list, in the place of Raft. Their files are on simulated disks that
tear what was not synced, sector by sector.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from dqlite_py.db.database import Database
from dqlite_py.db.position import BatchOutcome
from dqlite_py.vfs.frames import decode, encode
from tests.kit.dbfile import SimulatedMainFiles
from tests.kit.disk import PowerCut, SimulatedDisk
from tests.kit.replicated import HandClock, Workload, assert_equal, execute, image

FILE = "/data/one.sqlite"


class Member:
    """One member: a disk, a database, the index its file holds and the one it has applied."""

    def __init__(self, folder: Path, name: str, page_size: int, random: Random) -> None:
        self.page_size = page_size
        self.disk = SimulatedDisk(random)
        scratch = folder / name
        scratch.mkdir()
        self.files = SimulatedMainFiles(self.disk, str(scratch))
        self.disk.mkdir("/data")
        file = self.disk.open(FILE, create=True)
        file.pwrite(Database.create_genesis(page_size), 0)
        file.fdatasync()
        self.disk.sync_dir("/data")
        self.base = self.applied = 0
        self.open([])

    def open(self, log: list[bytes]) -> None:
        self.database = Database(
            FILE, page_size=self.page_size, clock=HandClock(), open_main_file=self.files,
            writer_cache_kib=64,
        )  # fmt: skip
        for entry in log[self.base :]:
            self.database.inject(decode(entry))
        self.applied = len(log)
        self.database.open_sql(readers=1)

    def catch_up(self, log: list[bytes]) -> None:
        for entry in log[self.applied :]:
            self.database.inject(decode(entry))
        self.applied = len(log)

    def crash(self, log: list[bytes]) -> None:
        self.database.close()
        self.disk.crash()
        self.open(log)


class Chaos:
    """The random course of one run."""

    def __init__(self, folder: Path, page_size: int, seed: int) -> None:
        self.random = Random(seed)
        self.log: list[bytes] = []
        self.members = [Member(folder, name, page_size, self.random) for name in ("a", "b")]
        self.leader, self.follower = self.members
        self.workload = Workload(self.random, largest_bytes=8000)
        self.pending: list[BatchOutcome] = []
        self.counts = dict.fromkeys(("commits", "rollbacks", "switches", "crashes", "torn"), 0)

    def run(self, steps: int) -> None:
        actions = [self.execute] * 12 + [self.commit] * 8 + [self.lose_leadership, self.checkpoint]
        actions += [self.checkpoint, self.crash_any, self.compare]
        for _ in range(steps):
            self.random.choice(actions)()
        self.commit_all()
        assert_equal(*(member.database for member in self.members))
        for member in self.members:
            member.database.close()

    def execute(self) -> None:
        if len(self.pending) < 2:
            outcome = execute(self.leader.database, *self.workload.batch(2))
            if outcome.batch is not None:
                self.pending.append(outcome)

    def commit(self) -> None:
        if self.pending:
            outcome = self.pending.pop(0)
            assert outcome.batch is not None
            self.log.append(encode(outcome.batch))
            self.leader.database.set_committed(outcome.position)
            self.leader.applied += 1
            self.counts["commits"] += 1
            if self.random.random() < 0.7:
                self.follower.catch_up(self.log)

    def commit_all(self) -> None:
        while self.pending:
            self.commit()
        self.follower.catch_up(self.log)

    def lose_leadership(self) -> None:
        if self.pending:
            self.counts["rollbacks"] += 1
        self.pending.clear()
        self.leader.database.rollback_to_committed()
        self.follower.catch_up(self.log)
        self.leader, self.follower = self.follower, self.leader
        self.counts["switches"] += 1

    def checkpoint(self) -> None:
        member = self.random.choice(self.members)
        if member.database.speculative:
            return
        base = member.applied
        if self.random.random() < 0.5:
            member.disk.cut_power_at = member.disk.changes + self.random.randrange(0, 60)
        try:
            if member.database.checkpoint().complete:
                member.base = base
        except PowerCut:
            self.counts["torn"] += 1
            self.crash(member)
        member.disk.cut_power_at = None

    def crash_any(self) -> None:
        self.crash(self.random.choice(self.members))

    def crash(self, member: Member) -> None:
        if member is self.leader:
            self.pending.clear()
        member.crash(self.log)
        self.counts["crashes"] += 1

    def compare(self) -> None:
        if not self.pending:
            self.follower.catch_up(self.log)
            assert image(self.leader.database) == image(self.follower.database)
            assert self.leader.database.integrity_check() == []


@pytest.mark.parametrize("page_size", [512, 4096])
@pytest.mark.parametrize("seed", [1, 2])
def test_members_stay_equal_through_chaos(tmp_path: Path, page_size: int, seed: int) -> None:
    chaos = Chaos(tmp_path, page_size, seed)
    chaos.run(500)
    print(f"seed {seed}: {chaos.counts}")
    assert all(chaos.counts.values()), "the run met none of one kind"


@pytest.mark.long
@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
@pytest.mark.parametrize("seed", range(100, 110))
def test_members_stay_equal_through_long_chaos(tmp_path: Path, page_size: int, seed: int) -> None:
    chaos = Chaos(tmp_path, page_size, seed)
    chaos.run(5000)
    print(f"seed {seed}: {chaos.counts}")

"""Small gaps of the rule tests that hand-made breakages showed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dqlite_py.db.database import CheckpointResult
from dqlite_py.errors import CorruptFile
from dqlite_py.node.hosted import Speculation
from dqlite_py.node.startup import check_base
from dqlite_py.storage.datadir import DataDir
from tests.kit.disk import SimulatedDisk
from tests.kit.sim_cluster import SimCluster
from tests.kit.sim_scenes import assert_identical, leader_of, play, put_many


def test_a_commit_index_one_below_the_base_is_refused() -> None:
    datadir = DataDir.open(SimulatedDisk(random.Random(1)), "/d")
    check_base(datadir, "etcd", 8, 8)
    with pytest.raises(CorruptFile, match="commit index 7 is below the base 8 of database etcd"):
        check_base(datadir, "etcd", 8, 7)


def test_only_the_entry_of_this_very_term_and_index_needs_no_injection(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        hosted = leader_of(cluster).parts.databases.hosted[0]
        own = Speculation(3, 100, hosted.db.position(), b"", hosted.batch_number)
        hosted.speculation.append(own)
        try:
            assert hosted.take_speculated(4, 100) is None
            assert hosted.take_speculated(3, 101) is None
            assert list(hosted.speculation) == [own]
        finally:
            hosted.speculation.clear()

    play(tmp_path, scene)


def test_a_checkpoint_that_is_not_complete_moves_neither_base_nor_log(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put_many(leader, "before", 40)
        await leader.replica.checkpoint()
        (hosted,) = leader.parts.databases.hosted
        checkpoint = hosted.db.checkpoint
        started = []

        def pinned(on_limit_fixed: object = None) -> CheckpointResult:
            """Return what a reader on an old snapshot makes of a checkpoint."""
            started.append(1)
            found = checkpoint(on_limit_fixed)  # type: ignore[arg-type]
            return CheckpointResult(False, found.frames)

        hosted.db.checkpoint = pinned  # type: ignore[method-assign]
        kept = hosted.base, leader.parts.storage.first_index(), leader.parts.changes.trims
        await put_many(leader, "after", 60)
        await cluster.wait_for(lambda: len(started) > 1, "several attempts")
        assert kept == (
            hosted.base,
            leader.parts.storage.first_index(),
            leader.parts.changes.trims,
        )
        hosted.db.checkpoint = checkpoint  # type: ignore[method-assign]
        await leader.replica.checkpoint()
        assert leader.parts.storage.first_index() > kept[1]
        await assert_identical(cluster)

    play(tmp_path, scene)

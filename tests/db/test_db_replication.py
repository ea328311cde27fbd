"""A follower that is fed frames alone holds the same bytes as the leader."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import KeyNotFound
from tests.kit.replicated import (
    PAGE_SIZES,
    Workload,
    assert_equal,
    create,
    execute,
    image,
    replicate,
    statement,
    travelled,
)


def run_workload(folder: Path, page_size: int, seed: int, batches: int) -> None:
    random = Random(seed)
    # A cache of few pages spills: pages reach the WAL before COMMIT, and some twice.
    leader = create(folder, "leader", page_size, writer_cache_kib=32)
    follower = create(folder, "follower", page_size)
    workload = Workload(random)
    for number in range(batches):
        outcome = execute(leader, *workload.batch())
        assert {type(result) for result in outcome.results} <= {type(None), KeyNotFound}
        if outcome.batch is not None:
            assert len({page for page, _ in outcome.batch.pages}) == len(outcome.batch.pages)
            leader.set_committed(outcome.position)
            follower.inject(travelled(outcome.batch))
        if random.random() < 0.08:
            random.choice((leader, follower)).checkpoint()
        if random.random() < 0.05:
            random.choice((leader, follower)).restart_wal()
        if random.random() < 0.02:
            vacuum(leader, follower)
        if number % 25 == 0:
            assert image(leader) == image(follower)
    assert_equal(leader, follower)
    for database in (leader, follower):
        assert database.checkpoint().complete
        assert database.restart_wal()
    assert_equal(leader, follower)
    leader.close()
    follower.close()
    # The byte counters of page 1 differ in nothing: whole files are equal after a checkpoint.
    assert (folder / "leader.sqlite").read_bytes() == (folder / "follower.sqlite").read_bytes()


def vacuum(leader: Database, follower: Database) -> None:
    batch = leader.execute_alone("VACUUM")
    if batch is not None:
        leader.set_committed(leader.position())
        follower.inject(travelled(batch))


@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_random_workload_gives_equal_bytes(tmp_path: Path, page_size: int) -> None:
    run_workload(tmp_path, page_size, seed=page_size, batches=120)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("page_size", PAGE_SIZES)
def test_long_random_workload_gives_equal_bytes(tmp_path: Path, page_size: int, seed: int) -> None:
    run_workload(tmp_path, page_size, seed=seed, batches=600)


@pytest.mark.parametrize("mode", [1, 2])
def test_auto_vacuum_gives_equal_bytes(tmp_path: Path, mode: int) -> None:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    assert leader.execute_alone(f"PRAGMA auto_vacuum={mode}") is None
    vacuum(leader, follower)
    make = statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b BLOB)")
    fill = statement("INSERT INTO t(b) VALUES(zeroblob(300000))")
    replicate(leader, [follower], make, fill, fill)
    size_bytes = follower.size_bytes
    replicate(leader, [follower], statement("DELETE FROM t WHERE a = 1"))
    replicate(leader, [follower], statement("PRAGMA incremental_vacuum"))
    assert leader.read(statement("PRAGMA auto_vacuum")) == [(mode,)]
    assert follower.size_bytes < size_bytes - 250_000
    assert_equal(leader, follower)
    assert follower.checkpoint().complete
    assert_equal(leader, follower)
    leader.close()
    follower.close()


def test_a_vacuum_shrinks_the_follower_too(tmp_path: Path) -> None:
    leader, follower = create(tmp_path, "leader"), create(tmp_path, "follower")
    fill = statement("INSERT INTO t VALUES(zeroblob(500000))")
    replicate(leader, [follower], statement("CREATE TABLE t(a)"), fill)
    replicate(leader, [follower], statement("DELETE FROM t"))
    vacuum(leader, follower)
    assert follower.size_bytes == leader.size_bytes <= 3 * 4096
    assert follower.checkpoint().complete
    assert (tmp_path / "follower.sqlite").stat().st_size == follower.size_bytes
    assert_equal(leader, follower)
    leader.close()
    follower.close()


def test_the_wal_index_grows_past_two_regions(tmp_path: Path) -> None:
    leader, follower = create(tmp_path, "leader", 512), create(tmp_path, "follower", 512)
    replicate(leader, [follower], statement("CREATE TABLE t(a INTEGER PRIMARY KEY, b)"))
    # 4062 frames fill the first region, 8158 the first two: commits end on, before and behind both.
    for frames_wanted in (4061, 4062, 4063, 8157, 8158, 8159, 13_000):
        while True:
            missing = frames_wanted - leader.position().max_frame
            if missing <= 0:
                break
            insert = statement(
                "INSERT INTO t(b) VALUES(randomblob(?))", (400 * min(200, max(1, missing - 4)),)
            )
            replicate(leader, [follower], insert)
        assert follower.position().max_frame == leader.position().max_frame
        assert image(leader) == image(follower)
    outcome = execute(leader, statement("UPDATE t SET b = zeroblob(length(b))"))
    assert outcome.batch is not None
    assert leader.rollback_to_committed().max_frame == follower.position().max_frame
    assert_equal(leader, follower)
    leader.close()
    follower.close()

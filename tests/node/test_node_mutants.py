"""Small gaps of the rule tests that hand-made breakages showed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dqlite_py.db.database import CheckpointResult
from dqlite_py.errors import CorruptFile, DiskFailed
from dqlite_py.node.hosted import Speculation
from dqlite_py.node.read_index import ReadBarrier
from dqlite_py.node.startup import check_base
from dqlite_py.pb import rpc_pb2
from dqlite_py.raft import Message, MessageKind
from dqlite_py.raft.election import TRANSFER_CONTEXT
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import DataDir
from dqlite_py.storage.raft_storage import RaftStorage
from tests.kit.disk import SimulatedDisk
from tests.kit.loop import SimClock
from tests.kit.sim_cluster import SMALL_STORAGE, SimCluster, SimReplica
from tests.kit.sim_scenes import (
    NothingSurvives,
    assert_identical,
    isolate,
    leader_of,
    others_than,
    play,
    put,
    put_many,
    slow_down,
    version_of,
)


async def leave_behind(cluster: SimCluster) -> SimReplica:
    """Crash a follower and let the leader trim its log beyond it."""
    leader = leader_of(cluster)
    behind = others_than(cluster, leader)[0]
    await behind.crash()
    await put_many(leader, "k", 60)
    await leader.replica.checkpoint()
    assert leader.parts.storage.first_index() > behind.replica.applied_index + 1
    return behind


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


def test_a_slow_installation_is_not_acknowledged_ahead(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        acknowledged: list[int] = []

        def observe(operation: str, path: str) -> OSError | None:
            if operation == "rename" and path.startswith(f"{behind.path}/manifest"):
                acknowledged.append(leader.parts.raw.progress[behind.number].match)
            return None

        behind.disk.fault = observe
        await behind.start()
        slow_down(behind, "files", 0.3)  # much longer than a message takes
        await cluster.wait_for(lambda: behind.parts.sink.received, "a snapshot arrived")
        await assert_identical(cluster)
        assert acknowledged
        assert acknowledged[0] < behind.parts.storage.first_index() - 1

    play(tmp_path, scene)


def test_frames_that_come_while_an_image_is_copied_are_not_in_it(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)
        undo = slow_down(leader, "files", 0.1)  # between the checkpoint and the copy
        await behind.start()
        number = 0
        while not behind.parts.sink.received:
            await put(leader, b"meanwhile", str(number).encode())
            await asyncio.sleep(0.005)
            number += 1
        undo()
        await assert_identical(cluster)

    play(tmp_path, scene)


def test_a_read_round_alone_does_not_answer_what_rests_on_an_uncommitted_batch(
    tmp_path: Path,
) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put(leader, b"k", b"old")
        for member in others_than(cluster, leader):
            slow_down(member, "raft-log", 0.2)  # heartbeats are answered long before appends
        writing = asyncio.create_task(put(leader, b"k", b"new"))
        pipeline = leader.parts.leadership.pipeline
        assert pipeline is not None
        await cluster.wait_for(lambda: len(pipeline._batches) == 1, "a batch in flight")
        unequal = rpc_pb2.Compare(key=b"k", target=rpc_pb2.Compare.VALUE, value=b"old")
        change = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k"))
        request = rpc_pb2.TxnRequest(compare=[unequal], success=[change])
        (hosted,) = leader.parts.databases.hosted
        below = hosted.batch_number
        crowd = cluster.limits.overlap_commands_min  # fewer would wait for the batch below
        comparing = [asyncio.create_task(leader.kv.txn(request)) for _ in range(crowd)]
        await cluster.wait_for(lambda: hosted.batch_number > below, "they run on top of it")
        assert not writing.done()
        await asyncio.wait(comparing, return_when=asyncio.FIRST_COMPLETED)
        assert writing.done()
        assert not any([(await each).succeeded for each in comparing])

    play(tmp_path, scene)


def test_a_batch_has_its_number_before_readers_can_see_it(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        (hosted,) = leader.parts.databases.hosted
        execute, numbers = hosted.db.execute_batch, []

        def observed(*args: Any, **options: Any) -> Any:
            numbers.append(hosted.batch_number)
            return execute(*args, **options)

        before = hosted.batch_number
        hosted.db.execute_batch = observed  # type: ignore[method-assign]
        await put(leader, b"k")
        assert numbers == [before + 1]

    play(tmp_path, scene)


def test_a_read_waits_for_a_round_begun_after_it_came_and_until_that_is_applied() -> None:
    async def scene() -> None:
        begun: list[bytes] = []
        applied: list[tuple[int, Callable[[], None]]] = []
        barrier = ReadBarrier(
            SimClock(asyncio.get_running_loop()),
            prefix=b"p",
            timeout_s=5.0,
            begin=begun.append,
            when_applied=lambda index, callback: applied.append((index, callback)),
        )
        answered: list[str] = []
        barrier.join(lambda _: answered.append("early"))
        await asyncio.sleep(0)
        assert len(begun) == 1
        barrier.join(lambda _: answered.append("late"))
        barrier.confirmed(begun[0], 7)
        assert answered == []
        (index, callback) = applied.pop()
        assert index == 7
        callback()
        assert answered == ["early"]
        assert len(begun) == 2
        barrier.confirmed(begun[1], 8)
        applied.pop()[1]()
        assert answered == ["early", "late"]

    asyncio.run(scene())


def test_nothing_is_committed_before_the_followers_disks_have_it(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        for member in others_than(cluster, leader):
            slow_down(member, "raft-log", 0.2)
        writing = asyncio.create_task(put(leader, b"k"))
        await asyncio.sleep(0.15)
        assert leader.parts.raw.last_index > leader.parts.raw.commit
        assert not writing.done()
        await writing

    play(tmp_path, scene)


def test_a_vote_in_a_term_that_was_known_already_survives_a_power_cut(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        voter, candidate = others_than(cluster, leader)
        isolate(cluster, voter)
        raw, driver = voter.parts.raw, voter.parts.driver
        asked = Message(
            MessageKind.VOTE, to=voter.number, term=raw.term + 1, context=TRANSFER_CONTEXT
        )
        driver.step(replace(asked, from_=leader.number))  # its log is too short
        await asyncio.sleep(0.05)
        assert (raw.term, raw.vote) == (asked.term, 0)
        driver.step(replace(asked, from_=candidate.number, log_term=asked.term, index=1000))
        assert raw.vote == candidate.number
        await asyncio.sleep(0.05)
        await voter.crash()
        manifest = manifests.load(voter.disk, voter.path)
        assert manifest is not None
        storage = RaftStorage.open(voter.disk, f"{voter.path}/raft", manifest, SMALL_STORAGE)
        hard_state, _ = storage.initial_state()
        storage.close()
        assert (hard_state.term, hard_state.vote) == (asked.term, candidate.number)

    play(tmp_path, scene)


def test_a_new_database_survives_a_power_cut(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        await put(leader, b"k")  # it is created, and never checkpointed yet
        for member in cluster.members:
            await cluster.wait_for(lambda m=member: m.parts.primary is not None, "it has that")
            member.disk._random = NothingSurvives()
            await member.crash()
            member.disk._random = random.Random(1)
        await assert_identical(cluster)
        assert await version_of(leader_of(cluster), b"k") == 1

    play(tmp_path, scene)


def test_a_snapshot_that_can_not_be_installed_is_never_acknowledged(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        behind = await leave_behind(cluster)
        leader = leader_of(cluster)

        def fault(operation: str, path: str) -> OSError | None:
            switches = operation == "rename" and path.startswith(f"{behind.path}/manifest")
            return OSError(5, "I/O") if switches else None

        behind.disk.fault = fault
        await behind.start()
        await cluster.wait_for(lambda: behind.parts.sink.received, "a snapshot arrived")
        await asyncio.sleep(0.5)
        sent = leader.parts.snapshots.floor
        assert sent is not None
        assert leader.parts.raw.progress[behind.number].match < sent
        assert isinstance(behind.stopped_by, DiskFailed)
        behind.disk.fault = None
        await assert_identical(cluster)

    play(tmp_path, scene)

"""What a hostile reading of the replica found; each was a defect once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dqlite_py.errors import CorruptFile, DqliteError, RequestTimeout
from dqlite_py.node.read_index import ReadBarrier
from dqlite_py.raft import Message, MessageKind
from tests.kit.loop import SimClock, run_virtual
from tests.kit.sim_cluster import SMALL_LIMITS, SimCluster
from tests.kit.sim_scenes import leader_of, others_than, play, put, put_many


def test_a_snapshot_and_the_append_behind_it_arrive_in_one_turn(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        follower = others_than(cluster, leader)[0]
        await follower.crash()
        await put_many(leader, "while away", 300)
        await cluster.wait_for(lambda: leader.parts.storage.first_index() > 100, "trimming")
        await follower.start()
        step = follower.parts.driver.step
        pairs = []

        def step_both(message: Message) -> None:
            step(message)
            if message.kind is MessageKind.SNAP and follower.parts.raw.has_unstable_snapshot:
                assert message.snapshot is not None
                index, term = message.snapshot.index, message.snapshot.term
                log = leader.parts.storage
                if log.last_index() == index:
                    return
                pairs.append(index)
                step(
                    replace(
                        message,
                        kind=MessageKind.APP,
                        snapshot=None,
                        log_term=term,
                        index=index,
                        entries=tuple(log.entries(index + 1, index + 2, 1 << 20)),
                        commit=index,
                    )
                )

        follower.parts.driver.step = step_both  # type: ignore[method-assign]
        while not pairs:
            await put(leader, b"meanwhile")
        await cluster.wait_for(
            lambda: follower.replica.applied_index == leader.replica.applied_index, "catching up"
        )
        assert follower.stopped_by is None

    play(tmp_path, scene)


def test_an_error_in_a_callback_stops_the_replica(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        propose = leader.parts.raw.propose

        def propose_and_fail(datas: Sequence[bytes]) -> None:
            propose(datas)
            raise CorruptFile(path="segment", detail="an entry for a follower is damaged")

        leader.parts.raw.propose = propose_and_fail  # type: ignore[method-assign]
        with pytest.raises((DqliteError, TimeoutError)):
            async with asyncio.timeout(20):
                await put(leader, b"a")
        assert isinstance(leader.stopped_by, CorruptFile)
        await leader.crash()

    play(tmp_path, scene)


def test_writers_go_on_when_the_hard_limit_ends(tmp_path: Path) -> None:
    async def scene(cluster: SimCluster) -> None:
        leader = leader_of(cluster)
        loop = asyncio.get_running_loop()
        slowest_s = 0.0
        for number in range(300):
            began_s = loop.time()
            await put(leader, b"%d" % number, bytes(3000))
            slowest_s = max(slowest_s, loop.time() - began_s)
        assert leader.parts.checkpointer.completed > 2
        assert slowest_s < 1.0

    limits = replace(SMALL_LIMITS, checkpoint_soft_bytes=64 << 10, checkpoint_hard_bytes=64 << 10)
    play(tmp_path, scene, limits=limits)


def _barrier(
    loop: asyncio.AbstractEventLoop, waiting: list[Callable[[], None]]
) -> tuple[ReadBarrier, asyncio.Task[None]]:
    def begin(context: bytes) -> None:
        loop.call_soon(barrier.confirmed, context, 10)

    barrier = ReadBarrier(
        SimClock(loop),
        prefix=b"reader",
        timeout_s=7.0,
        begin=begin,
        when_applied=lambda _index, callback: waiting.append(callback),
    )
    return barrier, asyncio.ensure_future(barrier.wait())  # type: ignore[return-value]


def test_a_confirmed_read_that_is_never_applied_times_out() -> None:
    async def scene() -> None:
        waiting: list[Callable[[], None]] = []
        barrier, reading = _barrier(asyncio.get_running_loop(), waiting)
        for _ in range(80):
            await asyncio.sleep(0.1)
            barrier.check()
        assert waiting
        with pytest.raises(RequestTimeout):
            await reading
        waiting[0]()  # late, and harmless

    run_virtual(scene)


def test_a_confirmed_read_ends_with_the_replica() -> None:
    async def scene() -> None:
        waiting: list[Callable[[], None]] = []
        barrier, reading = _barrier(asyncio.get_running_loop(), waiting)
        await asyncio.sleep(0.1)
        assert waiting
        barrier.fail(RequestTimeout())
        with pytest.raises(RequestTimeout):
            await reading

    run_virtual(scene)

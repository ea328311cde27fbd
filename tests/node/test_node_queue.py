"""The pipeline's queue by itself: what is refused, what ends unanswered, what fails the replica."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dqlite_py.db.database import BatchOutcome
from dqlite_py.errors import (
    BatchTooLarge,
    InvariantBroken,
    RequestTimeout,
    RequestTooLarge,
    TooManyRequests,
)
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.pipeline import Pipeline
from tests.kit.loop import run_virtual

LIMITS = replace(ReplicaLimits(), queue_commands_max=2, queue_bytes_max=100, batch_bytes_max=10)


class Writer:
    """Runs no SQL: each batch changes nothing, or fails as told."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.sizes: list[int] = []
        self.held: asyncio.Event | None = None

    async def run(self, job: Callable[[], Any]) -> Any:
        if self.held is not None:
            await self.held.wait()
        if self.error is not None:
            raise self.error
        return job()


class World:
    """A pipeline that leads, on a database and a replica that only take notes."""

    def __init__(self) -> None:
        self.writer = Writer()
        self.failures: list[BaseException] = []
        self.now_s = 0.0
        self.room = True
        database = SimpleNamespace(execute_batch=self.execute)
        hosted = SimpleNamespace(
            speculation=deque(), rolling_back=False, last_frames=0, batch_number=0, db=database,
            writer=self.writer, record=SimpleNamespace(creation_index=1), settle=lambda _: None,
        )  # fmt: skip
        proposer = SimpleNamespace(
            has_room=lambda: self.room, after_read_round=lambda done: done(None),
            failed=self.failures.append,
        )  # fmt: skip
        machine = SimpleNamespace(mark=None, restore=None, open=lambda _: None,
                                  execute=lambda session, command: command)  # fmt: skip
        clock = SimpleNamespace(now_s=lambda: self.now_s)
        self.pipeline = Pipeline(hosted, machine, LIMITS, clock, proposer)  # type: ignore[arg-type]

    def execute(self, jobs: list[Callable[[Any], Any]], **_: Any) -> BatchOutcome:
        self.writer.sizes.append(len(jobs))
        return SimpleNamespace(batch=None, results=[job(None) for job in jobs])  # type: ignore[return-value]

    async def lead(self) -> None:
        opened = asyncio.Event()
        self.pipeline.start(1, opened.set)
        await opened.wait()
        self.writer.sizes.clear()
        self.pipeline.close_gate()


def run(course: Callable[[World], Any]) -> None:
    async def main() -> None:
        world = World()
        await world.lead()
        await course(world)

    run_virtual(main, limit_s=60)


def test_full_queue_refuses_by_count_and_by_bytes() -> None:
    async def course(world: World) -> None:
        with pytest.raises(TooManyRequests):
            world.pipeline.submit("a", 101)
        answers = [world.pipeline.submit("a", 1), world.pipeline.submit("b", 1)]
        with pytest.raises(TooManyRequests):
            world.pipeline.submit("c", 1)
        world.pipeline.open_gate()
        assert [await answer for answer in answers] == ["a", "b"]

    run(course)


def test_command_that_waited_too_long_ends_without_having_run() -> None:
    async def course(world: World) -> None:
        old = world.pipeline.submit("old", 60)
        world.now_s = LIMITS.request_timeout_s / 2
        young = world.pipeline.submit("young", 40)
        world.now_s = LIMITS.request_timeout_s + 1
        world.pipeline.expire()
        with pytest.raises(RequestTimeout):
            await old
        other = world.pipeline.submit("other", 60)  # its bytes were given back
        world.pipeline.open_gate()
        assert [await young, await other] == ["young", "other"]

    run(course)


def test_batch_ends_before_the_command_that_would_make_it_too_large() -> None:
    async def course(world: World) -> None:
        answers = [world.pipeline.submit("a", 6), world.pipeline.submit("b", 6)]
        world.pipeline.open_gate()
        assert [await answer for answer in answers] == ["a", "b"]
        assert world.writer.sizes == [1, 1]

    run(course)


def test_command_whose_caller_has_gone_does_not_run() -> None:
    async def course(world: World) -> None:
        gone = world.pipeline.submit("gone", 1)
        gone.cancel()
        world.pipeline.open_gate()
        await asyncio.sleep(1)
        assert world.writer.sizes == []
        assert await world.pipeline.submit("next", 1) == "next"

    run(course)


def test_command_too_large_for_an_entry_is_refused_alone() -> None:
    async def course(world: World) -> None:
        world.writer.error = BatchTooLarge()
        large = world.pipeline.submit("large", 1)
        world.pipeline.open_gate()
        with pytest.raises(RequestTooLarge):
            await large
        world.writer.error = None
        assert await world.pipeline.submit("small", 1) == "small"
        assert world.failures == []

    run(course)


@pytest.mark.parametrize("stopped", [False, True])
def test_error_under_a_batch_fails_the_replica_even_after_leadership_ended(stopped: bool) -> None:
    async def course(world: World) -> None:
        error = InvariantBroken(detail="the file contradicts itself")
        world.writer.error, world.writer.held = error, asyncio.Event()
        world.pipeline.submit("a", 1).add_done_callback(lambda done: done.exception())
        world.pipeline.open_gate()
        await asyncio.sleep(0.1)
        if stopped:
            world.pipeline.stop()
        world.writer.held.set()
        await asyncio.sleep(0.1)
        assert world.failures == [error]

    run(course)


def test_batches_that_fail_to_begin_fail_the_replica() -> None:
    async def course(world: World) -> None:
        error = InvariantBroken(detail="no room to ask for")

        def ask() -> bool:
            raise error

        world.pipeline._proposer.has_room = ask  # type: ignore[method-assign]
        world.pipeline.open_gate()
        assert world.failures == [error]

    run(course)


def test_nobody_waits_for_a_drain_that_was_given_up() -> None:
    async def course(world: World) -> None:
        world.writer.held = asyncio.Event()
        answer = world.pipeline.submit("a", 1)
        world.pipeline.open_gate()
        given_up, kept = world.pipeline.drained(), world.pipeline.drained()
        given_up.cancel()
        world.writer.held.set()
        await kept
        assert await answer == "a"

    run(course)

"""Answers that come after their request has ended, and failures that meet one another."""

from __future__ import annotations

import asyncio

import pytest

from dqlite_py.errors import DiskFailed, InvariantBroken, NotLeader
from dqlite_py.node.owned_tasks import OwnedTasks
from dqlite_py.node.requests import fail, settle
from tests.kit.loop import run_virtual


def test_a_request_is_answered_once() -> None:
    async def main() -> None:
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        settle(answer, 1)
        settle(answer, 2)
        fail(answer, NotLeader())
        assert await answer == 1
        given_up: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        given_up.cancel()
        settle(given_up, 1)
        fail(given_up, NotLeader())
        assert given_up.cancelled()

    run_virtual(main, limit_s=10)


def test_the_first_failure_is_the_one_that_counts() -> None:
    async def main() -> None:
        tasks = OwnedTasks()
        tasks.fail(InvariantBroken(detail="first"))
        tasks.fail(InvariantBroken(detail="second"))
        async with asyncio.TaskGroup() as group:
            tasks.bind(group)
            with pytest.raises(InvariantBroken, match="first"):
                await tasks.failure()
            tasks.fail(InvariantBroken(detail="third"))

    run_virtual(main, limit_s=10)


def test_a_failed_disk_under_a_request_stops_the_replica_too() -> None:
    async def main() -> None:
        tasks = OwnedTasks()
        async with asyncio.TaskGroup() as group:
            tasks.bind(group)
            with pytest.raises(DiskFailed), tasks.stopping():
                raise DiskFailed(path="/d", detail="gone")
            with pytest.raises(DiskFailed):
                await tasks.failure()
            with pytest.raises(NotLeader), tasks.stopping():
                raise NotLeader

    run_virtual(main, limit_s=10)

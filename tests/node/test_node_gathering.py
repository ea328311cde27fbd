"""When commands wait for others to share an entry."""

from __future__ import annotations

import asyncio

from dqlite_py.node.gathering import Gathering
from dqlite_py.node.limits import ReplicaLimits
from tests.kit.loop import run_virtual

LIMITS = ReplicaLimits(overlap_commands_min=40, gather_s=0.003)


def test_a_few_clients_never_wait_but_on_top_of_a_batch() -> None:
    gathering = Gathering(LIMITS, lambda: None)
    gathering.took(4)
    assert not gathering.waits(1, on_top=False)
    assert gathering.waits(39, on_top=True)
    assert not gathering.waits(40, on_top=True)


def test_many_clients_are_waited_for_until_they_are_there_or_the_moment_is_over() -> None:
    async def scene() -> None:
        pumped = []
        gathering = Gathering(LIMITS, lambda: pumped.append(asyncio.get_running_loop().time()))
        gathering.took(30)
        assert not gathering.waits(30, on_top=False)
        assert gathering.waits(5, on_top=False)
        assert gathering.waits(6, on_top=False)
        await asyncio.sleep(0.01)
        assert pumped == [LIMITS.gather_s]
        assert not gathering.waits(6, on_top=False)
        assert gathering.waits(6, on_top=False), "each batch has its own moment"

    run_virtual(scene)


def test_the_moment_of_a_batch_that_went_earlier_is_not_the_next_ones() -> None:
    async def scene() -> None:
        pumped: list[None] = []
        gathering = Gathering(LIMITS, lambda: pumped.append(None))
        gathering.took(64)
        assert gathering.waits(1, on_top=False)
        assert not gathering.waits(64, on_top=False), "the crowd is there before the moment ends"
        gathering.took(64)
        await asyncio.sleep(0.01)
        assert pumped == []
        assert gathering.waits(1, on_top=False)

    run_virtual(scene)


def test_who_is_left_of_a_crowd_waits_a_few_times_only() -> None:
    async def scene() -> None:
        gathering = Gathering(LIMITS, lambda: None)
        gathering.took(64)
        waited = 0
        for _ in range(20):
            if gathering.waits(1, on_top=False):
                waited += 1
                await asyncio.sleep(0.01)
                assert not gathering.waits(1, on_top=False)
            gathering.took(1)
        assert waited == 3, "64, 32 and 16 were worth it, fewer than 8 are not"

    run_virtual(scene)


def test_a_crowd_that_comes_late_is_waited_for_all_the_same() -> None:
    async def scene() -> None:
        gathering = Gathering(LIMITS, lambda: None)
        gathering.took(64)
        for _ in range(20):
            assert gathering.waits(20, on_top=False)
            await asyncio.sleep(0.01)
            assert not gathering.waits(20, on_top=False)
            gathering.took(20)

    run_virtual(scene)


def test_a_crowd_that_has_gone_is_forgotten_in_time() -> None:
    gathering = Gathering(LIMITS, lambda: None)
    gathering.took(60)
    for _ in range(500):
        gathering.took(1)
    assert not gathering.waits(1, on_top=False)

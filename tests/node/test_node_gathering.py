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


def test_a_crowd_that_has_gone_is_forgotten_in_time() -> None:
    gathering = Gathering(LIMITS, lambda: None)
    gathering.took(60)
    for _ in range(500):
        gathering.took(1)
    assert not gathering.waits(1, on_top=False)

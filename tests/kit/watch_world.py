"""A watch hub over a fake store on virtual time, with its clients."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from dqlite_py.watch.hub import WatchHub, WatchLimits
from tests.kit.loop import run_virtual
from tests.kit.watching import FakeStore, SlowReplica, WatchClient

SETTLE_S = 5.0  # virtual; long enough for anything that is going to happen
EVERYTHING = (b"\x00", b"\x00")


class World:
    """A hub over a fake store, and its clients."""

    def __init__(self, group: asyncio.TaskGroup, limits: WatchLimits) -> None:
        self.store = FakeStore()
        self.replica = SlowReplica()
        self.group = group
        self.hub = WatchHub(self.replica, self.store, self.store, limits, random.Random(1))
        self.store.told.append(self.hub.advanced)
        self.running = group.create_task(self.hub.run())
        self.streams: list[asyncio.Task[None]] = []

    def client(self) -> WatchClient:
        client = WatchClient(self.hub)
        self.streams.append(self.group.create_task(client.run()))
        return client

    async def settle(self) -> None:
        await asyncio.sleep(SETTLE_S)


def watching(
    scenario: Callable[[World], Awaitable[None]], limits: WatchLimits | None = None
) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            world = World(group, limits or WatchLimits())
            await scenario(world)
            for task in [world.running, *world.streams]:
                task.cancel()

    run_virtual(main)

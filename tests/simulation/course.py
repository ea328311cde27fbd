"""One seed from start to verdict."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, field
from pathlib import Path

from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.loop import run_virtual
from tests.simulation.changes import MembershipChanges
from tests.simulation.clients import Clients
from tests.simulation.consensus import require
from tests.simulation.coverage import Coverage
from tests.simulation.nemesis import Nemesis
from tests.simulation.tenants import FASTEST_CLOCK, Tenants
from tests.simulation.watchers import Watcher
from tests.simulation.world import World

_WATCHERS = 6
_PATIENCE = 3.0  # times the duration, for clients that were held up
_LEASES_END_S = 30.0
_WATCHERS_END_S = 60.0


@dataclass(slots=True)
class Outcome:
    """What one seed gave."""

    seed: int
    coverage: Coverage = field(default_factory=Coverage)
    failure: str = ""
    transcript: list[str] = field(default_factory=list)
    fingerprint: tuple[int, int, float] = (0, 0, 0.0)  # revisions, log entries, virtual seconds


def simulate(
    seed: int, folder: Path, *, virtual_seconds: float = 60.0, operations: int = 2000
) -> Outcome:
    """Run one seed; ``folder`` must not exist and holds a few small scratch files."""
    folder.mkdir(parents=True)
    outcome = Outcome(seed)
    worlds: list[World] = []

    async def main() -> None:
        world = World(seed, folder)
        worlds.append(world)
        outcome.coverage = world.coverage
        try:
            await _course(world, virtual_seconds, operations)
        finally:
            world.over = True
            # Nothing may be left running: what it would do then says nothing.
            for member in world.members:
                if member.up:
                    await member.crash()
        loop = asyncio.get_running_loop()
        outcome.fingerprint = (world.history.revision, world.consensus.last_committed, loop.time())

    try:
        run_virtual(main, limit_s=virtual_seconds * 5 + 900)
    except Exception as error:
        outcome.failure = _told(error)
        outcome.transcript = worlds[0].transcript() if worlds else []
    return outcome


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return "".join(traceback.format_exception(error)[-40:])


async def _course(world: World, duration_s: float, operations: int) -> None:
    """Run everything side by side; a violation ends it all."""
    loop = asyncio.get_running_loop()
    work = loop.create_task(_work(world, duration_s, operations))
    await asyncio.wait([work, world.broken], return_when=asyncio.FIRST_COMPLETED)
    if world.broken.done():
        work.cancel()
        await asyncio.wait([work])
        world.broken.result()
    world.broken.cancel()
    work.result()


async def _work(world: World, duration_s: float, operations: int) -> None:
    await world.start()
    await world.wait_for(lambda: world.leader, "a first leader")
    clients = Clients(world, operations, duration_s)
    tenants = Tenants(clients)
    watchers = [Watcher(world, number) for number in range(_WATCHERS)]
    async with asyncio.TaskGroup() as background:
        watching = [background.create_task(watcher.run()) for watcher in watchers]
        world.active = True
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.keep_house())
            tasks.create_task(_last(world, duration_s, tasks.create_task(clients.run())))
            tasks.create_task(tenants.run())
            tasks.create_task(MembershipChanges(world).run())
            for number in range(2):
                tasks.create_task(Nemesis(world, number).run())
        await world.settle()
        await _eventually(tenants.all_gone, "no lease outlives its end", _LEASES_END_S)
        await asyncio.sleep(_LEASES_END_S)  # for leases whose holder never got a key attached
        await world.settle()
        await _eventually(
            lambda: all(watcher.is_complete() for watcher in watchers),
            "all watchers have everything",
            _WATCHERS_END_S,
        )
        for task in watching:
            task.cancel()
    await _verify(world, clients)


async def _last(world: World, duration_s: float, clients: asyncio.Task[None]) -> None:
    """End the faults once the time is over and the operations are done."""
    await asyncio.sleep(duration_s)
    await asyncio.wait([clients], timeout=_PATIENCE * duration_s)
    world.active = False


async def _eventually(condition: object, what: str, limit_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + limit_s * FASTEST_CLOCK
    assert callable(condition)
    while not condition():
        require(loop.time() < deadline_s, f"{limit_s} s after the last fault: not {what}")
        await asyncio.sleep(0.2)


async def _verify(world: World, clients: Clients) -> None:
    """Compare every member with the model, and their files with each other."""
    history = world.history
    require(history.unsettled == 0, "answers came at revisions that nobody has")
    require(clients.floor <= history.revision, "an acknowledged revision is gone")
    clients.check_refused()
    everything = rpc.RangeRequest(key=b"\x00", range_end=b"\x00", serializable=True)
    images = set()
    hashes = set()
    for member in world.members:
        found = await member.ask(member.kv.range(everything))
        require(
            found.header.revision == history.revision,
            f"{member.name} ends at {found.header.revision}, the history at {history.revision}",
        )
        history.check_pairs(member.name, found.kvs, b"\x00", b"\x00", history.revision)
        leases = await member.ask(member.leases.leases(rpc.LeaseLeasesRequest()))
        require(not leases.leases, f"{member.name} keeps leases {leases}")
        hashes.add((await member.ask(member.kv.hash_kv(rpc.HashKVRequest()))).hash)
        await member.replica.checkpoint()
        (check,) = await member.replica.check_databases()
        require(check.problems == [], f"{member.name}: {check.problems}")
        images.add(check.sha256)
    require(len(hashes) == 1, f"different hashes: {hashes}")
    require(len(images) == 1, "the database files differ")

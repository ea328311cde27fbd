"""Everything that goes wrong."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from dqlite_py.errors import DiskFailed, DqliteError, StartRefused
from tests.kit.disk import PowerCut
from tests.kit.loop import quick_jobs
from tests.simulation.member import Gone, SimServer
from tests.simulation.world import World

_STOPS_WITHIN_S = 2.0  # of virtual time, after an error of the disk


def _is_checked(path: str) -> bool:
    """Whether a file has a checksum of its own; database pages and their copies have none."""
    return not path.endswith(".sqlite") and "/staging/" not in path


class Nemesis:
    """Hurts one member, or one link, at a time; several may run side by side."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.rng = random.Random(f"{world.seed}/nemesis/{number}")
        actions: list[tuple[Callable[[SimServer], Awaitable[None]], int]] = [
            (self.crash, 4),
            (self.cut_power, 3),
            (self.tear_checkpoint, 3),
            (self.tear_log, 3),
            (self.fill_disk, 2),
            (self.fail_reads, 2),
            (self.flip_bit, 2),
            (self.slow_disk, 2),
            (self.isolate, 4),
            (self.cut_one_way, 3),
            (self.pause, 2),
            (self.drop_connections, 3),
            (self.transfer, 3),
            (self.die_long, 2),
            (self.black_out, 1),
        ]
        self._actions, weights = zip(*actions, strict=True)
        # Each seed has likings of its own, so that some combinations become frequent.
        self._weights = [weight * self.rng.choice((0, 1, 1, 1, 5)) for weight in weights]

    async def run(self) -> None:
        pace_s = self.rng.choice((0.5, 1.5, 3.0))
        while self.world.active:
            await asyncio.sleep(self.rng.uniform(0, 2 * pace_s))
            victim = self._victim()
            if victim is None or not any(self._weights):
                continue
            (action,) = self.rng.choices(self._actions, self._weights)
            self.world.trace(f"nemesis {action.__name__} {victim.name}")
            victim.busy = True
            try:
                await action(victim)
            finally:
                victim.busy = False

    def _victim(self) -> SimServer | None:
        ready = [m for m in self.world.members if m.up and not m.busy]
        leader = self.world.leader
        if leader in ready and self.rng.random() < 0.4:
            return leader
        return self.rng.choice(ready) if ready else None

    def _others(self, victim: SimServer) -> list[SimServer]:
        return [m for m in self.world.members if m is not victim]

    # --- death -----------------------------------------------------------------------------------
    async def _restart(self, victim: SimServer, after_s: float) -> None:
        if victim.up:
            await victim.crash()
        await asyncio.sleep(after_s)
        if not victim.retired and not victim.up:
            await victim.start()

    async def crash(self, victim: SimServer) -> None:
        await self._restart(victim, self.rng.uniform(0.1, 4.0))

    async def die_long(self, victim: SimServer) -> None:
        """Be away for so long that only a snapshot helps."""
        await self._restart(victim, self.rng.uniform(8.0, 20.0))

    async def black_out(self, victim: SimServer) -> None:
        """All lose power in the same instant."""
        down = [m for m in self.world.members if m.up and (m is victim or not m.busy)]
        for member in down:
            member.busy = True
        for member in down:
            await member.crash()
        await asyncio.sleep(self.rng.uniform(0.1, 2.0))
        for member in down:
            if not member.retired and not member.up:
                await member.start()
            member.busy = False

    async def _until_stopped(
        self, victim: SimServer, limit_s: float, failed: Callable[[], bool] | None = None
    ) -> bool:
        """Wait for the replica to end over a fault in force; whether it did.

        Once the fault has shown itself, which ``failed`` tells, it gets some time more.
        """
        victim.expected_to_stop = True
        for patience_s in (limit_s, _STOPS_WITHIN_S):
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await victim.stopped.wait()
            if failed is None or not failed() or victim.stopped_by is not None:
                break
        victim.disk.fault = None
        return victim.stopped_by is not None

    async def cut_power(self, victim: SimServer) -> None:
        """Cut the power before some operation of the disk, whichever it is."""
        victim.disk.cut_power_at = victim.disk.changes + self.rng.randrange(1, 400)
        if await self._until_stopped(victim, 10.0):
            self.world.coverage.hit("power cuts mid-write")
        await self._restart(victim, self.rng.uniform(0.1, 2.0))

    async def tear_checkpoint(self, victim: SimServer) -> None:
        """Cut the power after some pages of a checkpoint have been written."""
        left = self.rng.randrange(1, 16)
        await self._tear(victim, "pwrite", ".sqlite", left, "torn checkpoints")

    async def tear_log(self, victim: SimServer) -> None:
        """Cut the power when entries have been written and not yet synced."""
        left = self.rng.randrange(1, 30)
        await self._tear(victim, "fdatasync", ".seg", left, "power cuts mid-write")

    async def _tear(
        self, victim: SimServer, operation: str, suffix: str, left: int, name: str
    ) -> None:
        def fault(found: str, path: str) -> OSError | None:
            nonlocal left
            if found == operation and path.endswith(suffix):
                left -= 1
                if left == 0:
                    victim.disk.fault = None
                    victim.disk.cut_power_at = victim.disk.changes
            return None

        victim.disk.fault = fault
        if await self._until_stopped(victim, 8.0):
            self.world.coverage.hit(name)
        await self._restart(victim, self.rng.uniform(0.1, 2.0))

    # --- the disk --------------------------------------------------------------------------------
    async def _fail_disk(
        self, victim: SimServer, code: int, operations: tuple[str, ...], where: str, name: str
    ) -> None:
        """Let operations fail until the replica has stopped over it."""
        left = self.rng.randrange(0, 20)

        def fault(operation: str, path: str) -> OSError | None:
            nonlocal left
            if operation not in operations or where not in path:
                return None
            left -= 1
            return OSError(code, "simulated") if left < 0 else None

        victim.disk.fault = fault
        if await self._until_stopped(victim, 6.0, lambda: left < 0):
            self.world.coverage.hit(name)
            await self._restart(victim, self.rng.uniform(0.1, 2.0))
        elif left < 0:
            self.world.violated(f"{victim.name} went on after its disk had failed")
        victim.expected_to_stop = False

    async def fill_disk(self, victim: SimServer) -> None:
        operations = ("pwrite", "create")
        await self._fail_disk(victim, errno.ENOSPC, operations, "", "full disks")

    async def fail_reads(self, victim: SimServer) -> None:
        where = self.rng.choice(("/raft/", "/db/"))
        if where == "/raft/" or self.rng.random() < 0.3:
            await self._fail_start(victim, where)
        else:
            await self._fail_disk(victim, errno.EIO, ("pread",), where, "read errors")

    async def _fail_start(self, victim: SimServer, where: str) -> None:
        """Let a read fail while the replica comes up; it must refuse."""
        await victim.crash()
        await asyncio.sleep(self.rng.uniform(0.1, 1.0))
        left = self.rng.randrange(0, 6)

        def fault(operation: str, path: str) -> OSError | None:
            nonlocal left
            if operation not in ("pread", "read") or where not in path:
                return None
            left -= 1
            return OSError(errno.EIO, "simulated") if left == -1 else None

        victim.disk.fault = fault
        try:
            await victim.start()
            victim.expected_to_stop = True
        except (DiskFailed, StartRefused):
            self.world.coverage.hit("read errors")
        if victim.up:
            await self._until_stopped(victim, 1.0)
            await victim.crash()
        victim.disk.fault = None
        victim.disk.crash()
        await self._restart(victim, 0.1)

    async def flip_bit(self, victim: SimServer) -> None:
        """Damage a file of a member that is down; it refuses, or comes back as it was."""
        await victim.crash()
        await asyncio.sleep(self.rng.uniform(0.1, 1.0))
        if victim.up:
            return  # somebody else has started it meanwhile
        files = victim.disk.files()
        path = self.rng.choice([n for n, data in files.items() if data and _is_checked(n)])
        used = len(files[path].rstrip(b"\0")) or 1
        offset, mask = self.rng.randrange(used), 1 << self.rng.randrange(8)
        self.world.trace(f"{victim.name} bit flipped in {path} at {offset} of {used}")
        victim.flip(path, offset, mask)
        await self._restart(victim, 0.1)

    async def slow_disk(self, victim: SimServer) -> None:
        self.world.coverage.hit("slow disks")
        slow_s = self.rng.choice((0.02, 0.3, 1.5))

        def latency(rng: random.Random, name: str) -> float:
            return rng.uniform(0, slow_s) if name == "raft-log" else quick_jobs(rng, name)

        victim._workers.latency_s = latency
        await asyncio.sleep(self.rng.uniform(1.0, 6.0))
        victim._workers.latency_s = quick_jobs

    # --- the network -----------------------------------------------------------------------------
    async def isolate(self, victim: SimServer) -> None:
        others = self._others(victim)
        if not others:
            return
        company = [m for m in others if self.rng.random() < 0.2]
        rest = [m.name for m in others if m not in company]
        self.world.coverage.hit("partitions")
        self.world.network.partition([victim.name, *(m.name for m in company)], rest)
        await asyncio.sleep(self.rng.uniform(0.5, 7.0))
        self.world.network.heal()

    async def cut_one_way(self, victim: SimServer) -> None:
        others = self._others(victim)
        chosen = [m for m in others if self.rng.random() < 0.7]
        outgoing = self.rng.random() < 0.5
        self.world.coverage.hit("one-way partitions")
        for other in chosen:
            ends = (victim.name, other.name) if outgoing else (other.name, victim.name)
            self.world.network.cut(*ends)
        await asyncio.sleep(self.rng.uniform(0.5, 7.0))
        self.world.network.heal()

    async def pause(self, victim: SimServer) -> None:
        self.world.coverage.hit("pauses")
        self.world.network.pause(victim.name)
        await asyncio.sleep(self.rng.uniform(0.2, 4.0))
        self.world.network.resume(victim.name)

    async def drop_connections(self, victim: SimServer) -> None:
        for other in self._others(victim):
            if self.rng.random() < 0.6:
                self.world.coverage.hit("connections dropped")
                self.world.network.drop_connections(victim.name, other.name)

    async def transfer(self, victim: SimServer) -> None:
        leader = self.world.leader
        if leader is None:
            return
        target = self.rng.choice((0, victim.number))
        try:
            await leader.ask(leader.replica.transfer_leadership(target))
        except (DqliteError, Gone, PowerCut):
            return
        self.world.coverage.hit("transfers")

"""Clients that hold leases for a while: a lease never ends early, and it does end."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from dqlite_py.errors import DqliteError, LeaseNotFound, OutcomeUnknown
from dqlite_py.pb import rpc_pb2 as rpc
from tests.simulation.clients import Clients
from tests.simulation.consensus import require
from tests.simulation.history import Change
from tests.simulation.member import Gone

FASTEST_CLOCK = 1.25
SLOWEST_CLOCK = 0.8


@dataclass(slots=True)
class Tenancy:
    """One lease as its holder knows it."""

    lease: int
    key: bytes
    ttl_s: int
    renewed_s: float  # when the last renewal that succeeded was asked for
    given_up: bool = False  # a revoke was asked for

    @property
    def earliest_end_s(self) -> float:
        return self.renewed_s + self.ttl_s / FASTEST_CLOCK


class Tenants:
    """All lease holders of one run."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._world = clients.world
        self._by_key: dict[bytes, Tenancy] = {}
        self._granted = 0
        self._world.history.on_change = self._changed

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(self._hold(number))

    async def _hold(self, number: int) -> None:
        rng = random.Random(f"{self._world.seed}/tenant/{number}")
        while self._world.active:
            try:
                await self._tenancy(rng)
            except (Gone, DqliteError):
                await asyncio.sleep(rng.uniform(0, 0.5))

    async def _tenancy(self, rng: random.Random) -> None:
        loop = asyncio.get_running_loop()
        member = self._clients.member(rng)
        started_s = loop.time()
        granted = await member.ask(
            member.leases.grant(rpc.LeaseGrantRequest(TTL=rng.randint(1, 5)))
        )
        self._world.coverage.hit("leases granted")
        self._granted += 1
        key = f"lease/{self._granted}".encode()
        tenancy = Tenancy(granted.ID, key, granted.TTL, started_s)
        self._by_key[key] = tenancy
        try:
            await self._clients.put_key(rng, key, granted.ID)
        except LeaseNotFound:
            self._may_end(tenancy, loop.time())
            return
        for _ in range(rng.choice((0, 0, 1, 4))):
            await asyncio.sleep(tenancy.ttl_s / rng.choice((1.2, 3, 3)))
            if not await self._renew(rng, tenancy):
                return
        if rng.random() < 0.3:
            tenancy.given_up = True
            member = self._clients.member(rng)
            await member.ask(member.leases.revoke(rpc.LeaseRevokeRequest(ID=tenancy.lease)))

    async def _renew(self, rng: random.Random, tenancy: Tenancy) -> bool:
        loop = asyncio.get_running_loop()
        member = self._clients.member(rng)
        started_s = loop.time()
        request = rpc.LeaseKeepAliveRequest(ID=tenancy.lease)
        try:
            answer = await member.ask(member.leases.keep_alive(request))
        except (Gone, OutcomeUnknown):
            return True  # it may have been renewed; that is no promise
        if answer.TTL == 0:
            self._may_end(tenancy, loop.time())
            return False
        tenancy.renewed_s = started_s
        return True

    def _changed(self, change: Change, now_s: float) -> None:
        """The history grew; a deletion of a lease's key is the lease's end."""
        tenancy = self._by_key.get(change.key)
        if tenancy is not None and change.value is None:
            self._world.coverage.hit("lease expiries", not tenancy.given_up)
            self._may_end(tenancy, now_s)

    def _may_end(self, tenancy: Tenancy, now_s: float) -> None:
        require(
            tenancy.given_up or now_s >= tenancy.earliest_end_s,
            f"lease {tenancy.lease} of {tenancy.ttl_s} s, renewed at {tenancy.renewed_s:.3f}, "
            f"ended at {now_s:.3f}",
        )

    def all_gone(self) -> bool:
        """Whether no lease's key is left."""
        history = self._world.history
        return not any(history.at(key, history.revision) for key in self._by_key)

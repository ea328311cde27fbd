"""The cluster of one seed, with its judges and its gains and losses of members."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TypeVar

from dqlite_py.errors import DqliteError
from dqlite_py.node.contract import Member
from tests.kit.network import local_network
from tests.kit.sim_cluster import SMALL_LIMITS, SimCluster
from tests.simulation.consensus import Consensus, Violation
from tests.simulation.coverage import Coverage
from tests.simulation.history import History
from tests.simulation.member import SimServer

T = TypeVar("T")

_JANITOR_S = 0.5
_LINES_EACH = 12  # of a transcript, for each member, and for each source of faults
_NOISE = (" bytes ", " connect ", " end ", " job ", " peer ")


def distant_network(rng: random.Random, source: str, target: str) -> float:
    """Latency in seconds between sites, with congestion."""
    return rng.uniform(0.005, 0.02) if rng.random() < 0.98 else rng.uniform(0.02, 0.3)


class World(SimCluster):
    """Members come and go; ``members`` holds those that have not been removed."""

    members: list[SimServer]  # type: ignore[assignment]

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(f"{seed}/world")
        self.coverage = Coverage()
        self.consensus = Consensus(self.coverage)
        self.history = History()
        self.over = False  # what happens from now on is clearing away
        self._traced = 0
        self._recent: defaultdict[str, deque[tuple[int, str]]] = defaultdict(
            lambda: deque(maxlen=_LINES_EACH)
        )
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.retired: list[SimServer] = []
        self.next_number = 1
        self.active = False  # whether clients work and faults happen
        size = self.rng.choice((1, 2, 3, 3, 3, 3, 4, 5, 5, 7))
        self.mangled = self.rng.choice((0.0, 0.04, 0.04, 0.1, 0.3))  # share of Raft messages
        super().__init__(seed, folder, size, SMALL_LIMITS)
        self.network.latency_s = self.rng.choice((local_network, local_network, distant_network))

    def make_member(self, number: int) -> SimServer:
        self.next_number = max(self.next_number, number + 1)
        return SimServer(self, number)

    def trace(self, text: str) -> None:
        # Streams and jobs are most of a trace and tell a reader nothing.
        if self.over or self.broken.done() or any(noise in text for noise in _NOISE):
            return
        self._traced += 1
        line = f"{asyncio.get_running_loop().time():10.4f} {text}"
        self._recent[text.partition(".")[0].partition(" ")[0]].append((self._traced, line))

    def transcript(self) -> list[str]:
        """Return the last that happened to each member before the run ended, in order."""
        return [line for _, line in sorted(chain.from_iterable(self._recent.values()))]

    # --- verdicts --------------------------------------------------------------------------------
    def violated(self, text: str, cause: BaseException | None = None) -> None:
        """Something does not hold: the run ends at once."""
        self.trace(f"VIOLATION {text}")
        if not self.broken.done():
            violation = Violation(text)
            violation.__cause__ = cause
            self.broken.set_exception(violation)

    def guarded(self, check: Callable[[], None]) -> None:
        """Run a judge's check; a violation ends the run, not the code that was observed."""
        try:
            check()
        except Violation as error:
            self.violated(str(error))

    # --- who there is ----------------------------------------------------------------------------
    def named(self, number: int) -> SimServer | None:
        return next((m for m in self.members if m.number == number), None)

    def answering(self) -> list[SimServer]:
        return [m for m in self.members if m.answers]

    def newest_view(self) -> list[Member]:
        """Return the member list of whoever has applied most."""
        views = [m for m in self.members if m.answers]
        if not views:
            return []
        best = max(views, key=lambda m: m.replica.applied_index)
        return best.replica.members()

    def is_cut_off(self, member: SimServer) -> bool:
        """Whether nothing reaches this member from anybody."""
        others = [m for m in self.members if m is not member]
        return bool(others) and not any(self.network.passes(o.name, member.name) for o in others)

    # --- the janitor -----------------------------------------------------------------------------
    async def keep_house(self) -> None:
        """Start who was added, retire who was removed, restart who stopped."""
        while self.active:
            await asyncio.sleep(_JANITOR_S)
            await self.clean()

    async def clean(self) -> None:
        await self._start_added()
        for member in list(self.members):
            if member.busy:
                continue
            if self._is_removed(member):
                await self._retire(member)
            elif member.stopped_by is not None:
                member.busy = True
                await member.crash()
                await member.start()
                member.busy = False

    async def _start_added(self) -> None:
        view = self.newest_view()
        known = {m.number for m in self.members} | {m.number for m in self.retired}
        for record in view:
            if record.id not in known:
                joiner = self.make_member(record.id)
                joiner.prepare_to_join(tuple(view))
                self.members.append(joiner)
                await joiner.start()

    def _is_removed(self, member: SimServer) -> bool:
        catalogs = [m.parts.history.latest.catalog for m in self.members if m.answers]
        return any(member.number in catalog.removed for catalog in catalogs)

    async def _retire(self, member: SimServer) -> None:
        """A removed member's server exits; sooner or later it hears of its removal."""
        member.busy = True
        member.retired = True
        if member.up:
            await member.crash()
        self.members.remove(member)
        self.retired.append(member)

    # --- membership ------------------------------------------------------------------------------
    def new_url(self) -> tuple[str, str]:
        number = self.next_number
        self.next_number += 1
        return f"http://n{number}:2380", f"n{number}"

    async def settle(self) -> None:
        """Heal everything, start everybody, and wait until all have applied the same."""
        self.network.heal()
        for member in self.members:
            self.network.resume(member.name)
            member.disk.fault = None
            member.busy = False
        for member in self.members:
            if member.stopped_by is not None:
                await member.crash()
            if not member.up:
                await member.start()
        deadline_s = asyncio.get_running_loop().time() + 120
        while not self._level():
            await self.clean()
            if asyncio.get_running_loop().time() > deadline_s:
                self.violated(f"not level 120 s after the last fault: {self._standing()}")
                return
            with suppress(DqliteError):
                await asyncio.sleep(0.1)

    def _level(self) -> bool:
        if self.leader is None or any(not m.answers for m in self.members):
            return False
        view = {m.id for m in self.newest_view()}
        indexes = {m.replica.applied_index for m in self.members}
        opened = all(m.parts.primary for m in self.members)
        return len(indexes) == 1 and opened and view == {m.number for m in self.members}

    def _standing(self) -> str:
        rows = [
            f"{m.name}: up={m.up} applied={m.replica.applied_index} term={m.replica.term} "
            f"leader={m.replica.leader_id} commit={m.parts.raw.commit} {m.parts.raw.conf_state}"
            for m in self.members
        ]
        return "; ".join(rows)

"""A member with everything that stands on a replica, watched from outside and easily hurt."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from dqlite_py.errors import (
    CorruptFile,
    DiskFailed,
    DqliteError,
    Fatal,
    NewerFormat,
    NoLeader,
    ReadInterrupted,
    StartRefused,
    TooManyRequests,
)
from dqlite_py.kv.compactor import Compactor
from dqlite_py.kv.history import History as StoredHistory
from dqlite_py.kv.lease_tables import LeaseTables
from dqlite_py.kv.schema import FIRST_REVISION
from dqlite_py.lease.service import LeaseService
from dqlite_py.node.contract import Member
from dqlite_py.node.parts import ReplicaSettings
from dqlite_py.node.startup import joining_manifest
from dqlite_py.raft import Message, Role
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import DataDir, Identity
from dqlite_py.storage.raft_storage import RaftStorage
from dqlite_py.watch.hub import WatchHub, WatchLimits
from tests.kit.disk import PowerCut
from tests.kit.loop import SimClock, quick_jobs
from tests.kit.sim_cluster import CLUSTER_ID, SMALL_STORAGE, SimReplica
from tests.simulation.history import rows_between

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")

REQUEST_LIMIT_S = 12.0
REFUSALS = (CorruptFile, NewerFormat, StartRefused)
_SHOW_AGAIN_S = 0.002
WATCH_LIMITS = WatchLimits(
    progress_interval_s=3.0, stream_min_bytes=4 << 10, stream_max_bytes=16 << 10
)


class Gone(Exception):
    """The member died under the request, or does not answer: the outcome is unknown."""


class SimServer(SimReplica):
    """One member: replica, key-value store, leases, watch hub."""

    cluster: World

    def __init__(self, cluster: World, number: int) -> None:
        super().__init__(cluster, number)
        rng = random.Random(f"{cluster.seed}/member/{number}")
        self.drift = rng.choice((0.8, 0.95, 1.0, 1.0, 1.05, 1.25))
        self.rng = rng
        self.retired = False
        self._damage: tuple[str, int, int] | None = None  # file, offset and mask of a flipped bit
        self._damaged_byte = 0
        self._refused: BaseException | None = None  # what ended the last life
        self.expected_to_stop = False  # a fault that the replica must not survive is in force
        self.busy = False  # the nemesis or the janitor has this member in hand
        self.leases: LeaseService
        self.hub: WatchHub
        self._calls: set[asyncio.Task[Any]] = set()
        self._shown = FIRST_REVISION

    # --- life ------------------------------------------------------------------------------------
    def prepare_to_join(self, members: tuple[Member, ...]) -> None:
        """Make this disk that of a member that has been added and has never run."""
        datadir = DataDir.open(self.disk, self.path)
        manifest = joining_manifest(CLUSTER_ID, members)
        self.disk.mkdir(datadir.generation_path(1))
        manifests.store(self.disk, self.path, manifest)
        RaftStorage.open(self.disk, datadir.raft_path, manifest, SMALL_STORAGE).close()
        datadir.store_identity(Identity(CLUSTER_ID, self.number, self.name))
        datadir.close()

    def clock(self, loop: asyncio.AbstractEventLoop) -> SimClock:
        return SimClock(loop, drift=self.drift, offset_s=1000.0 * self.number)

    def settings(self) -> ReplicaSettings:
        limits = self.cluster.limits
        if self.drift > 1:  # sleeping knows no drift: a fast clock ticks more often
            limits = replace(limits, tick_interval_s=limits.tick_interval_s / self.drift)
        return replace(
            super().settings(),
            limits=limits,
            make_member_id=lambda urls, _now_s, _taken: number_of(urls[0]),
        )

    def services(self) -> list[Coroutine[Any, Any, None]]:
        self._observe()
        replica, machine = self.replica, self.machine
        tables = LeaseTables(replica, machine)
        clock = self.parts.world.clock
        election_timeout_s = self.parts.settings.limits.election_timeout_s
        life = random.Random(f"{self.cluster.seed}/{self.name}/{self.lives}/services")
        self.leases = LeaseService(
            replica, tables, life, clock.now_s, election_timeout_s=election_timeout_s
        )
        self.hub = WatchHub(replica, machine, StoredHistory(machine), WATCH_LIMITS, life)
        machine.subscribe(self.hub.advanced)
        compactor = Compactor(replica, machine)
        return [replica.run(), compactor.run(), self.leases.run(), self.hub.run()]

    async def start(self) -> None:
        self.expected_to_stop = False
        if self._damage is not None and isinstance(self._refused, REFUSALS):
            self._repair()
        self._refused = None
        try:
            await super().start()
        except REFUSALS as error:
            if self._damage is None:
                raise
            self._trace(f"refused: {error}")
            self.cluster.coverage.hit("flipped bits refused")
            self._repair()
            await super().start()
        storage = self.parts.storage
        if storage.torn_bytes:
            self.cluster.coverage.hit("torn log tails")
        state, _ = storage.initial_state()
        last = storage.last_index()
        self.cluster.consensus.restarted(self.number, state, storage.term(last), last)
        self._workers.latency_s = quick_jobs

    async def _live(self, work: Any) -> None:
        """Run one service; what ends it must have been provoked."""
        try:
            await work
        except Exception as raised:
            if not self.up:
                return  # the crash has taken the threads away from under it
            error: BaseException = raised
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self.stopped_by = error
            self.stopped.set()
            if self._damage is not None and isinstance(error, REFUSALS):
                self.cluster.coverage.hit("flipped bits refused")
            elif not (self.expected_to_stop and isinstance(error, (PowerCut, DiskFailed))):
                self.cluster.violated(f"{self.name} stopped by itself: {error!r}", raised)

    def flip(self, path: str, offset: int, mask: int) -> None:
        """Damage a file while this member is down."""
        self.cluster.coverage.hit("flipped bits")
        self.disk.flip(path, offset, mask)
        self._damage, self._damaged_byte = (path, offset, mask), self.disk.files()[path][offset]

    def _repair(self) -> None:
        """Restore the damaged file, as the operator would, unless it has been replaced since."""
        assert self._damage is not None
        path, offset, mask = self._damage
        self._damage = None
        now = self.disk.files().get(path, b"")[offset : offset + 1]
        if now == bytes((self._damaged_byte,)):
            self.disk.flip(path, offset, mask)

    async def crash(self) -> None:
        self._refused = self.stopped_by
        lost = self.disk.lost_sectors
        calls, self._calls = self._calls, set()
        for call in calls:
            call.cancel()
        await super().crash()
        self.cluster.coverage.hit("crashes")
        if self.disk.lost_sectors > lost:
            self.cluster.coverage.hit("lost unsynced writes")

    # --- requests --------------------------------------------------------------------------------
    @property
    def answers(self) -> bool:
        """Whether a client can reach this member at all."""
        return self.up and self.stopped_by is None

    async def ask(self, request: Coroutine[Any, Any, T]) -> T:
        """Send a request; raise Gone if the member dies under it or never answers."""
        task = asyncio.get_running_loop().create_task(request)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            done, _ = await asyncio.wait([task], timeout=REQUEST_LIMIT_S)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            task.cancel()
            with suppress(asyncio.CancelledError, DqliteError, PowerCut):
                await task
            raise Gone
        if task.cancelled():
            raise Gone
        error = task.exception()
        if isinstance(error, PowerCut) or (self.expected_to_stop and isinstance(error, Fatal)):
            raise Gone from error
        return task.result()

    async def ask_for_ever(self, stream: Coroutine[Any, Any, None]) -> None:
        """Serve a stream that ends only with the member, or by cancellation."""
        task = asyncio.get_running_loop().create_task(stream)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            await asyncio.wait([task])
        if task.cancelled():
            raise Gone
        if (error := task.exception()) is not None:
            raise error

    @property
    def deposed(self) -> bool:
        """Whether it takes itself for the leader while another has been elected since."""
        raw = self.parts.raw
        return raw.role is Role.LEADER and self.cluster.consensus.newest_term > raw.term

    # --- observation -----------------------------------------------------------------------------
    def _observe(self) -> None:
        """Put the judges between this member and the rest."""
        cluster, parts = self.cluster, self.parts
        ports = parts.driver._ports

        def stepped() -> None:
            ports.stepped()
            if parts.raw.role is Role.LEADER:
                cluster.guarded(lambda: cluster.consensus.leads(self.number, parts.raw))

        def send(message: Message) -> None:
            cluster.guarded(lambda: cluster.consensus.sent(self.number, message, parts.raw))
            ports.send(message)

        def apply(message: Message) -> None:
            cluster.guarded(lambda: cluster.consensus.applies(self.number, message.entries))
            ports.apply(message)

        async def install(message: Message) -> None:
            await ports.install(message)
            cluster.coverage.hit("snapshots installed")

        parts.driver._ports = replace(
            ports, stepped=stepped, send=send, apply=apply, install=install
        )
        leadership = parts.leadership
        roll_back = leadership._roll_back

        def counted(hosted: Any) -> Coroutine[Any, Any, None]:
            cluster.coverage.hit("speculation rollbacks")
            return roll_back(hosted)

        leadership._roll_back = counted  # type: ignore[method-assign]
        self._mangle_messages()
        self._shown = FIRST_REVISION
        self.machine.subscribe(self._show)

    def _mangle_messages(self) -> None:
        """Let some Raft messages arrive twice, and some late: after those sent behind them."""
        cluster, rng = (
            self.cluster,
            random.Random(f"{self.cluster.seed}/{self.name}/{self.lives}/m"),
        )
        handler: Any = self.parts.transport._handler
        deliver = handler.on_message
        loop = asyncio.get_running_loop()
        life = self.lives

        def later(message: Message) -> None:
            if self.answers and self.lives == life:
                deliver(message)

        def on_message(message: Message) -> None:
            chance = rng.random()
            if chance < cluster.mangled / 2:
                cluster.coverage.hit("messages duplicated")
                loop.call_later(rng.choice((0.0, 0.01, 0.3, 2.0)), later, message)
            elif chance < cluster.mangled:
                cluster.coverage.hit("messages reordered")
                loop.call_later(rng.choice((0.001, 0.01, 0.1)), later, message)
                return
            deliver(message)

        handler.on_message = on_message

    def _show(self, revision: int) -> None:
        """Hand what has become visible here to the common history."""
        if revision <= self._shown:
            return
        first, history = self._shown + 1, self.cluster.history
        if not self.machine.has_schema:
            return
        try:
            rows = self.replica.read_now(lambda session: rows_between(session, first, revision))
        except (NoLeader, ReadInterrupted, TooManyRequests):
            # A rollback has the connection, or this was called from inside a query.
            asyncio.get_running_loop().call_later(_SHOW_AGAIN_S, self._show_again, self.lives)
            return
        self._shown = revision
        now_s = asyncio.get_running_loop().time()
        self.cluster.guarded(lambda: history.shown(self.name, first, revision, rows, now_s))

    def _show_again(self, life: int) -> None:
        if not self.up or self.lives != life:
            return
        with suppress(DiskFailed):  # the replica was told by the same read, and stops (seed 8013)
            self._show(self.machine.revision)


def number_of(url: str) -> int:
    """Return the member number in ``http://nNUMBER:2380``."""
    return int(url.removeprefix("http://n").partition(":")[0])

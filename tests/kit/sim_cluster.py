"""Whole replicas of one cluster in one process, on virtual time, network and disk, from one seed.

The code that runs is the server's own: core, storage, databases with real SQLite, key-value store.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

from dqlite_py.cluster import ids
from dqlite_py.errors import Fatal, ReadersBusy
from dqlite_py.kv.compactor import Compactor
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.service import KvService
from dqlite_py.node import catalog as catalogs
from dqlite_py.node.catalog import Catalog
from dqlite_py.node.contract import Member
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.parts import Parts, ReplicaSettings, World
from dqlite_py.node.replica import Replica
from dqlite_py.node.wiring import assemble
from dqlite_py.pb import rpc_pb2
from dqlite_py.raft import ConfState
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import DataDir, Identity
from dqlite_py.storage.log_writer import StorageLimits
from dqlite_py.storage.manifest import Manifest
from dqlite_py.storage.raft_storage import RaftStorage
from tests.kit.dbfile import SimulatedMainFiles
from tests.kit.disk import PowerCut, SimulatedDisk
from tests.kit.loop import SimClock, SimWorkers
from tests.kit.network import SimNetwork

CLUSTER_ID = 0xC0FFEE
SECRET = b"the simulated cluster's secret"

SMALL_LIMITS = ReplicaLimits(
    checkpoint_soft_bytes=256 << 10,
    checkpoint_hard_bytes=2 << 20,
    checkpoint_entries=60,
    catch_up_entries=20,
    snapshot_chunk_bytes=16 << 10,
    page_size=1024,
)
SMALL_STORAGE = StorageLimits(
    segment_bytes=256 << 10, first_segment_bytes=64 << 10, step_bytes=64 << 10
)


class SimReplica:
    """One member; it may crash and start again on the same disk."""

    def __init__(self, cluster: SimCluster, number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.name = f"n{number}"
        self.disk = SimulatedDisk(random.Random(f"{cluster.seed}/disk/{number}"))
        self.path = f"/{self.name}"
        self.lives = 0
        self.up = False
        self.stopped_by: BaseException | None = None
        self.stopped = asyncio.Event()
        self.parts: Parts
        self.replica: Replica
        self.kv: KvService
        self.machine: EtcdMachine
        self._workers: SimWorkers
        self._tasks: list[asyncio.Task[Any]] = []

    def prepare(self, members: tuple[Member, ...]) -> None:
        """Make this disk that of a founding member."""
        datadir = DataDir.open(self.disk, self.path)
        catalog = Catalog(cluster_id=CLUSTER_ID, members=members)
        conf_state = ConfState(voters=tuple(m.id for m in members))
        manifest = Manifest(1, 1, 1, conf_state, catalogs.encode(catalog))
        self.disk.mkdir(datadir.generation_path(1))
        manifests.store(self.disk, self.path, manifest)
        RaftStorage.open(self.disk, datadir.raft_path, manifest, SMALL_STORAGE).close()
        datadir.store_identity(Identity(CLUSTER_ID, self.number, self.name))
        datadir.close()

    async def start(self) -> None:
        """Come up on what the disk holds; raises what ``assemble`` raises."""
        self.lives += 1
        life = f"{self.cluster.seed}/{self.name}/{self.lives}"
        scratch = self.cluster.folder / f"{self.name}-{self.lives}"
        scratch.mkdir()
        loop = asyncio.get_running_loop()
        self._workers = SimWorkers(loop, life, trace=self._trace)
        world = World(
            self.clock(loop),
            self._workers,
            self.disk,
            self.cluster.network.node(self.name),
            random.Random(life),
            open_main_file=SimulatedMainFiles(self.disk, str(scratch)),
        )
        self.machine = EtcdMachine()
        datadir = DataDir.open(self.disk, self.path)
        try:
            self.parts = await assemble(datadir, self.machine, world, self.settings())
        except BaseException:
            datadir.close()
            raise
        self.replica = Replica(self.parts)
        self.kv = KvService(self.replica, self.machine)
        self._tasks = [loop.create_task(self._live(work)) for work in self.services()]
        self.up = True

    def clock(self, loop: asyncio.AbstractEventLoop) -> SimClock:
        """Return this life's clock."""
        return SimClock(loop)

    def settings(self) -> ReplicaSettings:
        """Return what distinguishes this replica from the others."""
        return ReplicaSettings(
            secret=SECRET,
            listen_addresses=(f"{self.name}:2380",),
            make_member_id=ids.added_member_id,
            limits=self.cluster.limits,
            storage_limits=SMALL_STORAGE,
            report=lambda event, fields: self._trace(f"{event} {fields}"),
        )

    def services(self) -> list[Coroutine[Any, Any, None]]:
        """Build what stands on the replica; return all that runs for as long as it lives."""
        return [self.replica.run(), Compactor(self.replica, self.machine).run()]

    async def _live(self, work: Awaitable[None]) -> None:
        try:
            await work
        except (PowerCut, Fatal) as error:
            self.stopped_by = error
            self.stopped.set()

    def _trace(self, text: str) -> None:
        self.cluster.trace(f"{self.name}.{self.lives} {text}")

    async def crash(self) -> None:
        """Lose power now: nothing this member does afterwards has any effect."""
        self.up = False
        self.stopped_by = None
        self.stopped = asyncio.Event()
        self._trace("crash")
        self._workers.stop()
        self.cluster.network.crash(self.name)
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                task.result()
        for hosted in self.parts.databases.hosted:
            for _ in range(3):
                with suppress(ReadersBusy):
                    hosted.db.close()
                    break
        self.parts.databases.hosted.clear()  # a start that fails leaves the parts of this life
        self.disk.crash()

    async def stop(self) -> None:
        """End in good order."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self.replica.close()
        self.up = False


class SimCluster:
    """Members ``1..size`` of one cluster."""

    def __init__(
        self, seed: int, folder: Path, size: int = 3, limits: ReplicaLimits = SMALL_LIMITS
    ) -> None:
        self.seed = seed
        self.folder = folder
        self.limits = limits
        self.events: list[str] = []
        loop = asyncio.get_running_loop()
        self.network = SimNetwork(loop, seed, trace=self.trace)
        self.members = [self.make_member(number) for number in range(1, size + 1)]
        records = tuple(
            Member(m.number, m.name, (f"http://{m.name}:2380",), (f"http://{m.name}:2379",), False)
            for m in self.members
        )
        for member in self.members:
            member.prepare(records)

    def make_member(self, number: int) -> SimReplica:
        return SimReplica(self, number)

    def trace(self, text: str) -> None:
        self.events.append(f"{asyncio.get_running_loop().time():.9f} {text}")

    async def start(self) -> None:
        for member in self.members:
            await member.start()

    async def stop(self) -> None:
        for member in self.members:
            if member.up:
                await member.stop()

    @property
    def leader(self) -> SimReplica | None:
        """The member that executes writes, if there is one; the newest term wins."""
        leaders = [m for m in self.members if m.up and m.replica.is_leader]
        return max(leaders, key=lambda m: m.replica.term, default=None)

    async def wait_for(self, condition: Callable[[], Any], what: str, limit_s: float = 60.0) -> Any:
        """Let virtual time pass until ``condition`` holds and return its value."""
        deadline_s = asyncio.get_running_loop().time() + limit_s
        while not (value := condition()):
            assert asyncio.get_running_loop().time() < deadline_s, f"never: {what}"
            await asyncio.sleep(0.01)
        return value

    async def settle(self) -> None:
        """Heal everything, start everybody, and wait until all have applied the same."""
        self.network.heal()
        for member in self.members:
            if member.stopped_by is not None:
                await member.crash()
            if not member.up:
                await member.start()
        leader = await self.wait_for(lambda: self.leader, "a leader after healing")
        await leader.kv.put(rpc_pb2.PutRequest(key=b"settled", value=b"x"))

        def level() -> bool:
            indexes = {m.replica.applied_index for m in self.members}
            return len(indexes) == 1 and all(m.parts.primary for m in self.members)

        await self.wait_for(level, "the same applied index everywhere")

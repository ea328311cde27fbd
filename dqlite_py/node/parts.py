"""The parts of one replica, and what they tell each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dqlite_py.db.database import Database
from dqlite_py.node import entries
from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.applier import Applier
from dqlite_py.node.catalog import CatalogHistory
from dqlite_py.node.checkpoints import Checkpointer
from dqlite_py.node.contract import Machine
from dqlite_py.node.databases import DatabaseSet
from dqlite_py.node.driver import Driver
from dqlite_py.node.hosted import HostedDatabase, Speculation
from dqlite_py.node.install import Installer
from dqlite_py.node.leadership import Leadership
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.membership import Membership
from dqlite_py.node.owned_tasks import OwnedTasks
from dqlite_py.node.pipeline import Pipeline
from dqlite_py.node.read_index import ReadBarrier
from dqlite_py.node.routing import Router
from dqlite_py.node.snapshot_sink import SnapshotSink
from dqlite_py.node.snapshot_source import SnapshotSource
from dqlite_py.node.state import PRIMARY, StateChanges
from dqlite_py.raft import Entry, Message, ProposalDropped, RawNode, Role
from dqlite_py.seams import Clock, Disk, Network, Random, Worker, Workers
from dqlite_py.storage.log_writer import StorageLimits
from dqlite_py.storage.manifest import Manifest
from dqlite_py.storage.raft_storage import RaftStorage
from dqlite_py.transport.contract import TransportLimits
from dqlite_py.transport.transport import PeerTransport


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside that a replica touches."""

    clock: Clock
    workers: Workers
    disk: Disk
    network: Network
    random: Random
    file_disk: Disk | None = None  # where SQLite's files lie, if not on ``disk``
    open_main_file: Callable[..., Any] | None = None


def _ignore(_event: str, _fields: dict[str, Any]) -> None:
    """Report of a replica that nobody listens to."""


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """What distinguishes one replica from another."""

    secret: bytes
    listen_addresses: tuple[str, ...]
    make_member_id: Callable[[Sequence[str], float, Iterable[int]], int]
    limits: ReplicaLimits = field(default_factory=ReplicaLimits)
    storage_limits: StorageLimits = field(default_factory=StorageLimits)
    transport_limits: TransportLimits = field(default_factory=TransportLimits)
    report: Callable[[str, dict[str, Any]], None] = _ignore


class Parts:
    """The parts of one replica. Built by ``wiring.assemble``, owned by ``replica.Replica``."""

    world: World
    settings: ReplicaSettings
    member_id: int
    cluster_id: int
    machine: Machine
    storage: RaftStorage
    log_worker: Worker
    files: Worker
    databases: DatabaseSet
    history: CatalogHistory
    applied: AppliedIndex
    raw: RawNode
    tasks: OwnedTasks
    primary_open: asyncio.Event
    removed: asyncio.Event
    primary: HostedDatabase | None
    driver: Driver
    transport: PeerTransport
    applier: Applier
    checkpointer: Checkpointer
    snapshots: SnapshotSource
    sink: SnapshotSink
    installer: Installer
    barrier: ReadBarrier
    leadership: Leadership
    membership: Membership
    router: Router
    changes: StateChanges

    def __init__(self) -> None:
        self._peers: dict[int, tuple[str, ...]] = {}

    def host(self, hosted: HostedDatabase) -> None:
        """A database is open for SQL here."""
        if hosted.record.name != PRIMARY:
            return
        limits = self.settings.limits
        pipeline = Pipeline(hosted, self.machine, limits, self.world.clock, Proposals(self))
        self.primary = hosted
        self.leadership.host(hosted, pipeline)
        self.primary_open.set()
        self.leadership.check()

    def unhost(self) -> None:
        """The databases are about to be replaced."""
        self.leadership.unhost()
        self.primary = None
        self.primary_open.clear()

    def pipeline_of(self, hosted: HostedDatabase) -> Pipeline | None:
        """Return the pipeline that writes to ``hosted`` on a leader."""
        return self.leadership.pipeline if hosted is self.primary else None

    def close_gate(self, hosted: HostedDatabase) -> Callable[[], None]:
        """Stop admitting batches for ``hosted``; return what admits them again."""
        pipeline = self.pipeline_of(hosted)
        if pipeline is None:
            return _nothing
        pipeline.close_gate()
        return pipeline.open_gate

    def room_again(self) -> None:
        """The virtual WALs are below the hard limit: batches that were held back may run."""
        if self.leadership.pipeline is not None:
            self.leadership.pipeline.pump()

    async def drained(self) -> None:
        """Return when nothing is executing or uncommitted.

        A batch may wait for the acknowledgement of a member that itself waits for a snapshot, which
        waits for this. After an election timeout what was executed is therefore taken back; its
        entries stay in the log and the clients are told that the outcome is unknown.
        """
        pipeline = self.leadership.pipeline
        if pipeline is not None:
            drained = pipeline.drained()
            timeout_s = self.settings.limits.election_timeout_s
            while not drained.done():
                await asyncio.wait([drained], timeout=timeout_s)
                if self.snapshots.wanted and not drained.done():
                    self.leadership.speculation_failed()
        for hosted in self.databases.hosted:
            await hosted.settled()

    def answer_batch(self, speculation: Speculation) -> None:
        """A batch that this member executed is committed and applied."""
        pipeline = self.leadership.pipeline
        if pipeline is not None:
            pipeline.committed(speculation.term, speculation.index)

    def stop_speculation(self, hosted: HostedDatabase) -> None:
        """Pages that this member did not propose are about to be injected."""
        pipeline = self.pipeline_of(hosted)
        if pipeline is not None and (pipeline.leading or hosted.speculation):
            self.leadership.speculation_failed()

    def create_primary(self, term: int) -> bool:
        """Propose the primary database's creation; whether the proposal was taken."""
        page_size = self.settings.limits.page_size
        data = entries.encode_create(PRIMARY, page_size, Database.create_genesis(page_size))
        return Proposals(self).propose(term, data) is not None

    async def progressed(self) -> None:
        """Entries were applied: checkpoint if due, and do not outrun the memory limit."""
        await self.changes.check_replayed()
        if self.changes.replayed:
            self.checkpointer.poke()
        self.leadership.check()
        if not self.checkpointer.has_room and self.raw.role is not Role.LEADER:
            # Not on a leader: there the checkpoint itself waits for entries to be applied, and
            # the pipeline holds back new ones instead.
            await self.checkpointer.room()

    def applied_responses(self, message: Message) -> None:
        """Tell the core that ``message``'s entries are applied."""
        for response in message.responses:
            self.raw.step(response)
        self.driver.kick()

    async def change_members(self, entry: Entry) -> None:
        """A membership change is committed.

        Durably known as such before it takes effect: who restarts without knowing would count on
        members that have gone for good.
        """
        await self.driver.make_commit_durable(entry.index)
        self.changes.conf_change(entry)

    def members_changed(self) -> None:
        """The member list moved: connect to those who are in it.

        Who has left it stays connected for a moment, because the last message to it says so.
        """
        members = {m.id: m.peer_urls for m in self.history.latest.catalog.members}
        leaving = {peer: urls for peer, urls in self._peers.items() if peer not in members}
        self._peers = members
        self.transport.set_peers({**leaving, **members})
        if leaving:
            self.tasks.spawn(self._part())

    async def _part(self) -> None:
        await asyncio.sleep(self.settings.limits.election_timeout_s)
        self.transport.set_peers(self._peers)

    def reloaded(self) -> None:
        """A snapshot replaced the databases: counters come from SQLite."""
        if self.primary is not None:
            self.primary.db.read_now(self.machine.reloaded)

    async def restart_log(self, manifest: Manifest) -> None:
        """Begin the log anew behind ``manifest``, durably."""
        result = await self.log_worker.run(lambda: self.storage.install(manifest))
        self.storage.publish_install(result)


def _nothing() -> None:
    """Opens the gate of a database that nobody writes to."""


class Proposals:
    """What the pipeline needs of the replica (pipeline.Proposer)."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def propose(self, term: int, data: bytes) -> int | None:
        """Append an entry in exactly ``term``; None if this member can not."""
        raw = self._parts.raw
        if raw.role is not Role.LEADER or raw.term != term:
            return None
        try:
            raw.propose([data])
        except ProposalDropped:
            return None
        self._parts.driver.kick()
        return raw.last_index

    def has_room(self) -> bool:
        """Whether the virtual WAL may grow."""
        return self._parts.checkpointer.has_room

    def after_read_round(self, done: Callable[[Exception | None], None]) -> None:
        """Call back after a ReadIndex round begun now."""
        self._parts.barrier.join(done)

    def speculation_failed(self) -> None:
        """A proposal was refused."""
        self._parts.leadership.speculation_failed()

    def failed(self, error: BaseException) -> None:
        """The replica must stop."""
        self._parts.tasks.fail(error)

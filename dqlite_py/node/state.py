"""What applied entries change besides pages: databases, members, and the log's own start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dqlite_py.errors import InvariantBroken
from dqlite_py.node import catalog as catalogs
from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.catalog import CatalogHistory, DatabaseRecord, Version
from dqlite_py.node.contract import Machine
from dqlite_py.node.databases import DatabaseSet
from dqlite_py.node.entries import CreateEntry, FramesEntry
from dqlite_py.node.hosted import HostedDatabase, Speculation
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.membership import apply_change, decode_context
from dqlite_py.raft import ConfChange, Entry, RawNode, decode_conf_change
from dqlite_py.seams import Disk, Worker
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import DataDir
from dqlite_py.storage.manifest import Manifest
from dqlite_py.storage.raft_storage import RaftStorage

PRIMARY = "etcd"


@dataclass(frozen=True, slots=True)
class StatePorts:
    """Whom applied changes concern; all on the event loop."""

    host: Callable[[HostedDatabase], None]
    check_base: Callable[[str, int], None]
    speculated: Callable[[Speculation], None]
    members_changed: Callable[[], None]
    change_applied: Callable[[bytes], None]
    removed_here: Callable[[], None]
    snapshot_floor: Callable[[], int | None]


class StateChanges:
    """Applies what entries say; keeps the catalogue's history; trims the log."""

    def __init__(
        self,
        member_id: int,
        raw: RawNode,
        machine: Machine,
        databases: DatabaseSet,
        history: CatalogHistory,
        applied: AppliedIndex,
        storage: RaftStorage,
        disk: Disk,
        datadir: DataDir,
        log_worker: Worker,
        files: Worker,
        limits: ReplicaLimits,
        replay_target: int,
        ports: StatePorts,
    ) -> None:
        self._member_id = member_id
        self._raw = raw
        self._machine = machine
        self._databases = databases
        self._history = history
        self._applied = applied
        self._storage = storage
        self._disk = disk
        self._datadir = datadir
        self._log_worker = log_worker
        self._files = files
        self._limits = limits
        self._replay_target = replay_target
        self._ports = ports
        self._manifest_index = history.latest.index
        self.replayed = False
        self.trims = 0

    # --- frames -----------------------------------------------------------------------------
    def speculated(self, hosted: HostedDatabase, speculation: Speculation) -> None:
        """An entry that this member executed as leader is committed."""
        if hosted.record.name == PRIMARY:
            self._machine.before_apply(speculation.note)
            self._machine.applied(speculation.index, speculation.note)
        self._ports.speculated(speculation)

    def before_frames(self, hosted: HostedDatabase, entry: FramesEntry) -> None:
        """Pages are about to become visible by injection."""
        if hosted.sql_open and hosted.record.name == PRIMARY:
            self._machine.before_apply(entry.note)

    def after_frames(self, hosted: HostedDatabase, index: int, entry: FramesEntry) -> None:
        """Pages have become visible by injection."""
        if hosted.sql_open and hosted.record.name == PRIMARY:
            self._machine.applied(index, entry.note)

    # --- databases --------------------------------------------------------------------------
    async def create(self, index: int, entry: CreateEntry) -> None:
        """A database comes into being."""
        if self._databases.named(entry.name) is not None:
            raise InvariantBroken(detail=f"entry {index} creates {entry.name} a second time")
        hosted = await self._databases.create(index, entry)
        self._ports.check_base(entry.name, hosted.base)
        record = DatabaseRecord(entry.name, index, entry.page_size)
        catalog = self._history.latest.catalog.with_database(record)
        self._history.push(index, conf_state=None, catalog=catalog)
        if self.replayed:
            await self._open(hosted)

    async def check_replayed(self) -> None:
        """Once everything durably committed is in place, SQL may run (rule 2)."""
        if self.replayed or self._applied.index < self._replay_target:
            return
        self.replayed = True
        for hosted in self._databases.hosted:
            await self._open(hosted)

    async def _open(self, hosted: HostedDatabase) -> None:
        await hosted.open_sql()
        if hosted.record.name == PRIMARY:
            hosted.db.read_now(self._machine.reloaded)
        self._ports.host(hosted)

    # --- members ----------------------------------------------------------------------------
    def conf_change(self, entry: Entry) -> None:
        """A membership change is committed: tell the core, the catalogue, the transport."""
        change = decode_conf_change(entry)
        conf_state = self._raw.apply_conf_change(change, index=entry.index)
        catalog = self._history.latest.catalog
        request_id = b""
        if isinstance(change, ConfChange):
            context = decode_context(change.context)
            request_id = context.request_id
            catalog = apply_change(catalog, change, context)
        learners = set(conf_state.learners) | set(conf_state.learners_next)
        members = tuple(replace(m, is_learner=m.id in learners) for m in catalog.members)
        catalog = replace(catalog, members=members)
        self._history.push(entry.index, conf_state=conf_state, catalog=catalog)
        self._ports.members_changed()
        if request_id:
            self._ports.change_applied(request_id)
        if self._member_id in catalog.removed:
            self._ports.removed_here()

    def reset(self, version: Version) -> None:
        """A snapshot replaced everything."""
        self._history.reset(version)
        self._manifest_index = version.index
        self._ports.members_changed()

    # --- the log's start --------------------------------------------------------------------
    async def trim(self, base: int) -> None:
        """Drop entries that no database of this member needs, but a tail for slow followers.

        ``base`` is durable in every database's base file. Ordering: the manifest first (rule 5).
        One at a time, and never beside an installation: the checkpointer's lock is held.
        """
        limits = self._limits
        index = self._storage.tail_start(base, limits.catch_up_entries, limits.catch_up_bytes)
        floor = self._ports.snapshot_floor()
        if floor is not None:
            index = min(index, floor)
        if index <= self._manifest_index:
            return
        version = self._history.at(index)
        manifest = Manifest(
            generation=self._databases.generation,
            index=index,
            term=self._storage.term(index),
            conf_state=version.conf_state,
            payload=catalogs.encode(version.catalog),
        )
        await self.store_manifest(manifest)
        result = await self._log_worker.run(lambda: self._storage.compact(manifest))
        self._storage.publish_compact(result)
        self._history.trim(index)
        self._manifest_index = index
        self.trims += 1

    async def store_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest, durably."""
        await self._files.run(lambda: manifests.store(self._disk, self._datadir.path, manifest))

"""Builds the parts of a replica and connects them; nothing here decides anything."""

from __future__ import annotations

import asyncio

from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.applier import Applier, ApplierPorts
from dqlite_py.node.checkpoints import Checkpointer, CheckpointPorts
from dqlite_py.node.contract import Machine
from dqlite_py.node.databases import DatabaseSeams
from dqlite_py.node.driver import Driver, DriverPorts
from dqlite_py.node.file_worker import FileWorker
from dqlite_py.node.install import Installer, InstallPorts
from dqlite_py.node.leadership import Leadership
from dqlite_py.node.log_view import LogView
from dqlite_py.node.membership import Membership
from dqlite_py.node.owned_tasks import OwnedTasks
from dqlite_py.node.parts import Parts, ReplicaSettings, World
from dqlite_py.node.peer_port import PeerPort
from dqlite_py.node.read_index import ReadBarrier
from dqlite_py.node.routing import Router
from dqlite_py.node.snapshot_sink import SnapshotSink
from dqlite_py.node.snapshot_source import SnapshotSource, SnapshotSourcePorts
from dqlite_py.node.startup import Started, check_base, start
from dqlite_py.node.state import StateChanges, StatePorts
from dqlite_py.raft import Config, RaftError, RawNode, Snapshot
from dqlite_py.storage.datadir import DataDir
from dqlite_py.transport.contract import PeerIdentity
from dqlite_py.transport.transport import PeerTransport

_CONTEXT_PREFIX_BYTES = 8
_MESSAGE_BYTES_MAX = 1 << 20
_COMMITTED_BYTES_MAX = 8 << 20
_INFLIGHT_MESSAGES = 256
_INFLIGHT_BYTES = 32 << 20


async def assemble(
    datadir: DataDir, machine: Machine, world: World, settings: ReplicaSettings
) -> Parts:
    """Open what is on disk and connect the parts; nothing runs yet.

    ``datadir`` is locked and has an identity. Raises what ``startup.start`` raises.
    """
    identity = datadir.identity
    assert identity is not None
    parts = Parts()
    parts.world, parts.settings, parts.machine = world, settings, machine
    parts.member_id, parts.cluster_id = identity.member_id, identity.cluster_id
    parts.log_worker = world.workers.serial("raft-log")
    parts.files = FileWorker(world.workers.serial("files"), datadir.path)
    parts.tasks = OwnedTasks()
    parts.primary = None
    parts.primary_open, parts.removed = asyncio.Event(), asyncio.Event()
    seams = DatabaseSeams(
        world.disk, world.file_disk or world.disk, world.workers, world.clock, world.open_main_file
    )
    started = await start(
        datadir,
        world.disk,
        seams,
        parts.log_worker,
        parts.files,
        settings.limits,
        settings.storage_limits,
    )
    if started.storage.torn_bytes:
        # Of a batch that no one was told is durable; an operator may want to know all the same.
        settings.report("torn tail of the log dropped", {"bytes": started.storage.torn_bytes})
    parts.storage, parts.databases = started.storage, started.databases
    parts.history = started.history
    parts.applied = AppliedIndex(started.manifest.index)
    _core(parts, started)
    _leading(parts)
    _transport(parts)
    _applying(parts, datadir, started)
    _driver(parts)
    _checkpoints(parts)
    _snapshots(parts, datadir)
    parts.members_changed()
    return parts


def _core(parts: Parts, started: Started) -> None:
    """The Raft core."""
    limits = parts.settings.limits

    def snapshot() -> Snapshot:
        return parts.snapshots.current()

    parts.raw = RawNode(
        Config(
            id=parts.member_id,
            storage=LogView(parts.storage, snapshot),
            random=parts.world.random,
            election_tick=limits.election_ticks,
            heartbeat_tick=1,
            applied=started.manifest.index,
            async_storage_writes=True,
            max_size_per_message_bytes=_MESSAGE_BYTES_MAX,
            max_committed_bytes_per_ready=_COMMITTED_BYTES_MAX,
            max_inflight_messages=_INFLIGHT_MESSAGES,
            max_inflight_bytes=_INFLIGHT_BYTES,
            check_quorum=True,
            pre_vote=True,
            disable_proposal_forwarding=True,
            step_down_on_removal=True,
        )
    )


def _leading(parts: Parts) -> None:
    """What asks the core things, and what follows its role."""
    world, limits = parts.world, parts.settings.limits

    def begin_round(context: bytes) -> None:
        # Called from the event loop too, which would only log what is raised here.
        try:
            parts.raw.read_index(context)
        except RaftError as error:
            parts.tasks.fail(error)
        parts.driver.kick()

    def moved() -> None:
        parts.barrier.restart()
        parts.router.leadership_changed()
        parts.settings.report(
            "raft", {"term": parts.raw.term, "leader": f"{parts.raw.leader_id:x}"}
        )

    parts.barrier = ReadBarrier(
        world.clock,
        prefix=world.random.randbytes(_CONTEXT_PREFIX_BYTES),
        timeout_s=limits.request_timeout_s,
        begin=begin_round,
        when_applied=parts.applied.when,
    )
    parts.leadership = Leadership(
        parts.raw,
        parts.applied,
        spawn=parts.tasks.spawn,
        create_primary=parts.create_primary,
        lost=lambda: parts.membership.leadership_lost(),
        moved=moved,
    )
    parts.membership = Membership(
        parts.member_id,
        parts.raw,
        limits,
        world.random,
        catalog=lambda: parts.history.latest.catalog,
        leads=lambda: parts.leadership.serving,
        kick=lambda: parts.driver.kick(),
        reachable=lambda member_id: member_id in parts.transport.connected(),
    )


def _transport(parts: Parts) -> None:
    """Peers, and requests to and from them."""
    world, settings = parts.world, parts.settings
    parts.transport = PeerTransport(
        world.network,
        PeerIdentity(parts.cluster_id, parts.member_id),
        settings.secret,
        world.clock,
        world.random,
        settings.transport_limits,
        PeerPort(parts),
        listen_addresses=settings.listen_addresses,
    )
    parts.router = Router(
        parts.member_id,
        parts.transport,
        parts.machine,
        parts.applied,
        world.clock,
        settings.limits,
        leader_id=lambda: parts.raw.leader_id,
        pipeline=lambda: parts.leadership.pipeline,
    )


def _applying(parts: Parts, datadir: DataDir, started: Started) -> None:
    """From committed entries to state."""

    def check_replayed_base(name: str, base: int) -> None:
        if not parts.changes.replayed:
            check_base(datadir, name, base, started.commit)

    parts.changes = StateChanges(
        parts.member_id,
        parts.raw,
        parts.machine,
        parts.databases,
        parts.history,
        parts.applied,
        parts.storage,
        parts.world.disk,
        datadir,
        parts.log_worker,
        parts.files,
        parts.settings.limits,
        started.commit,
        StatePorts(
            host=parts.host,
            check_base=check_replayed_base,
            speculated=parts.answer_batch,
            members_changed=parts.members_changed,
            change_applied=parts.membership.applied,
            removed_here=parts.removed.set,
            snapshot_floor=lambda: parts.snapshots.floor,
        ),
    )
    parts.applier = Applier(
        parts.applied,
        ApplierPorts(
            hosted=lambda: parts.databases.hosted,
            speculated=parts.changes.speculated,
            stop_speculation=parts.stop_speculation,
            before_frames=parts.changes.before_frames,
            after_frames=parts.changes.after_frames,
            create=parts.changes.create,
            conf_change=parts.change_members,
            progressed=parts.progressed,
            responses=parts.applied_responses,
        ),
        run_entries_max=parts.settings.limits.apply_batch_entries_max,
    )


def _driver(parts: Parts) -> None:
    """Core, disk and network in one loop."""
    parts.driver = Driver(
        parts.member_id,
        parts.raw,
        parts.storage,
        parts.log_worker,
        DriverPorts(
            send=parts.transport.send,
            send_snapshot=lambda message: parts.snapshots.send(message),
            apply=parts.applier.submit,
            install=lambda message: parts.installer.install(message),
            read_state=parts.barrier.confirmed,
            stepped=parts.leadership.check,
            failed=parts.tasks.fail,
            spawn=parts.tasks.spawn,
        ),
    )


def _checkpoints(parts: Parts) -> None:
    """From the virtual WAL into the files."""
    parts.checkpointer = Checkpointer(
        parts.databases,
        parts.applier,
        parts.applied,
        parts.world.workers,
        parts.settings.limits,
        CheckpointPorts(
            close_gate=parts.close_gate,
            drained=parts.drained,
            make_commit_durable=parts.driver.make_commit_durable,
            trim=parts.changes.trim,
            room_again=parts.room_again,
        ),
    )


def _snapshots(parts: Parts, datadir: DataDir) -> None:
    """From file to file between members."""
    world = parts.world

    def report(member_id: int, ok: bool) -> None:
        parts.raw.report_snapshot(member_id, ok)
        parts.driver.kick()

    parts.snapshots = SnapshotSource(
        parts.databases,
        parts.checkpointer,
        world.disk,
        parts.files,
        world.clock,
        parts.settings.limits,
        f"{datadir.path}/staging",
        SnapshotSourcePorts(
            call=parts.transport.call,
            send=parts.transport.send,
            report=report,
            term_of=parts.storage.term,
            version_at=parts.history.at,
            first_index=parts.storage.first_index,
            last_change=lambda: parts.history.latest.index,
            spawn=parts.tasks.spawn,
            failed=parts.tasks.fail,
        ),
    )
    parts.sink = SnapshotSink(
        parts.databases, world.disk, world.file_disk or world.disk, parts.files
    )
    parts.installer = Installer(
        parts.sink,
        parts.databases,
        parts.checkpointer,
        parts.applier,
        parts.applied,
        InstallPorts(
            store_manifest=parts.changes.store_manifest,
            restart_log=parts.restart_log,
            unhost=parts.unhost,
            host=parts.host,
            reset_history=parts.changes.reset,
            reloaded=parts.reloaded,
        ),
    )

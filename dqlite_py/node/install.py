"""Switching to a received snapshot, as one step (design rule 6)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dqlite_py.node import catalog as catalogs
from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.applier import Applier
from dqlite_py.node.catalog import Version
from dqlite_py.node.checkpoints import Checkpointer
from dqlite_py.node.databases import DatabaseSet
from dqlite_py.node.hosted import HostedDatabase
from dqlite_py.node.snapshot_sink import SnapshotSink
from dqlite_py.raft import Message
from dqlite_py.storage.manifest import Manifest


@dataclass(frozen=True, slots=True)
class InstallPorts:
    """What installing asks of the replica; event loop only."""

    store_manifest: Callable[[Manifest], Awaitable[None]]
    restart_log: Callable[[Manifest], Awaitable[None]]
    unhost: Callable[[], None]
    host: Callable[[HostedDatabase], None]
    reset_history: Callable[[Version], None]
    reloaded: Callable[[], None]


class Installer:
    """Replaces databases, log start and configuration by a received snapshot."""

    def __init__(
        self,
        sink: SnapshotSink,
        databases: DatabaseSet,
        checkpointer: Checkpointer,
        applier: Applier,
        applied: AppliedIndex,
        ports: InstallPorts,
    ) -> None:
        self._sink = sink
        self._databases = databases
        self._checkpointer = checkpointer
        self._applier = applier
        self._applied = applied
        self._ports = ports

    async def install(self, message: Message) -> None:
        """Install the snapshot that ``message`` names; durable on return.

        Ordering: the new generation's files are durable (the sink sealed them); the manifest's
        replacement switches; only then the log restarts and the old generation goes.
        """
        await self._applier.idle()
        async with self._checkpointer.lock, self._applier.lock:
            incoming = self._sink.take(message)
            head = incoming.head
            catalog = catalogs.decode(head.catalog)
            old_generation = self._databases.generation
            self._ports.unhost()
            for hosted in self._databases.hosted:
                await hosted.settled()
            await self._databases.close()
            manifest = Manifest(
                generation=incoming.generation,
                index=head.index,
                term=head.term,
                conf_state=head.conf_state,
                payload=head.catalog,
            )
            await self._ports.store_manifest(manifest)
            await self._ports.restart_log(manifest)
            self._databases.generation = incoming.generation
            for record in catalog.databases:
                hosted = await self._databases.open_existing(record)
                await hosted.open_sql()
                self._ports.host(hosted)
            self._ports.reset_history(Version(head.index, head.conf_state, catalog))
            self._ports.reloaded()
            self._applied.advance(head.index)
        await self._databases.remove_generation(old_generation)
        self._sink.busy = False

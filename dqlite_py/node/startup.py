"""From a data directory to the parts of a replica, before anything runs (design rule 2)."""

from __future__ import annotations

from dataclasses import dataclass

from dqlite_py.errors import CorruptFile, StartRefused
from dqlite_py.node import catalog as catalogs
from dqlite_py.node.catalog import Catalog, CatalogHistory, Version
from dqlite_py.node.contract import Member
from dqlite_py.node.databases import DatabaseSeams, DatabaseSet
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.raft import ConfState
from dqlite_py.seams import Disk, Worker
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import DataDir
from dqlite_py.storage.log_writer import StorageLimits
from dqlite_py.storage.manifest import Manifest
from dqlite_py.storage.raft_storage import RaftStorage

# A new cluster's log starts after an imaginary first entry that made the first member a voter;
# whoever joins later is behind it and therefore gets a snapshot, which tells it the members.
_BOOTSTRAP_INDEX = 1
_BOOTSTRAP_TERM = 1


def bootstrap_manifest(cluster_id: int, first: Member) -> Manifest:
    """Return the start of a new cluster's log: one voter, no database yet."""
    catalog = Catalog(cluster_id=cluster_id, members=(first,))
    conf_state = ConfState(voters=(first.id,))
    return Manifest(
        generation=1,
        index=_BOOTSTRAP_INDEX,
        term=_BOOTSTRAP_TERM,
        conf_state=conf_state,
        payload=catalogs.encode(catalog),
    )


def joining_manifest(cluster_id: int, members: tuple[Member, ...]) -> Manifest:
    """Return the start of a joiner's log: nothing but the addresses of the others."""
    catalog = Catalog(cluster_id=cluster_id, members=members)
    return Manifest(
        generation=1, index=0, term=0, conf_state=ConfState(), payload=catalogs.encode(catalog)
    )


@dataclass(frozen=True, slots=True)
class Started:
    """What was found on disk."""

    manifest: Manifest
    storage: RaftStorage
    databases: DatabaseSet
    history: CatalogHistory
    commit: int


async def start(
    datadir: DataDir,
    disk: Disk,
    seams: DatabaseSeams,
    log_worker: Worker,
    files: Worker,
    limits: ReplicaLimits,
    storage_limits: StorageLimits,
) -> Started:
    """Open everything in the replaying state; no SQL has run when this returns.

    Raises StartRefused, CorruptFile, NewerFormat or DiskFailed, having changed nothing but what
    a crash left half done (rule 12).
    """
    manifest = await files.run(lambda: manifests.load(disk, datadir.path))
    if manifest is None:
        raise StartRefused(
            reason=f"{datadir.path} has an identity but no manifest: it is damaged; restore it "
            "or remove it and join again"
        )
    found = manifest
    catalog = catalogs.decode(manifest.payload, f"{datadir.path}/{manifests.FILE_NAME}")
    storage = await log_worker.run(
        lambda: RaftStorage.open(disk, datadir.raft_path, found, storage_limits, create=False)
    )
    databases = DatabaseSet(seams, datadir, files, limits)
    databases.generation = manifest.generation
    await files.run(lambda: _remove_leftovers(seams, datadir, found.generation))
    commit = storage.initial_state()[0].commit
    for record in catalog.databases:
        hosted = await databases.open_existing(record)
        check_base(datadir, record.name, hosted.base, commit)
    history = CatalogHistory(Version(manifest.index, manifest.conf_state, catalog))
    return Started(manifest, storage, databases, history, commit)


def check_base(datadir: DataDir, name: str, base: int, commit: int) -> None:
    """Refuse a database file that holds more than the log says is committed."""
    if commit < base:
        raise CorruptFile(
            path=datadir.raft_path,
            detail=f"the durable commit index {commit} is below the base {base} of database "
            f"{name}: part of the log is missing",
        )


def _remove_leftovers(seams: DatabaseSeams, datadir: DataDir, generation: int) -> None:
    """Drop generations that were never switched to, or no longer are in force."""
    root = datadir.databases_path
    for disk in (seams.disk, seams.file_disk):
        if not disk.exists(root):
            continue
        for name in disk.listdir(root):
            if name != str(generation):
                disk.rmtree(f"{root}/{name}")

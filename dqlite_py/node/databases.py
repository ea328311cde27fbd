"""The databases of one replica: their files, how they are created, opened and replaced.

A database's file lives in the directory of the current generation; a received snapshot brings a
new generation and the manifest's replacement switches to it (design rule 6). Beside each file
stands its base: the index up to which the file itself, without the log, holds everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dqlite_py.db.database import Database
from dqlite_py.errors import CorruptFile
from dqlite_py.node.catalog import DatabaseRecord
from dqlite_py.node.entries import CreateEntry
from dqlite_py.node.hosted import HostedDatabase
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.seams import Clock, Disk, Worker, Workers
from dqlite_py.storage import base_index
from dqlite_py.storage.base_index import BaseIndex
from dqlite_py.storage.datadir import DataDir


@dataclass(frozen=True, slots=True)
class DatabaseSeams:
    """What database files need of the world."""

    disk: Disk  # base files and copies of images
    file_disk: Disk  # where SQLite's own files live; differs from ``disk`` only in simulations
    workers: Workers
    clock: Clock
    open_main_file: Callable[..., Any] | None = None


class DatabaseSet:
    """All hosted databases of one replica, by creation index. Event loop only."""

    def __init__(
        self, seams: DatabaseSeams, paths: DataDir, files: Worker, limits: ReplicaLimits
    ) -> None:
        """``files`` is the worker on which small durable file operations run."""
        self._seams = seams
        self._paths = paths
        self._files = files
        self._limits = limits
        self.generation = 0
        self.hosted: list[HostedDatabase] = []

    def named(self, name: str) -> HostedDatabase | None:
        """Return the database called ``name``, or None."""
        return next((h for h in self.hosted if h.record.name == name), None)

    def directory(self, generation: int) -> str:
        """Return the directory of one generation's database files."""
        return self._paths.generation_path(generation)

    def file_path(self, generation: int, name: str) -> str:
        """Return the path of a database's file."""
        return self._paths.database_path(generation, name)

    def base_path(self, generation: int, name: str) -> str:
        """Return the path of a database's base file."""
        return self._paths.base_path(generation, name)

    async def open_existing(self, record: DatabaseRecord) -> HostedDatabase:
        """Host a database whose file exists, in the replaying state.

        Raises CorruptFile when the file or its base is missing.
        """
        path = self.file_path(self.generation, record.name)
        base_path = self.base_path(self.generation, record.name)

        def job() -> BaseIndex | None:
            if not self._seams.file_disk.exists(path):
                return None
            return base_index.load(self._seams.disk, base_path)

        base = await self._files.run(job)
        if base is None:
            raise CorruptFile(path=path, detail="database file or base index is missing")
        return await self._host(record, base)

    async def create(self, index: int, entry: CreateEntry) -> HostedDatabase:
        """Create the database that the entry at ``index`` describes, or reopen it in replay.

        Ordering: file, fdatasync, directory, then the base that makes it valid.
        """
        record = DatabaseRecord(entry.name, index, entry.page_size)
        path = self.file_path(self.generation, entry.name)
        base_path = self.base_path(self.generation, entry.name)
        directory = self.directory(self.generation)

        def job() -> BaseIndex:
            base = base_index.load(self._seams.disk, base_path)
            if base is not None and base.index >= index:
                return base
            self._seams.disk.mkdir(directory)
            write_file(self._seams.file_disk, path, entry.genesis)
            base = BaseIndex(index=index, last_frames=index)
            base_index.store(self._seams.disk, base_path, base)
            return base

        base = await self._files.run(job)
        return await self._host(record, base)

    async def _host(self, record: DatabaseRecord, base: BaseIndex) -> HostedDatabase:
        path = self.file_path(self.generation, record.name)
        seams = self._seams
        database = Database(
            path,
            page_size=record.page_size,
            clock=seams.clock,
            open_main_file=seams.open_main_file,
        )
        hosted = HostedDatabase(
            record,
            database,
            seams.workers,
            self._limits,
            base=base.index,
            last_frames=base.last_frames,
        )
        self.hosted.append(hosted)
        return hosted

    async def store_base(self, hosted: HostedDatabase, base: BaseIndex) -> None:
        """Record durably that the file holds everything up to ``base`` (rule 3)."""
        path = self.base_path(self.generation, hosted.record.name)
        await self._files.run(lambda: base_index.store(self._seams.disk, path, base))
        hosted.base = base.index
        hosted.base_frames = base.last_frames

    async def close(self) -> None:
        """Close every database; nothing is written."""
        hosted, self.hosted = self.hosted, []
        for one in hosted:
            await one.close()

    async def remove_generation(self, generation: int) -> None:
        """Delete the files of a generation that is no longer in force."""
        directory = self.directory(generation)

        def job() -> None:
            self._seams.disk.rmtree(directory)
            if self._seams.file_disk is not self._seams.disk:
                self._seams.file_disk.rmtree(directory)

        await self._files.run(job)

    @property
    def wal_bytes(self) -> int:
        """Memory held by all virtual WALs together."""
        return sum(h.db.wal_bytes for h in self.hosted)


def write_file(disk: Disk, path: str, data: bytes) -> None:
    """Create ``path`` anew with ``data``, durable on return; an older file is replaced."""
    directory = path.rpartition("/")[0]
    disk.mkdir(directory)
    if disk.exists(path):
        disk.unlink(path)
    file = disk.open(path, create=True)
    try:
        file.pwrite(data, 0)
        file.fdatasync()
    finally:
        file.close()
    disk.sync_dir(directory)

"""Snapshots for members that are too far behind: staged once, streamed to each (design rule 6).

A stage is a copy of all database files right after a complete checkpoint, so it stands at exactly
one applied index. Writers are held up only until the checkpoint has fixed its limit; checkpoints
are held off while the files are copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

from dqlite_py.errors import CorruptFile, DiskFailed, DqliteError, Fatal, SnapshotDamaged
from dqlite_py.node import catalog
from dqlite_py.node.catalog import Version
from dqlite_py.node.checkpoints import Checkpointer
from dqlite_py.node.databases import DatabaseSet
from dqlite_py.node.hosted import HostedDatabase
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.snapshot_format import (
    SnapshotChunk,
    SnapshotFile,
    SnapshotHead,
    decode_place,
    encode_chunk,
    encode_head,
    encode_place,
)
from dqlite_py.raft import Message, Snapshot, SnapshotTemporarilyUnavailable
from dqlite_py.seams import Clock, Disk, Worker

_RETRY_S = 0.1
_KEEP_STAGE_S = 60.0
_INSTALL_S = 10.0


@dataclass(frozen=True, slots=True)
class SnapshotSourcePorts:
    """What sending snapshots asks of the replica; event loop only."""

    call: Callable[[int, str, bytes, float], Awaitable[bytes]]
    send: Callable[[Message], None]
    report: Callable[[int, bool], None]
    term_of: Callable[[int], int]
    version_at: Callable[[int], Version]
    first_index: Callable[[], int]
    last_change: Callable[[], int]  # index of the last membership change or database creation
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    failed: Callable[[BaseException], None]


@dataclass(slots=True)
class _Stage:
    head: SnapshotHead
    directory: str
    used_s: float
    streams: int = 0
    spoiled: bool = False  # a receiver found other bytes than were copied: make another


class SnapshotSource:
    """Makes and sends snapshots. Event loop only."""

    def __init__(
        self,
        databases: DatabaseSet,
        checkpointer: Checkpointer,
        disk: Disk,
        files: Worker,
        clock: Clock,
        limits: ReplicaLimits,
        staging_directory: str,
        ports: SnapshotSourcePorts,
    ) -> None:
        self._databases = databases
        self._checkpointer = checkpointer
        self._disk = disk
        self._files = files
        self._clock = clock
        self._limits = limits
        self._directory = staging_directory
        self._ports = ports
        self._stage: _Stage | None = None
        self._wanted = asyncio.Event()
        self._streaming: set[int] = set()
        self.sent = 0

    @property
    def floor(self) -> int | None:
        """The log must not be trimmed beyond this index: who is being sent it goes on there."""
        stage = self._stage
        if stage is None:
            return None
        # A moment longer than the stream, for the receiver installs before it asks for entries.
        # Not as long as the stage is kept: the log would grow without need.
        lately = self._clock.now_s() - stage.used_s < _INSTALL_S
        return stage.head.index if stage.streams or lately else None

    @property
    def wanted(self) -> bool:
        """Whether a member waits for a snapshot that does not exist yet."""
        return self._wanted.is_set()

    def current(self) -> Snapshot:
        """Return the staged snapshot; called by the core.

        Raises SnapshotTemporarilyUnavailable, and has one made, when there is none from which
        the log continues.
        """
        stage = self._stage
        # A core refuses a snapshot whose configuration does not contain it, so one from before
        # the last membership change is of no use to the member that was added.
        oldest = max(self._ports.first_index() - 1, self._ports.last_change())
        if stage is None or stage.spoiled or stage.head.index < oldest:
            self._wanted.set()
            raise SnapshotTemporarilyUnavailable
        stage.used_s = self._clock.now_s()
        head = stage.head
        return Snapshot(index=head.index, term=head.term, conf_state=head.conf_state, data=b"")

    async def run(self) -> None:
        """Stage snapshots when asked, and drop stages no longer used, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_KEEP_STAGE_S / 2):
                    await self._wanted.wait()
            except TimeoutError:
                await self._drop_unused()
                continue
            await self._make_stage()
            # The core asks with every entry it appends; all that asked meanwhile are served by
            # this stage. Making another at once would take it away before anyone could use it.
            self._wanted.clear()

    async def _drop_unused(self) -> None:
        stage = self._stage
        if stage is None or stage.streams:
            return
        if self._clock.now_s() - stage.used_s > _KEEP_STAGE_S:
            self._stage = None
            await self._files.run(lambda: self._disk.rmtree(stage.directory))

    async def _make_stage(self) -> None:
        old = self._stage
        if old is not None and old.streams:
            return  # asked again by the core until the stream has ended
        self._stage = None  # no stream may begin on what is about to be removed
        async with self._checkpointer.lock:
            index = await self._checkpointer.checkpoint()
            while index is None:
                await asyncio.sleep(_RETRY_S)
                index = await self._checkpointer.checkpoint()
            version = self._ports.version_at(index)
            term = self._ports.term_of(index)
            directory = f"{self._directory}/{index}"
            await self._files.run(lambda: self._prepare(directory))
            # No checkpoint runs while the lock is held, so the files do not change.
            try:
                copies = [await self._copy(hosted, directory) for hosted in self._databases.hosted]
            except OSError as error:
                raise DiskFailed(path=directory, detail=str(error)) from error
        head = SnapshotHead(
            index, term, version.conf_state, catalog.encode(version.catalog), tuple(copies)
        )
        self._stage = _Stage(head, directory, self._clock.now_s())

    def _prepare(self, directory: str) -> None:
        self._disk.rmtree(self._directory)
        self._disk.mkdir(directory)

    async def _copy(self, hosted: HostedDatabase, directory: str) -> SnapshotFile:
        record = hosted.record
        last_frames = hosted.base_frames
        path = f"{directory}/{record.name}"

        def job() -> SnapshotFile:
            digest = sha256()
            size_bytes = 0
            file = self._disk.open(path, create=True)

            def write(chunk: bytes) -> None:
                nonlocal size_bytes
                file.pwrite(chunk, size_bytes)
                digest.update(chunk)
                size_bytes += len(chunk)

            try:
                hosted.db.copy_image(write, self._limits.snapshot_chunk_bytes)
            finally:
                file.close()
            return SnapshotFile(
                record.name,
                record.creation_index,
                record.page_size,
                last_frames,
                size_bytes,
                digest.digest(),
            )

        return await hosted.checkpointer.run(job)

    # --- streaming --------------------------------------------------------------------------
    def send(self, message: Message) -> None:
        """Stream the staged files to ``message.to``, then send it the message itself."""
        stage, snapshot = self._stage, message.snapshot
        assert snapshot is not None
        if message.to in self._streaming or stage is None or stage.head.index != snapshot.index:
            self._ports.report(message.to, False)
            return
        self._streaming.add(message.to)
        stage.streams += 1
        self._ports.spawn(self._stream(message, stage))

    async def _stream(self, message: Message, stage: _Stage) -> None:
        ok = False
        try:
            await self._transfer(message.to, stage)
            ok = True
        except Fatal as error:
            self._ports.failed(error)
        except SnapshotDamaged:
            stage.spoiled = True
        except DqliteError:
            ok = False  # reported below: the core probes this member again and asks anew
        except OSError as error:
            self._ports.failed(DiskFailed(path=stage.directory, detail=str(error)))
        finally:
            self._streaming.discard(message.to)
            stage.streams -= 1
            stage.used_s = self._clock.now_s()
        if ok:
            self.sent += 1
            self._ports.send(message)
        self._ports.report(message.to, ok)

    async def _transfer(self, to: int, stage: _Stage) -> None:
        timeout_s = self._limits.snapshot_call_timeout_s
        head = stage.head
        call = self._ports.call
        answer = await call(to, "snapshot.begin", encode_head(head), timeout_s)
        file_number, offset = decode_place(answer)
        while file_number < len(head.files):
            file = head.files[file_number]
            path = f"{stage.directory}/{file.name}"
            while offset < file.size_bytes:
                data = await self._files.run(partial(self._chunk, path, offset))
                if not data:
                    raise CorruptFile(path=path, detail=f"the copy ends at {offset}")
                chunk = SnapshotChunk(head.index, head.term, file_number, offset, data)
                await call(to, "snapshot.chunk", encode_chunk(chunk), timeout_s)
                offset += len(data)
            file_number, offset = file_number + 1, 0
        await call(to, "snapshot.finish", encode_place(head.index, head.term), timeout_s)

    def _chunk(self, path: str, offset: int) -> bytes:
        file = self._disk.open(path)
        try:
            return file.pread(self._limits.snapshot_chunk_bytes, offset)
        finally:
            file.close()

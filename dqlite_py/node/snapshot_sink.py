"""Receiving a snapshot: into a new generation, switched to by one manifest rename (rule 6)."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from dqlite_py.errors import PeerFailed, SnapshotDamaged
from dqlite_py.node.databases import DatabaseSet
from dqlite_py.node.snapshot_format import (
    SnapshotHead,
    decode_chunk,
    decode_head,
    decode_place,
    encode_place,
)
from dqlite_py.raft import Message
from dqlite_py.seams import Disk, DiskFile, Worker
from dqlite_py.storage import base_index
from dqlite_py.storage.base_index import BaseIndex


@dataclass(slots=True)
class Incoming:
    """A snapshot being received."""

    head: SnapshotHead
    generation: int
    file_number: int = 0
    offset: int = 0
    complete: bool = False
    file: DiskFile | None = None
    digest: Any = field(default_factory=sha256)


class SnapshotSink:
    """Takes the calls of a SnapshotSource. Event loop only; file work on the files worker."""

    def __init__(self, databases: DatabaseSet, disk: Disk, file_disk: Disk, files: Worker) -> None:
        self._databases = databases
        self._disk = disk
        self._file_disk = file_disk
        self._files = files
        self._incoming: Incoming | None = None
        # While a snapshot is being installed its generation must not be touched.
        self.busy = False
        self.received = 0

    async def begin(self, payload: bytes) -> bytes:
        """Answer where to go on: a number into the list of files and an offset."""
        head = decode_head(payload)
        if self.busy:
            raise PeerFailed(detail="a snapshot is being installed here")
        incoming = self._incoming
        if incoming is None or incoming.head != head:
            generation = self._databases.generation + 1
            self._incoming = None
            await self._files.run(lambda: self._start(generation, incoming))
            incoming = self._incoming = Incoming(head, generation)
        return encode_place(incoming.file_number, incoming.offset)

    def _start(self, generation: int, abandoned: Incoming | None) -> None:
        if abandoned is not None and abandoned.file is not None:
            abandoned.file.close()
        directory = self._databases.directory(generation)
        for disk in {id(self._disk): self._disk, id(self._file_disk): self._file_disk}.values():
            disk.rmtree(directory)
            disk.mkdir(directory)
            disk.sync_dir(directory.rpartition("/")[0])

    async def chunk(self, payload: bytes) -> bytes:
        """Write one chunk; it must be the next one."""
        chunk = decode_chunk(payload)
        incoming = self._matching(chunk.index, chunk.term)
        here = (chunk.file_number, chunk.offset)
        if here == (incoming.file_number, incoming.offset - len(chunk.data)):
            return b""  # a repeat of the chunk whose answer was lost
        whole = incoming.file_number == len(incoming.head.files)
        if whole or here != (incoming.file_number, incoming.offset):
            raise PeerFailed(detail=f"snapshot chunk {here[0]}/{here[1]} out of order")
        await self._files.run(lambda: self._write(incoming, here, chunk.data))
        return b""

    def _write(self, incoming: Incoming, here: tuple[int, int], data: bytes) -> None:
        if here != (incoming.file_number, incoming.offset):
            return  # sent again while the first one waited for the disk
        expected = incoming.head.files[incoming.file_number]
        if incoming.file is None:
            path = self._databases.file_path(incoming.generation, expected.name)
            incoming.file = self._file_disk.open(path, create=True)
            incoming.digest = sha256()
        incoming.file.pwrite(data, incoming.offset)
        incoming.digest.update(data)
        incoming.offset += len(data)
        if incoming.offset >= expected.size_bytes:
            incoming.file.fdatasync()
            incoming.file.close()
            incoming.file = None
            if incoming.digest.digest() != expected.sha256:
                self._incoming = None
                raise SnapshotDamaged(detail=f"the image of {expected.name} has another SHA-256")
            incoming.file_number += 1
            incoming.offset = 0

    async def finish(self, payload: bytes) -> bytes:
        """All chunks are here: make bases and directory durable."""
        index, term = decode_place(payload)
        incoming = self._matching(index, term)
        if incoming.file_number != len(incoming.head.files):
            raise PeerFailed(detail="snapshot is not complete")
        await self._files.run(lambda: self._seal(incoming))
        incoming.complete = True
        return b""

    def _seal(self, incoming: Incoming) -> None:
        for file in incoming.head.files:
            base_index.store(
                self._disk,
                self._databases.base_path(incoming.generation, file.name),
                BaseIndex(index=incoming.head.index, last_frames=file.last_frames),
            )
        directory = self._databases.directory(incoming.generation)
        self._file_disk.sync_dir(directory)

    def _matching(self, index: int, term: int) -> Incoming:
        incoming = self._incoming
        if incoming is None or (incoming.head.index, incoming.head.term) != (index, term):
            raise PeerFailed(detail="no such snapshot is being received")
        return incoming

    def accepts(self, message: Message) -> bool:
        """Whether the files that a snapshot message speaks of are here, whole."""
        snapshot, incoming = message.snapshot, self._incoming
        return (
            snapshot is not None
            and incoming is not None
            and incoming.complete
            and (incoming.head.index, incoming.head.term) == (snapshot.index, snapshot.term)
        )

    def take(self, message: Message) -> Incoming:
        """Hand over the received snapshot for installation."""
        assert self.accepts(message)
        incoming, self._incoming = self._incoming, None
        assert incoming is not None
        self.received += 1
        return incoming

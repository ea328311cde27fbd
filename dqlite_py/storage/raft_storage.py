"""The Raft log on disk: written by a worker thread, read by the core on the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dqlite_py.errors import CorruptFile, DiskFailed
from dqlite_py.raft import (
    Compacted,
    ConfState,
    Entry,
    HardState,
    Unavailable,
)
from dqlite_py.raft.messages import ENTRY_OVERHEAD_BYTES
from dqlite_py.seams import Disk
from dqlite_py.storage.log_index import LogIndex, RecentEntries
from dqlite_py.storage.log_writer import AppendBatch, LogWriter, StorageLimits, WriteResult
from dqlite_py.storage.manifest import Manifest
from dqlite_py.storage.recovery import Recovered, recover
from dqlite_py.storage.segment import RECORD_HEADER_BYTES, decode_entry, seed_of
from dqlite_py.storage.spare import SparePool


@dataclass(frozen=True, slots=True)
class Compaction:
    """What ``compact`` removed; to be given to ``publish_compact``."""

    manifest: Manifest
    dropped: Sequence[int]


@dataclass(frozen=True, slots=True)
class Installation:
    """The fresh log made by ``install``; to be given to ``publish_install``."""

    manifest: Manifest
    result: WriteResult


class RaftStorage:
    """What a ``LogReader`` needs but snapshots, over segment files.

    Two threads: *worker* methods block and must not overlap each other; *loop* methods run on the
    event loop and see only what was published, in the order in which it was done.
    """

    def __init__(
        self, manifest: Manifest, limits: StorageLimits, found: Recovered, writer: LogWriter
    ) -> None:
        self._manifest = manifest
        self._index = found.index
        self._hard_state = found.hard_state
        self._readers = {segment.header.sequence: segment for segment in found.segments}
        self._recent = RecentEntries(limits.cache_bytes)
        self._writer = writer
        self.torn_bytes = found.torn_bytes
        self._spares: SparePool

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        manifest: Manifest,
        limits: StorageLimits | None = None,
        *,
        create: bool = True,
    ) -> RaftStorage:
        """Read the log back; blocking, before any other call.

        Entries up to ``manifest.index`` are compacted. A log that does not reach it, or has
        another term there, is what a crash leaves between storing a received snapshot's manifest
        and ``install``: it is begun anew behind the manifest, with term and vote kept. With
        ``create`` false a directory without segments is refused, because term and vote are lost:
        pass it once the member's identity is stored. Raises CorruptFile (DamagedTail when only
        the last batch is concerned), NewerFormat, DiskFailed; the files are unchanged then.
        """
        limits = limits or StorageLimits()
        try:
            disk.mkdir(directory)
            found = recover(disk, directory)
        except OSError as error:
            raise DiskFailed(path=directory, detail=str(error)) from error
        if found is None and not create:
            raise CorruptFile(path=directory, detail="the log's segments are missing")
        try:
            keep = found is not None and _continues(directory, found, manifest)
        except CorruptFile:
            for segment in found.segments if found else ():
                segment.file.close()
            raise
        if found is None:
            found = Recovered([], LogIndex(0, 0), HardState(), 0, 0)
        spares = SparePool(disk, directory, limits.segment_bytes, limits.step_bytes)
        last = (found.index.last, found.index.last_term)
        writer = LogWriter(
            disk, directory, limits, spares, found.segments, found.end, last, found.hard_state
        )
        storage = cls(manifest, limits, found, writer)
        storage._spares = spares
        if keep:
            storage._accept()
        else:
            storage.publish_install(storage.install(manifest))
        return storage

    def _accept(self) -> None:
        """Start behind the manifest, which covers only what was committed."""
        manifest, found = self._manifest, self._hard_state
        self._index.drop_prefix(manifest.index, manifest.term)
        self._hard_state = HardState(found.term, found.vote, max(found.commit, manifest.index))

    # --- loop: what the core reads -------------------------------------------------------------
    def initial_state(self) -> tuple[HardState, ConfState]:
        """Return the hard state found by ``open`` or last published, and the manifest's
        configuration.
        """
        return self._hard_state, self._manifest.conf_state

    def first_index(self) -> int:
        """Return the first index that ``entries`` can return."""
        return self._index.start + 1

    def last_index(self) -> int:
        """Return the last published index; ``first_index() - 1`` if there is none."""
        return self._index.last

    def term(self, index: int) -> int:
        """Return the term at ``index`` in [first_index - 1, last_index], in constant time.

        Raises Compacted or Unavailable outside.
        """
        return self._index.term(index)

    def entries(self, lo: int, hi: int, max_bytes: int) -> Sequence[Entry]:
        """Return entries in [lo, hi), at least one, then as many as fit ``max_bytes``.

        Old ones are read from disk, blocking, and checked. Raises Compacted, Unavailable,
        CorruptFile, DiskFailed.
        """
        if lo <= self._index.start:
            raise Compacted(f"index {lo}")
        if hi > self._index.last + 1:
            raise Unavailable(f"index {hi - 1}")
        found: list[Entry] = []
        total = 0
        get = self._recent.get
        for index in range(lo, hi):
            if total + self._index.stored_bytes(index) * 255 // 256 > max_bytes and found:
                break
            entry = get(index) or self._read(index)
            total += len(entry.data) + ENTRY_OVERHEAD_BYTES
            if total > max_bytes and found:
                break
            found.append(entry)
        return found

    def tail_start(self, end: int, entries_max: int, bytes_max: int) -> int:
        """Return the index behind which at most so many entries and bytes lie, up to ``end``."""
        index, size = end, 0
        lowest = max(self._index.start, end - entries_max)
        while index > lowest:
            size += self._index.stored_bytes(index)
            if size > bytes_max:
                break
            index -= 1
        return index

    # --- worker ----------------------------------------------------------------------------------
    def write(self, batches: Sequence[AppendBatch]) -> WriteResult:
        """Worker: append all batches with one write and at most one sync.

        Durable on return when any batch has entries or ``must_sync``. Otherwise nothing is written
        and the commit index goes along with the next write. Raises DiskFailed, InvariantBroken.
        """
        return self._writer.write(batches)

    def store_hard_state(self, hard_state: HardState) -> WriteResult:
        """Worker: append a hard state; durable on return. No part of it goes back."""
        return self._writer.store_hard_state(hard_state)

    def store_commit(self, commit: int) -> WriteResult:
        """Worker: make a commit index of at least ``commit`` durable, if it is not yet.

        For rule 2 of the pipeline: before a checkpoint writes to a database file.
        """
        return self._writer.store_commit(commit)

    def prepare(self) -> bool:
        """Zero a piece of the next segment; return whether to call again.

        Belongs to one thread, which may be another than the worker's. Raises DiskFailed.
        """
        return self._spares.prepare()

    def compact(self, manifest: Manifest) -> Compaction:
        """Worker: remove the segments that hold nothing above ``manifest.index``.

        Ordering: after ``manifest`` was stored. Raises DiskFailed.
        """
        return Compaction(manifest, self._writer.drop_below(manifest.index))

    def install(self, manifest: Manifest) -> Installation:
        """Worker: begin an empty log behind ``manifest``; term and vote stay. Durable on return.

        Ordering: after ``manifest`` was stored. Raises DiskFailed.
        """
        return Installation(manifest, self._writer.restart_at(manifest.index, manifest.term))

    def close(self) -> None:
        """Worker: record the last commit index and close all files. Raises DiskFailed."""
        try:
            self._writer.close()
        finally:
            self._spares.close()
            for segment in self._readers.values():
                segment.file.close()
            self._readers.clear()

    # --- loop: making work visible -----------------------------------------------------------
    def publish(self, result: WriteResult) -> None:
        """Loop: make written entries readable; before the core is told that they are stable."""
        if result.new_segment:
            self._readers[result.segment.header.sequence] = result.segment
        sequence = result.segment.header.sequence
        for placement in result.placements:
            self._index.place(sequence, placement)
        self._recent.add(result.entries)
        if result.hard_state is not None:
            self._hard_state = result.hard_state

    def publish_compact(self, compaction: Compaction) -> None:
        """Loop: forget what was compacted and close its files."""
        manifest = compaction.manifest
        self._index.drop_prefix(manifest.index, manifest.term)
        self._recent.drop_prefix(manifest.index)
        self._manifest = manifest
        for sequence in compaction.dropped:
            self._readers.pop(sequence).file.close()

    def publish_install(self, installation: Installation) -> None:
        """Loop: show the fresh log and close the old one's files."""
        manifest, result = installation.manifest, installation.result
        for segment in self._readers.values():
            segment.file.close()
        self._readers.clear()
        self._recent.clear()
        self._index = LogIndex(manifest.index, manifest.term)
        self._manifest = manifest
        self.publish(result)

    def _read(self, index: int) -> Entry:
        sequence, placement = self._index.locate(index)
        segment = self._readers[sequence]
        length = RECORD_HEADER_BYTES + placement.stored_bytes
        try:
            data = segment.file.pread(length, placement.offset)
        except OSError as error:
            raise DiskFailed(path=segment.path, detail=str(error)) from error
        entry = None
        if len(data) == length:
            entry = decode_entry(data, placement.offset, seed_of(sequence), placement)
        if entry is None:
            raise CorruptFile(path=segment.path, detail=f"entry {index} is damaged")
        return entry


def _continues(directory: str, found: Recovered, manifest: Manifest) -> bool:
    """Tell whether the log found goes on from ``manifest``, or is older and to be begun anew.

    Raises CorruptFile when what was committed contradicts the manifest or is not all there.
    """
    index, commit = found.index, found.hard_state.commit
    if commit > index.last:
        raise CorruptFile(
            path=directory,
            detail=f"entries up to {commit} were committed, the log ends at {index.last}",
        )
    if manifest.index < index.start:
        raise CorruptFile(
            path=directory,
            detail=f"the log begins at {index.start + 1}, the manifest ends at {manifest.index}",
        )
    if manifest.index <= index.last and index.term(manifest.index) == manifest.term:
        return True
    if manifest.index <= commit:
        raise CorruptFile(
            path=directory, detail=f"the committed entry {manifest.index} is not the manifest's"
        )
    return False

"""The writing half of the log: one thread, private state, one write and one sync per call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dqlite_py.errors import DiskFailed, InvariantBroken
from dqlite_py.raft import Entry, HardState
from dqlite_py.seams import Disk
from dqlite_py.storage.recovery import Segment, segment_path
from dqlite_py.storage.segment import (
    DATA_START,
    Placement,
    SegmentHeader,
    batch_bytes_at_most,
    encode_batch,
    seed_of,
)
from dqlite_py.storage.spare import SparePool


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """Sizes of the log, in bytes.

    ``first_segment_bytes`` is the length of a segment for which none was prepared: small, because
    its zeroing is waited for. ``step_bytes`` is how much one ``prepare`` call zeroes.
    """

    segment_bytes: int = 16 << 20
    first_segment_bytes: int = 1 << 20
    step_bytes: int = 1 << 20
    cache_bytes: int = 8 << 20


@dataclass(frozen=True, slots=True)
class AppendBatch:
    """What Raft asks to store in one go.

    The first entry replaces whatever the log holds at its index and beyond. ``must_sync`` is false
    when only the commit index changed.
    """

    entries: Sequence[Entry] = ()
    hard_state: HardState | None = None
    must_sync: bool = True


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What ``write`` did; to be given to ``publish`` in the order of the writes.

    ``new_segment`` is set when the batch began one. ``written_bytes`` is 0 and ``synced`` false
    when nothing had to reach the disk.
    """

    segment: Segment
    entries: Sequence[Entry]
    placements: Sequence[Placement]
    hard_state: HardState | None
    new_segment: bool
    written_bytes: int
    synced: bool


class LogWriter:
    """Appends batches. Every method blocks and belongs to one thread.

    After a DiskFailed every later call fails too: what a failed sync left on the disk is unknown,
    and a second sync that succeeds proves nothing.
    """

    def __init__(
        self,
        disk: Disk,
        directory: str,
        limits: StorageLimits,
        spares: SparePool,
        segments: Sequence[Segment],
        end: int,
        last: tuple[int, int],
        hard_state: HardState,
    ) -> None:
        self._disk = disk
        self._directory = directory
        self._limits = limits
        self._spares = spares
        self._segments = list(segments)
        self._end = end
        self._last_index, self._last_term = last
        self._hard_state = hard_state
        self._unwritten: HardState | None = None
        self._ends_with_entries = bool(segments)
        self._failed: DiskFailed | None = None

    def write(self, batches: Sequence[AppendBatch]) -> WriteResult:
        """Append all batches as one; durable on return if any of them must be.

        A hard state of which only the commit index changed waits for the next call that writes:
        losing it in a crash costs nothing, and so every batch on disk was synced before the next.
        """
        self._require_healthy()
        entries = [entry for batch in batches for entry in batch.entries]
        for batch in batches:
            if batch.hard_state is not None:
                self._unwritten = _merge(self._unwritten or self._hard_state, batch.hard_state)
        hard_state = self._unwritten
        if not entries and not any(batch.must_sync for batch in batches):
            return WriteResult(self._segments[-1], (), (), hard_state, False, 0, False)
        return self._append(entries, hard_state)

    def store_hard_state(self, hard_state: HardState) -> WriteResult:
        """Append ``hard_state``; durable on return. Term and commit index never go back."""
        return self.write((AppendBatch(hard_state=hard_state),))

    def store_commit(self, commit: int) -> WriteResult:
        """Make a commit index of at least ``commit`` durable; nothing to do if one is."""
        self._require_healthy()
        if commit <= self._hard_state.commit:
            return WriteResult(self._segments[-1], (), (), None, False, 0, False)
        current = self._unwritten or self._hard_state
        return self.store_hard_state(HardState(current.term, current.vote, commit))

    def drop_below(self, index: int) -> list[int]:
        """Remove the leading segments that hold no entry above ``index``; return their numbers.

        One directory sync each, oldest first, so that what a crash leaves has no hole. The newest
        segment always stays.
        """
        self._require_healthy()
        dropped = []
        while len(self._segments) > 1 and self._segments[0].max_index <= index:
            oldest = self._segments.pop(0)
            with self._guard(oldest.path):
                self._disk.unlink(oldest.path)
                self._disk.sync_dir(self._directory)
            dropped.append(oldest.header.sequence)
        return dropped

    def restart_at(self, index: int, term: int) -> WriteResult:
        """Begin a log whose first entry will be ``index + 1``; durable on return.

        The new segment declares all earlier ones void before they are removed.
        """
        self._require_healthy()
        current = self._unwritten or self._hard_state
        hard_state = HardState(current.term, current.vote, max(current.commit, index))
        self._last_index, self._last_term = index, term
        old = list(self._segments)
        result = self._begin_segment((), hard_state, restarts=True)
        self._segments = [self._segments[-1]]
        with self._guard(self._directory):
            for segment in old:
                self._disk.unlink(segment.path)
            self._disk.sync_dir(self._directory)
        return result

    def close(self) -> None:
        """Record that the last batch is durable, together with the last commit index."""
        behind = self._ends_with_entries or self._unwritten is not None
        if behind and self._failed is None:
            self._append((), self._unwritten)

    def _append(self, entries: Sequence[Entry], hard_state: HardState | None) -> WriteResult:
        self._check(entries, hard_state)
        segment = self._segments[-1]
        seed = seed_of(segment.header.sequence)
        data, placements = encode_batch(seed, self._end, hard_state, entries)
        if self._end + len(data) > segment.header.length:
            return self._begin_segment(entries, hard_state)
        with self._guard(segment.path):
            segment.file.pwrite(data, self._end)
            segment.file.fdatasync()
        self._end += len(data)
        self._note(segment, entries, hard_state)
        return WriteResult(segment, entries, placements, hard_state, False, len(data), True)

    def _begin_segment(
        self, entries: Sequence[Entry], hard_state: HardState | None, *, restarts: bool = False
    ) -> WriteResult:
        """Write header and first batch into a spare, sync it, and only then give it its name."""
        repeated = hard_state or self._hard_state
        needed = DATA_START + batch_bytes_at_most(entries)
        spare = self._spares.take((needed + 511) & ~511, self._limits.first_segment_bytes)
        before = self._segments[-1].header.sequence if self._segments else 0
        header = SegmentHeader(
            before + 1, self._last_index + 1, self._last_term, self._end, spare.length, restarts
        )
        data, placements = encode_batch(seed_of(before + 1), DATA_START, repeated, entries)
        path = segment_path(self._directory, before + 1)
        with self._guard(path):
            spare.file.pwrite(header.encode() + data, 0)
            spare.file.fdatasync()
            self._disk.rename(spare.path, path)
            self._disk.sync_dir(self._directory)
        segment = Segment(header, path, spare.file)
        self._segments.append(segment)
        self._end = DATA_START + len(data)
        self._note(segment, entries, repeated)
        written = DATA_START + len(data)
        return WriteResult(segment, entries, placements, repeated, True, written, True)

    def _note(
        self, segment: Segment, entries: Sequence[Entry], hard_state: HardState | None
    ) -> None:
        if hard_state is not None:
            self._hard_state = hard_state
            self._unwritten = None
        self._ends_with_entries = bool(entries)
        if entries:
            last = entries[-1]
            self._last_index, self._last_term = last.index, last.term
            segment.max_index = max(segment.max_index, max(entry.index for entry in entries))

    def _check(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        """Refuse what would make the log contradict itself."""
        last = self._last_index
        commit = self._hard_state.commit
        for entry in entries:
            if not commit < entry.index <= last + 1:
                raise InvariantBroken(
                    detail=f"entry {entry.index} does not fit a log of {last}, {commit} committed"
                )
            last = entry.index
        if hard_state is not None and hard_state.commit > last:
            raise InvariantBroken(detail=f"commit index {hard_state.commit} beyond entry {last}")

    def _require_healthy(self) -> None:
        if self._failed is not None:
            raise self._failed

    @contextmanager
    def _guard(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = DiskFailed(path=path, detail=str(error))
            raise self._failed from error


def _merge(current: HardState, new: HardState) -> HardState:
    """Return ``new``, except that no part of it goes back behind ``current``."""
    commit = max(current.commit, new.commit)
    if new.term < current.term or (new.term == current.term and new.vote == 0):
        return HardState(current.term, current.vote, commit)
    if new.term == current.term and current.vote not in (0, new.vote):
        raise InvariantBroken(detail=f"a second vote in term {new.term}")
    return HardState(new.term, new.vote, commit)

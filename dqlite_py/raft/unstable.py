"""The part of the log that is not known to be on stable storage yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dqlite_py.raft.errors import InvariantBroken
from dqlite_py.raft.messages import Entry, Snapshot
from dqlite_py.raft.trace import TraceEvent
from dqlite_py.raft.trace_log import StableIgnored, UnstableReplaced, UnstableTruncated


class UnstableLog:
    """Entries from ``offset`` on, and perhaps a snapshot that comes before them.

    ``offset_in_progress`` and ``snapshot_in_progress`` mark what has been handed out for writing:
    it is not handed out again, and forgotten only when its write is reported. Entries may have
    been replaced while an older write for the same index is under way, so a report counts only if
    the term matches too (an "ABA" race otherwise loses the newer entry).
    """

    def __init__(self, offset: int, trace: Callable[[TraceEvent], None] | None) -> None:
        self.snapshot: Snapshot | None = None
        self.snapshot_in_progress = False
        self.entries: list[Entry] = []
        self.offset = offset
        self.offset_in_progress = offset
        self._trace = trace

    def first_index(self) -> int | None:
        """Return the log's first index if a snapshot decides it."""
        return None if self.snapshot is None else self.snapshot.index + 1

    def term(self, index: int) -> int | None:
        """Return the term at ``index`` if it is known here."""
        position = index - self.offset
        if position < 0:
            snapshot = self.snapshot
            return snapshot.term if snapshot is not None and snapshot.index == index else None
        return self.entries[position].term if position < len(self.entries) else None

    def next_entries(self) -> tuple[Entry, ...]:
        """Return the entries that no write has been started for."""
        return tuple(self.entries[self.offset_in_progress - self.offset :])

    def has_next_entries(self) -> bool:
        """Tell whether ``next_entries`` would return any."""
        return self.offset + len(self.entries) > self.offset_in_progress

    def next_snapshot(self) -> Snapshot | None:
        """Return the snapshot unless its write has been started."""
        return None if self.snapshot_in_progress else self.snapshot

    def accept_in_progress(self) -> None:
        """Note that writing of everything held has been started."""
        if self.entries:
            self.offset_in_progress = self.offset + len(self.entries)
        if self.snapshot is not None:
            self.snapshot_in_progress = True

    def stable_to(self, index: int, term: int) -> None:
        """Forget entries up to ``index`` if the one there still has ``term``."""
        held_term = self.term(index)
        if held_term != term or index < self.offset:
            if self._trace is not None:
                self._trace(StableIgnored(index, term, held_term or 0))
            return
        del self.entries[: index + 1 - self.offset]
        self.offset = index + 1
        self.offset_in_progress = max(self.offset_in_progress, self.offset)

    def stable_snapshot_to(self, index: int) -> None:
        """Forget the snapshot if it is the one at ``index``."""
        if self.snapshot is not None and self.snapshot.index == index:
            self.snapshot = None
            self.snapshot_in_progress = False

    def restore(self, snapshot: Snapshot) -> None:
        """Hold nothing but ``snapshot``."""
        self.offset = snapshot.index + 1
        self.offset_in_progress = self.offset
        self.entries = []
        self.snapshot = snapshot
        self.snapshot_in_progress = False

    def truncate_and_append(self, entries: Sequence[Entry]) -> None:
        """Append ``entries``, first dropping what stands at and after the first one's index."""
        start = entries[0].index
        end = self.offset + len(self.entries)
        if start == end:
            self.entries.extend(entries)
        elif start > end:
            raise InvariantBroken(f"gap between log end {end - 1} and appended index {start}")
        elif start <= self.offset:
            if self._trace is not None:
                self._trace(UnstableReplaced(start))
            self.entries = list(entries)
            self.offset = start
            self.offset_in_progress = start
        else:
            if self._trace is not None:
                self._trace(UnstableTruncated(start))
            self.entries[start - self.offset :] = entries
            self.offset_in_progress = min(self.offset_in_progress, start)

"""What the core reads from stable storage, and an implementation in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dqlite_py.raft.errors import Compacted, InvariantBroken, SnapshotOutOfDate, Unavailable
from dqlite_py.raft.messages import (
    ENTRY_OVERHEAD_BYTES,
    NO_LIMIT,
    ConfState,
    Entry,
    HardState,
    Snapshot,
)


class LogReader(Protocol):
    """The stable log as the core sees it; the core never writes.

    Entries become visible here before the core is told that they are stable.
    """

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Return what was stored before this start."""

    def entries(self, lo: int, hi: int, max_bytes: int) -> Sequence[Entry]:
        """Return entries in [lo, hi), at least one, then as many as fit ``max_bytes``.

        Raises Compacted if ``lo`` is before ``first_index`` and Unavailable if ``hi`` is beyond
        ``last_index() + 1``.
        """

    def term(self, index: int) -> int:
        """Return the term at ``index`` in [first_index - 1, last_index].

        The term of the position before the first entry stays known for the log match check.
        Raises Compacted or Unavailable outside that range.
        """

    def first_index(self) -> int:
        """Return the first index that ``entries`` can return."""

    def last_index(self) -> int:
        """Return the last index stored; ``first_index() - 1`` if the log is empty."""

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot, at or after ``first_index() - 1``.

        Raises SnapshotTemporarilyUnavailable when it is being prepared.
        """


def limit_size(entries: Sequence[Entry], max_bytes: int) -> Sequence[Entry]:
    """Return the longest prefix within ``max_bytes``, but at least one entry if there is one."""
    total = 0
    for count, entry in enumerate(entries):
        total += len(entry.data) + ENTRY_OVERHEAD_BYTES
        if total > max_bytes and count:
            return entries[:count]
    return entries


class MemoryStorage:
    """A LogReader that keeps everything in memory; nothing survives the process."""

    def __init__(self) -> None:
        self._hard_state = HardState()
        self._snapshot = Snapshot(0, 0, ConfState())
        self._start = 0
        self._start_term = 0
        self._entries: list[Entry] = []

    def initial_state(self) -> tuple[HardState, ConfState]:
        """Return the hard state and the configuration of the snapshot."""
        return self._hard_state, self._snapshot.conf_state

    def first_index(self) -> int:
        """Return the first index held."""
        return self._start + 1

    def last_index(self) -> int:
        """Return the last index held."""
        return self._start + len(self._entries)

    def term(self, index: int) -> int:
        """Return the term at ``index``; raises Compacted or Unavailable."""
        if index < self._start:
            raise Compacted(f"index {index}")
        if index > self.last_index():
            raise Unavailable(f"index {index}")
        if index == self._start:
            return self._start_term
        return self._entries[index - self._start - 1].term

    def entries(self, lo: int, hi: int, max_bytes: int) -> Sequence[Entry]:
        """Return entries in [lo, hi) within ``max_bytes``; raises Compacted or Unavailable."""
        if lo <= self._start:
            raise Compacted(f"index {lo}")
        if hi > self.last_index() + 1:
            raise Unavailable(f"index {hi - 1}")
        found = self._entries[lo - self._start - 1 : hi - self._start - 1]
        return found if max_bytes >= NO_LIMIT else limit_size(found, max_bytes)

    def snapshot(self) -> Snapshot:
        """Return the snapshot last set."""
        return self._snapshot

    def set_hard_state(self, hard_state: HardState) -> None:
        """Replace the hard state."""
        self._hard_state = hard_state

    def append(self, entries: Sequence[Entry]) -> None:
        """Write entries, replacing what stood at and after the first one's index.

        Entries at or before the compacted position are skipped. Raises InvariantBroken on a gap.
        """
        entries = [entry for entry in entries if entry.index > self._start]
        if not entries:
            return
        offset = entries[0].index - self._start - 1
        if offset > len(self._entries):
            raise InvariantBroken(f"gap before index {entries[0].index}")
        del self._entries[offset:]
        self._entries.extend(entries)

    def create_snapshot(self, index: int, conf_state: ConfState, data: bytes = b"") -> Snapshot:
        """Record a snapshot of the state at ``index`` and return it; entries stay.

        Raises SnapshotOutOfDate if one at or after ``index`` exists.
        """
        if index <= self._snapshot.index:
            raise SnapshotOutOfDate(f"index {index}")
        self._snapshot = Snapshot(index, self.term(index), conf_state, data)
        return self._snapshot

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Replace the whole log by ``snapshot``; raises SnapshotOutOfDate if it is not newer."""
        if snapshot.index <= self._snapshot.index:
            raise SnapshotOutOfDate(f"index {snapshot.index}")
        self._snapshot = snapshot
        self._start, self._start_term = snapshot.index, snapshot.term
        self._entries.clear()

    def compact(self, index: int) -> None:
        """Forget entries up to and including ``index``; raises Compacted if already done."""
        if index <= self._start:
            raise Compacted(f"index {index}")
        term = self.term(index)
        del self._entries[: index - self._start]
        self._start, self._start_term = index, term

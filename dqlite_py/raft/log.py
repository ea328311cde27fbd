"""The whole log of one member: the stable part behind a LogReader and the unstable tail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dqlite_py.raft.errors import Compacted, InvariantBroken, Unavailable
from dqlite_py.raft.messages import NO_LIMIT, Entry, EntryKind, Snapshot, size_bytes
from dqlite_py.raft.storage import LogReader, limit_size
from dqlite_py.raft.trace import TraceEvent
from dqlite_py.raft.trace_log import ConflictFound, RestoreStarted
from dqlite_py.raft.unstable import UnstableLog

_SCAN_BYTES = 1 << 20


class RaftLog:
    """Positions in the log and the rules that move them.

    Invariant: applied <= applying <= committed <= last index. ``applying`` is what has been
    handed to the application; ``applied`` is what it reported done. ``committed`` never falls and
    nothing at or below it is ever replaced.
    """

    def __init__(
        self,
        storage: LogReader,
        max_applying_bytes: int,
        trace: Callable[[TraceEvent], None] | None,
    ) -> None:
        first, last = storage.first_index(), storage.last_index()
        self.storage = storage
        self.unstable = UnstableLog(last + 1, trace)
        self.committed = first - 1
        self.applying = first - 1
        self.applied = first - 1
        self._max_applying_bytes = max_applying_bytes
        self._applying_bytes = 0
        self._applying_paused = False
        self._trace = trace
        self._last_index = last

    def first_index(self) -> int:
        """Return the first index whose entry is available."""
        index = self.unstable.first_index()
        return self.storage.first_index() if index is None else index

    def last_index(self) -> int:
        """Return the last index."""
        return self._last_index

    def last_term(self) -> int:
        """Return the term of the last entry."""
        return self.term(self._last_index)

    def term(self, index: int) -> int:
        """Return the term at ``index``.

        Raises Compacted before ``first_index() - 1`` and Unavailable after ``last_index()``.
        """
        term = self.unstable.term(index)
        if term is not None:
            return term
        if index + 1 < self.first_index():
            raise Compacted(f"index {index}")
        if index > self._last_index:
            raise Unavailable(f"index {index}")
        return self.storage.term(index)

    def term_or_zero(self, index: int) -> int:
        """Return the term at ``index``, 0 where the log has none."""
        try:
            return self.term(index)
        except (Compacted, Unavailable):
            return 0

    def matches(self, index: int, term: int) -> bool:
        """Tell whether the log has an entry of ``term`` at ``index`` (log matching, 3.5)."""
        try:
            return self.term(index) == term
        except (Compacted, Unavailable):
            return False

    def is_up_to_date(self, index: int, term: int) -> bool:
        """Tell whether a log that ends at (index, term) has all this one has (3.6.1)."""
        last_term = self.last_term()
        return term > last_term or (term == last_term and index >= self._last_index)

    def append(self, entries: Sequence[Entry]) -> None:
        """Append ``entries``, replacing what stands at and after the first one's index.

        Raises InvariantBroken if that is at or below the commit index.
        """
        if entries[0].index <= self.committed:
            raise InvariantBroken(
                f"append at {entries[0].index} is not after the commit index {self.committed}"
            )
        self.unstable.truncate_and_append(entries)
        self._last_index = entries[-1].index

    def try_append(
        self, index: int, term: int, entries: tuple[Entry, ...], commit: int
    ) -> int | None:
        """Take a leader's append that builds on (index, term); return the last index it covers.

        Returns None if the log does not contain that position. Entries already present stay; only
        from the first conflict on are they replaced (dissertation figure 3.1, AppendEntries 3-5).
        Raises InvariantBroken if the conflict is at or below the commit index.
        """
        if not self.matches(index, term):
            return None
        last_new = index + len(entries)
        if entries:
            conflict = self._find_conflict(entries)
            if conflict is not None:
                self.append(entries[conflict - index - 1 :])
        self.commit_to(min(commit, last_new))
        return last_new

    def _find_conflict(self, entries: tuple[Entry, ...]) -> int | None:
        """Return the index of the first entry that is new or differs, None if all are present."""
        last = self._last_index
        if entries[0].index > last:
            return entries[0].index
        for entry in entries:
            if self.matches(entry.index, entry.term):
                continue
            if entry.index <= last and self._trace is not None:
                existing = self.term_or_zero(entry.index)
                self._trace(ConflictFound(entry.index, existing, entry.term))
            return entry.index
        return None

    def find_conflict_by_term(self, index: int, term: int) -> tuple[int, int]:
        """Return the last (index, term) at or before ``index`` whose term is at most ``term``.

        A leader that probes there, or a follower that suggests it, skips a whole conflicting term
        in one round trip. The term is 0 where the log does not know it.
        """
        while index > 0:
            try:
                own = self.term(index)
            except (Compacted, Unavailable):
                return index, 0
            if own <= term:
                return index, own
            index -= 1
        return 0, 0

    def commit_to(self, index: int) -> None:
        """Raise the commit index; raises InvariantBroken if the log does not reach that far."""
        if index <= self.committed:
            return
        if index > self._last_index:
            raise InvariantBroken(
                f"commit index {index} is beyond the last index {self._last_index}: log lost?"
            )
        self.committed = index

    def entries(self, lo: int, max_bytes: int) -> tuple[Entry, ...]:
        """Return the entries from ``lo`` to the end within ``max_bytes``, at least one if any.

        Raises Compacted.
        """
        if lo > self._last_index:
            return ()
        return self.slice(lo, self._last_index + 1, max_bytes)

    def slice(self, lo: int, hi: int, max_bytes: int) -> tuple[Entry, ...]:
        """Return the entries in [lo, hi) within ``max_bytes``, at least one; raises Compacted."""
        offset = self.unstable.offset
        if lo >= offset:
            found = self.unstable.entries[lo - offset : hi - offset]
            return tuple(limit_size(found, max_bytes) if max_bytes < NO_LIMIT else found)
        if lo < self.first_index():
            raise Compacted(f"index {lo}")
        middle = min(hi, offset)
        stable = tuple(self.storage.entries(lo, middle, max_bytes))
        if hi <= offset or len(stable) < middle - lo:
            return stable
        used = size_bytes(stable)
        if used >= max_bytes:
            return stable
        rest = limit_size(self.unstable.entries[: hi - offset], max_bytes - used)
        if size_bytes(list(rest)) > max_bytes - used:
            return stable
        return stable + tuple(rest)

    def snapshot(self) -> Snapshot:
        """Return the newest snapshot; raises SnapshotTemporarilyUnavailable."""
        return self.unstable.snapshot or self.storage.snapshot()

    def restore(self, snapshot: Snapshot) -> None:
        """Replace the whole log by ``snapshot``, which is committed by definition."""
        if self._trace is not None:
            unstable = self.unstable
            event = RestoreStarted(
                self.committed,
                self.applied,
                self.applying,
                unstable.offset,
                unstable.offset_in_progress,
                len(unstable.entries),
                snapshot.index,
                snapshot.term,
            )
            self._trace(event)
        self.committed = snapshot.index
        self.unstable.restore(snapshot)
        self._last_index = snapshot.index

    def has_pending_snapshot(self) -> bool:
        """Tell whether a received snapshot has not been installed yet."""
        return self.unstable.snapshot is not None

    def _max_appliable(self, allow_unstable: bool) -> int:
        if allow_unstable:
            return self.committed
        return min(self.committed, self.unstable.offset - 1)

    def has_next_committed(self, allow_unstable: bool) -> bool:
        """Tell whether ``next_committed`` would return entries."""
        return (
            self.applying < self._max_appliable(allow_unstable)
            and not self._applying_paused
            and self.unstable.snapshot is None
        )

    def next_committed(self, allow_unstable: bool) -> tuple[Entry, ...]:
        """Return committed entries to apply next, within the limit on what is being applied.

        Entries that are not stable here yet are held back unless ``allow_unstable``.
        """
        if not self.has_next_committed(allow_unstable):
            return ()
        hi = self._max_appliable(allow_unstable) + 1
        return self.slice(self.applying + 1, hi, self._max_applying_bytes - self._applying_bytes)

    def accept_applying(self, entries: tuple[Entry, ...], allow_unstable: bool) -> None:
        """Note that the application was given ``entries``."""
        self.applying = entries[-1].index
        self._applying_bytes += size_bytes(entries)
        self._applying_paused = (
            self._applying_bytes >= self._max_applying_bytes
            or self.applying < self._max_appliable(allow_unstable)
        )

    def applied_to(self, index: int, done_bytes: int) -> None:
        """Note that the application has applied up to ``index``, freeing ``done_bytes``.

        Raises InvariantBroken if that goes back or past the commit index.
        """
        if not self.applied <= index <= self.committed:
            raise InvariantBroken(
                f"applied {index} is outside [{self.applied}, commit {self.committed}]"
            )
        self._applying_bytes = max(0, self._applying_bytes - done_bytes)
        self.applied = index
        self.applying = max(self.applying, index)
        self._applying_paused = self._applying_bytes >= self._max_applying_bytes

    def has_unapplied_conf_change(self) -> bool:
        """Tell whether a membership change is committed but not applied."""
        lo, hi = self.applied + 1, self.committed + 1
        snapshot = self.unstable.snapshot
        if snapshot is not None:
            lo = max(lo, snapshot.index + 1)
        while lo < hi:
            found = self.slice(lo, hi, _SCAN_BYTES)
            if any(entry.kind is not EntryKind.NORMAL for entry in found):
                return True
            lo += len(found)
        return False

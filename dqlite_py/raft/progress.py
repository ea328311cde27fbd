"""What a leader knows about each follower, and how much it may send it."""

from __future__ import annotations

from collections import deque
from enum import IntEnum


class ProgressState(IntEnum):
    """How a follower is being brought up to date (see DESIGN.md for the diagram).

    PROBE: at most one append per heartbeat until its log's end is known. REPLICATE: appends are
    streamed optimistically. SNAPSHOT: nothing is sent until the snapshot is settled.
    """

    PROBE = 0
    REPLICATE = 1
    SNAPSHOT = 2


class Inflights:
    """The last indexes and sizes of appends that a follower has not acknowledged."""

    __slots__ = ("_queue", "bytes", "max_bytes", "max_messages")

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.bytes = 0
        self._queue: deque[tuple[int, int]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, index: int, size_bytes: int) -> None:
        """Note an append that ends at ``index``; the caller has checked ``is_full``."""
        self._queue.append((index, size_bytes))
        self.bytes += size_bytes

    def free_to(self, index: int) -> None:
        """Forget appends that end at or before ``index``."""
        queue = self._queue
        while queue and queue[0][0] <= index:
            self.bytes -= queue.popleft()[1]

    def is_full(self) -> bool:
        """Tell whether no further append may be sent."""
        return len(self._queue) >= self.max_messages or 0 < self.max_bytes <= self.bytes

    def clear(self) -> None:
        """Forget everything."""
        self._queue.clear()
        self.bytes = 0


class Progress:
    """A leader's view of one member. Invariant: 0 <= match < next.

    ``match`` is acknowledged as durable there; ``next`` is sent next; ``sent_commit`` is the
    highest commit index sent. ``recent_active`` is cleared at every quorum check.
    """

    __slots__ = (
        "flow_paused",
        "inflights",
        "is_learner",
        "match",
        "next",
        "pending_snapshot",
        "recent_active",
        "sent_commit",
        "state",
    )

    def __init__(
        self, match: int, next_index: int, inflights: Inflights, *, is_learner: bool = False
    ) -> None:
        self.match = match
        self.next = next_index
        self.sent_commit = 0
        self.state = ProgressState.PROBE
        self.pending_snapshot = 0
        self.recent_active = False
        self.flow_paused = False
        self.inflights = inflights
        self.is_learner = is_learner

    def copy(self) -> Progress:
        """Return a copy for a changed configuration; the inflight window is shared."""
        twin = Progress(self.match, self.next, self.inflights, is_learner=self.is_learner)
        twin.sent_commit = self.sent_commit
        twin.state = self.state
        twin.pending_snapshot = self.pending_snapshot
        twin.recent_active = self.recent_active
        twin.flow_paused = self.flow_paused
        return twin

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self.pending_snapshot = 0
        self.flow_paused = False
        self.inflights.clear()

    def become_probe(self) -> None:
        """Look for the follower's log end again, after a snapshot from just behind it."""
        pending = self.pending_snapshot if self.state is ProgressState.SNAPSHOT else 0
        self._enter(ProgressState.PROBE)
        self.next = max(self.match, pending) + 1
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def become_replicate(self) -> None:
        """Stream appends from just behind what is acknowledged."""
        self._enter(ProgressState.REPLICATE)
        self.next = self.match + 1

    def become_snapshot(self, index: int) -> None:
        """Wait for the outcome of a snapshot at ``index``."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self.next = index + 1
        self.sent_commit = index

    def sent_entries(self, count: int, size_bytes: int) -> None:
        """Note that an append with ``count`` entries was sent."""
        if self.state is ProgressState.REPLICATE:
            if count:
                self.next += count
                self.inflights.add(self.next - 1, size_bytes)
            self.flow_paused = self.inflights.is_full()
        elif count:
            self.flow_paused = True

    def acknowledged(self, index: int) -> bool:
        """Raise ``match`` to ``index``; return False if that is no news."""
        if index <= self.match:
            return False
        self.match = index
        if self.next <= index:
            self.next = index + 1
        self.flow_paused = False
        return True

    def rejected(self, index: int, hint: int) -> bool:
        """Step ``next`` back after an append on ``index`` was refused.

        ``hint`` is where the logs may agree. Returns False if the refusal is out of date.
        """
        if self.state is ProgressState.REPLICATE:
            if index <= self.match:
                return False
            self.next = self.match + 1
        else:
            if self.next - 1 != index:
                return False
            self.next = max(min(index, hint + 1), self.match + 1)
            self.flow_paused = False
        self.sent_commit = min(self.sent_commit, self.next - 1)
        return True

    def can_bump_commit(self, index: int) -> bool:
        """Tell whether an empty append would teach the follower a higher commit index."""
        return index > self.sent_commit and self.sent_commit < self.next - 1

    def is_paused(self) -> bool:
        """Tell whether nothing may be sent now."""
        return self.state is ProgressState.SNAPSHOT or self.flow_paused

    def __str__(self) -> str:
        words = [f"State{self.state.name.capitalize()} match={self.match} next={self.next}"]
        if self.is_learner:
            words.append("learner")
        if self.is_paused():
            words.append("paused")
        if self.pending_snapshot:
            words.append(f"pendingSnap={self.pending_snapshot}")
        if not self.recent_active:
            words.append("inactive")
        if self.inflights:
            full = "[full]" if self.inflights.is_full() else ""
            words.append(f"inflight={len(self.inflights)}{full}")
        return " ".join(words)

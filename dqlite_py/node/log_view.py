"""The log as the core reads it: stored entries, and snapshots that are staged when needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dqlite_py.raft import ConfState, Entry, HardState, Snapshot
from dqlite_py.storage.raft_storage import RaftStorage


class LogView:
    """A raft.LogReader over RaftStorage whose snapshots come from the SnapshotSource."""

    def __init__(self, storage: RaftStorage, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self.initial_state: Callable[[], tuple[HardState, ConfState]] = storage.initial_state
        self.entries: Callable[[int, int, int], Sequence[Entry]] = storage.entries
        self.term: Callable[[int], int] = storage.term
        self.first_index: Callable[[], int] = storage.first_index
        self.last_index: Callable[[], int] = storage.last_index

    def snapshot(self) -> Snapshot:
        """Return a staged snapshot; raises SnapshotTemporarilyUnavailable while one is made."""
        return self._snapshot()

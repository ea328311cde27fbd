"""What watching needs of the store: its committed revision, and the changes between revisions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from dqlite_py.errors import Compacted, NoLeader, ReadInterrupted
from dqlite_py.node.contract import Session
from dqlite_py.pb import kv_pb2
from dqlite_py.watch import wire

REVISIONS_PER_CHUNK = 1000  # etcd behaviour: distinct revisions in one catch-up response
CHUNK_BYTES = 1024 * 1024  # a chunk ends with the revision that passes this
REVISIONS_PER_SCAN = 10_000  # looked through in one read, however few of them match

# What a read may raise and the next one not: the database is rolled back, or replaced by a snapshot
# that may be newer than what this member has heard of.
TRANSIENT = (Compacted, NoLeader, ReadInterrupted)
RETRY_S = 0.01


class Committed(Protocol):
    """The store's committed state as this member knows it."""

    @property
    def revision(self) -> int:
        """The store's revision; never goes back."""

    @property
    def compact_revision(self) -> int:
        """History below it may be gone; raised before any row vanishes from readers' sight."""


class HistoryReader(Protocol):
    """Reads changes inside a read transaction, on any thread."""

    def changes(
        self, session: Session, key: bytes, range_end: bytes, first: int, last: int
    ) -> Iterable[kv_pb2.Event]:
        """Return, lazily and in order, the changes of an interval from revision first to last.

        ``range_end`` is as in a range request. A deletion's ``kv`` has only its key and revision.
        No event has ``prev_kv``. Raises Compacted if history at ``first`` is gone.
        """

    def previous(self, session: Session, key: bytes, revision: int) -> kv_pb2.KeyValue | None:
        """Return ``key`` as it was just before ``revision``, or None if it was absent."""


@dataclass(frozen=True, slots=True)
class Change:
    """One event, serialised once for all watchers. The bytes are fields of a WatchResponse."""

    revision: int
    key: bytes
    is_delete: bool
    plain: bytes
    full: bytes | None  # with the previous pair, if previous pairs were asked for


@dataclass(frozen=True, slots=True)
class Interest:
    """Which changes to read: an interval of keys, what to leave out, what to add."""

    key: bytes
    range_end: bytes
    no_put: bool = False
    no_delete: bool = False
    previous: bool = False

    def wants(self, *, is_delete: bool) -> bool:
        """Tell whether changes of this type are not filtered out."""
        return not (self.no_delete if is_delete else self.no_put)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The changes of whole revisions; all history below ``next_revision`` has been looked at."""

    changes: list[Change]
    next_revision: int


@dataclass(frozen=True, slots=True)
class ChunkReader:
    """Reads history in chunks of bounded size; ``read`` runs inside a read transaction."""

    committed: Committed
    history: HistoryReader

    def read(self, session: Session, interest: Interest, first: int, last: int) -> Chunk:
        """Read changes from revision ``first``, at most to ``last``, until the chunk is full.

        A revision is never split, so that a chunk is larger than its bound by one revision at
        most. Raises Compacted if history at ``first`` is gone.
        """
        last = min(last, first + REVISIONS_PER_SCAN - 1)
        compacted = self.committed.compact_revision
        changes: list[Change] = []
        revisions, size, current = 0, 0, 0
        for event in self.history.changes(session, interest.key, interest.range_end, first, last):
            revision = event.kv.mod_revision
            if revision != current:
                if revisions >= REVISIONS_PER_CHUNK or size >= CHUNK_BYTES:
                    return Chunk(changes, revision)
                revisions += 1
                current = revision
            if interest.wants(is_delete=event.type == kv_pb2.Event.DELETE):
                change = self._serialise(session, interest, event, compacted)
                changes.append(change)
                size += len(change.full or change.plain)
        return Chunk(changes, last + 1)

    def _serialise(
        self, session: Session, interest: Interest, event: kv_pb2.Event, compacted: int
    ) -> Change:
        kv = event.kv
        data = event.SerializeToString()
        plain = wire.event_field(data)
        full = plain if interest.previous else None
        is_create = kv.create_revision == kv.mod_revision
        # What a key was below the compact revision is not told, even if it is there (etcd
        # behaviour).
        if interest.previous and not is_create and kv.mod_revision > compacted:
            found = self.history.previous(session, kv.key, kv.mod_revision)
            if found is not None:
                full = wire.event_field(wire.with_previous(data, found.SerializeToString()))
        is_delete = event.type == kv_pb2.Event.DELETE
        return Change(kv.mod_revision, kv.key, is_delete, plain, full)

"""History for watchers: what changed between two revisions, in order, from the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dqlite_py import errors
from dqlite_py.kv import schema
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.schema import COMPACT_STARTED, MAIN_SHIFT, NEVER_COMPACTED, TOMBSTONE, get_meta
from dqlite_py.kv.store import FROM_KEY
from dqlite_py.node.contract import Session
from dqlite_py.pb import kv_pb2

_COLUMNS = "SELECT id, key, create_revision, version, lease, value FROM revisions"
_ALL = f"{_COLUMNS} WHERE id>=? AND id<? ORDER BY id LIMIT ?"
_ONE_KEY = f"{_COLUMNS} WHERE key=? AND id>=? AND id<? ORDER BY id LIMIT ?"
# The unary plus keeps SQLite from choosing the index on keys, which would sort every match.
_BETWEEN = f"{_COLUMNS} WHERE id>=? AND id<? AND +key>=? AND +key<? ORDER BY id LIMIT ?"
_FROM = f"{_COLUMNS} WHERE id>=? AND id<? AND +key>=? ORDER BY id LIMIT ?"
_PREVIOUS = f"{_COLUMNS} WHERE key=? AND id<? ORDER BY id DESC LIMIT 1"


class Change(NamedTuple):
    """One change of one key; its fields other than id and key are zero for a deletion."""

    id: int
    key: bytes
    create_revision: int
    version: int
    lease: int
    value: bytes | None

    @property
    def revision(self) -> int:
        """The main revision; changes of one request share it."""
        return self.id >> MAIN_SHIFT

    @property
    def is_delete(self) -> bool:
        """Whether the key was deleted."""
        return bool(self.id & TOMBSTONE)

    @property
    def is_create(self) -> bool:
        """Whether the key did not exist before."""
        return self.create_revision == self.revision


@dataclass(frozen=True, slots=True)
class Page:
    """Changes in order, complete up to and including ``through_revision``."""

    changes: list[Change]
    through_revision: int


class History:
    """Reads history that may still be asked for."""

    def __init__(self, machine: EtcdMachine) -> None:
        self._machine = machine

    @property
    def revision(self) -> int:
        """The committed revision on this member."""
        return self._machine.revision

    @property
    def compact_revision(self) -> int:
        """The oldest revision that can be read."""
        return self._machine.compact_revision

    def read(
        self,
        session: Session,
        first_revision: int,
        last_revision: int,
        key_start: bytes | None = None,
        key_end: bytes | None = None,
        max_rows: int = 10_000,
    ) -> Page:
        """Return the changes from ``first_revision`` to ``last_revision``, both inclusive.

        ``last_revision`` must be committed on this member when the session's transaction starts.
        Without ``key_start`` all keys count; with it ``key_end`` follows etcd's range_end (None or
        empty: the single key). A page holds at most ``max_rows`` changes, except that a revision is
        never split. Raises Compacted if ``first_revision`` is below the compact revision.
        """
        # This first query fixes the snapshot, so that what it tells holds for the next one too.
        started = get_meta(session, COMPACT_STARTED, NEVER_COMPACTED)
        if first_revision < max(started, self._machine.compact_revision):
            raise errors.Compacted
        start, end = first_revision << MAIN_SHIFT, schema.bound(last_revision)
        changes = _query(session, start, end, key_start, key_end, max_rows + 1)
        if len(changes) <= max_rows:
            return Page(changes, last_revision)
        cut = changes[-1].revision
        whole = [change for change in changes if change.revision < cut]
        if whole:
            return Page(whole, cut - 1)
        start, end = cut << MAIN_SHIFT, schema.bound(cut)
        return Page(_query(session, start, end, key_start, key_end, -1), cut)


def previous(session: Session, change: Change) -> kv_pb2.KeyValue | None:
    """Return the key-value that ``change`` replaced; None if it created the key.

    None also when compaction has taken the predecessor away (etcd behaviour). Same session
    transaction as the change was read in.
    """
    if change.is_create:
        return None
    row = schema.first(session, _PREVIOUS, (change.key, change.id))
    if row is None or row[0] & TOMBSTONE:
        return None
    return key_value(Change._make(row))


def key_value(change: Change) -> kv_pb2.KeyValue:
    """Return the API's message of a change; a deletion has only key and mod_revision."""
    if change.is_delete:
        return kv_pb2.KeyValue(key=change.key, mod_revision=change.revision)
    return kv_pb2.KeyValue(
        key=change.key,
        create_revision=change.create_revision,
        mod_revision=change.revision,
        version=change.version,
        value=change.value or b"",
        lease=change.lease,
    )


def _query(
    session: Session,
    start: int,
    end: int,
    key_start: bytes | None,
    key_end: bytes | None,
    limit: int,
) -> list[Change]:
    if key_start is None:
        rows = session.execute(_ALL, (start, end, limit))
    elif not key_end:
        rows = session.execute(_ONE_KEY, (key_start, start, end, limit))
    elif key_end == FROM_KEY:
        rows = session.execute(_FROM, (start, end, key_start, limit))
    else:
        rows = session.execute(_BETWEEN, (start, end, key_start, key_end, limit))
    return [Change._make(row) for row in rows]

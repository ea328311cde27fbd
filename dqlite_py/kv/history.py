"""History for watchers: what changed between two revisions, in order, from the tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dqlite_py import errors
from dqlite_py.kv import schema
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.schema import COMPACT_STARTED, MAIN_SHIFT, NEVER_COMPACTED, TOMBSTONE, get_meta
from dqlite_py.kv.store import FROM_KEY
from dqlite_py.node.contract import Session
from dqlite_py.pb import kv_pb2

_COLUMNS = "SELECT id, key, create_revision, version, lease, value FROM revisions"
_ALL = f"{_COLUMNS} WHERE id>=? AND id<? ORDER BY id"
_ONE_KEY = f"{_COLUMNS} WHERE key=? AND id>=? AND id<? ORDER BY id"
# The unary plus keeps SQLite from choosing the index on keys, which would sort every match.
_BETWEEN = f"{_COLUMNS} WHERE id>=? AND id<? AND +key>=? AND +key<? ORDER BY id"
_FROM = f"{_COLUMNS} WHERE id>=? AND id<? AND +key>=? ORDER BY id"
_PREVIOUS = f"{_COLUMNS} WHERE key=? AND id<? ORDER BY id DESC LIMIT 1"
_FIRST_KEY = b"\x00"


class History:
    """Reads the history that may still be asked for; any thread."""

    def __init__(self, machine: EtcdMachine) -> None:
        self._machine = machine

    def changes(
        self, session: Session, key: bytes, range_end: bytes, first: int, last: int
    ) -> Iterable[kv_pb2.Event]:
        """Return, lazily and in order, the changes of an interval from revision first to last.

        Both ends are inclusive, and ``last`` must have been committed on this member before the
        session's transaction began. ``range_end`` is as in a range request. A deletion's ``kv`` has
        only its key and revision; no event has ``prev_kv``. Raises Compacted, before the first
        change, if ``first`` is below the compact revision.
        """
        # This first query fixes the snapshot, so that what it tells holds for the next one too.
        started = get_meta(session, COMPACT_STARTED, NEVER_COMPACTED)
        if first < max(started, self._machine.compact_revision):
            raise errors.Compacted
        start, end = first << MAIN_SHIFT, schema.bound(last)
        if not range_end:
            return map(_event, session.execute(_ONE_KEY, (key, start, end)))
        if range_end != FROM_KEY:
            return map(_event, session.execute(_BETWEEN, (start, end, key, range_end)))
        if key <= _FIRST_KEY:
            return map(_event, session.execute(_ALL, (start, end)))
        return map(_event, session.execute(_FROM, (start, end, key)))

    def previous(self, session: Session, key: bytes, revision: int) -> kv_pb2.KeyValue | None:
        """Return ``key`` as it was just before ``revision``, or None if it was absent.

        None also where compaction has taken the predecessor away (etcd behaviour).
        """
        row = schema.first(session, _PREVIOUS, (key, revision << MAIN_SHIFT))
        if row is None or row[0] & TOMBSTONE:
            return None
        return _event(row).kv


def _event(row: tuple[Any, ...]) -> kv_pb2.Event:
    row_id, key, create_revision, version, lease, value = row
    main = row_id >> MAIN_SHIFT
    if row_id & TOMBSTONE:
        deleted = kv_pb2.KeyValue(key=key, mod_revision=main)
        return kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=deleted)
    return kv_pb2.Event(
        kv=kv_pb2.KeyValue(
            key=key,
            create_revision=create_revision,
            mod_revision=main,
            version=version,
            value=value,
            lease=lease,
        )
    )

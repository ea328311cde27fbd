"""Reading keys at a revision and writing changes: the SQL behind every KV request.

A ``View`` is the state of the store at one revision. Readers bound it by the committed revision,
so that they never see speculation; the leader's writer uses ``EVERYTHING`` and sees its own writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from dqlite_py.kv import schema
from dqlite_py.kv.schema import MAIN_SHIFT, TOMBSTONE
from dqlite_py.node.contract import Session

FROM_KEY = b"\x00"  # etcd behaviour: as range_end it means "to the end of the key space"

_NEWEST = """SELECT id, create_revision, version, lease FROM revisions
    WHERE key=? AND id<? ORDER BY id DESC LIMIT 1"""
_NEWEST_WITH_VALUE = """SELECT id, create_revision, version, lease, value FROM revisions
    WHERE key=? AND id<? ORDER BY id DESC LIMIT 1"""

# The inner query walks the covering index in key order; the outer one looks up the rows in the
# order it is handed them. The value is the last column, so that a query without it does not touch
# overflow pages.
_LIVE = """(SELECT key, MAX(id) AS id FROM revisions WHERE {interval} AND id<?
    GROUP BY key HAVING MAX(id)&1=0 ORDER BY key LIMIT ?)"""
_RANGE = """SELECT row.key, row.id, row.create_revision, row.version, row.lease, {value}
    FROM {live} AS live CROSS JOIN revisions AS row ON row.id=live.id"""
_COUNT = """SELECT COUNT(*) FROM (SELECT MAX(id) AS id FROM revisions
    WHERE {interval} AND id<? GROUP BY key) WHERE id&1=0"""

_BETWEEN, _FROM = "key>=? AND key<?", "key>=?"
_STATEMENTS = {
    (interval, with_value): _RANGE.format(
        live=_LIVE.format(interval=interval), value="row.value" if with_value else "NULL"
    )
    for interval in (_BETWEEN, _FROM)
    for with_value in (True, False)
}
_COUNTS = {interval: _COUNT.format(interval=interval) for interval in (_BETWEEN, _FROM)}
_INSERT = """INSERT INTO revisions(id, key, create_revision, version, lease, value)
    VALUES(?, ?, ?, ?, ?, ?)"""


class Row(NamedTuple):
    """A live key at some revision; ``value`` is None if it was not asked for."""

    key: bytes
    id: int
    create_revision: int
    version: int
    lease: int
    value: bytes | None

    @property
    def mod_revision(self) -> int:
        """The revision of the key's latest change."""
        return self.id >> MAIN_SHIFT


@dataclass(frozen=True, slots=True)
class View:
    """The store as a request sees it.

    ``bound`` limits row ids, ``revision`` is what headers report, and ``compact_revision`` is the
    oldest revision that may still be asked for.
    """

    session: Session
    bound: int
    revision: int
    compact_revision: int


def find(session: Session, key: bytes, bound: int, *, with_value: bool) -> Row | None:
    """Return ``key`` as of ``bound``, or None if it is absent or deleted there."""
    rows = list(session.execute(_NEWEST_WITH_VALUE if with_value else _NEWEST, (key, bound)))
    if not rows or rows[0][0] & TOMBSTONE:
        return None
    found = rows[0]
    return Row(key, found[0], found[1], found[2], found[3], found[4] if with_value else None)


def select(
    session: Session,
    key: bytes,
    range_end: bytes,
    bound: int,
    *,
    limit: int = -1,
    with_value: bool,
) -> Iterable[Row]:
    """Return the live keys of an interval as of ``bound``, lazily and in key order.

    ``range_end`` follows etcd: empty means the single key, one zero byte means no end, anything
    else is exclusive. ``limit`` below zero means all. The caller must use up or drop the result
    before it writes.
    """
    if not range_end:
        row = find(session, key, bound, with_value=with_value)
        return () if row is None or limit == 0 else (row,)
    interval, bindings = _interval(key, range_end)
    statement = _STATEMENTS[interval, with_value]
    return map(Row._make, session.execute(statement, (*bindings, bound, limit)))


def count(session: Session, key: bytes, range_end: bytes, bound: int) -> int:
    """Return how many live keys an interval holds as of ``bound``, reading only the index."""
    if not range_end:
        return 0 if find(session, key, bound, with_value=False) is None else 1
    interval, bindings = _interval(key, range_end)
    row = schema.first(session, _COUNTS[interval], (*bindings, bound))
    assert row is not None
    return int(row[0])


def insert(
    session: Session,
    row_id: int,
    key: bytes,
    create_revision: int,
    version: int,
    lease: int,
    value: bytes | None,
) -> None:
    """Add one change; ``row_id`` decides whether it is a tombstone."""
    list(session.execute(_INSERT, (row_id, key, create_revision, version, lease, value)))


def _interval(key: bytes, range_end: bytes) -> tuple[str, tuple[Any, ...]]:
    return (_FROM, (key,)) if range_end == FROM_KEY else (_BETWEEN, (key, range_end))

"""Tables of the etcd database, and how a revision is packed into a row id.

Every change of a key is one row of ``revisions``, with id ``main << 22 | sub << 1 | tombstone``: so
the primary key alone gives etcd's order of changes, a bound on the id selects the state at a
revision, and the index on the key (whose last column is implicitly the id) tells live keys from
deleted ones without reading a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dqlite_py.node.contract import Session

MAIN_SHIFT = 22
SUB_SHIFT = 1
TOMBSTONE = 1
SUB_LIMIT = 1 << (MAIN_SHIFT - SUB_SHIFT)
EVERYTHING = 1 << 62  # above the id of every row: no bound
FIRST_REVISION = 1  # etcd behaviour: an empty store is at revision 1, the first put makes 2
NEVER_COMPACTED = -1  # etcd behaviour: compaction at 0 succeeds once on a fresh store

_STATEMENTS = (
    """CREATE TABLE IF NOT EXISTS revisions(
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL,
        create_revision INTEGER NOT NULL,
        version INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        value BLOB)""",
    "CREATE INDEX IF NOT EXISTS revisions_key ON revisions(key)",
    "CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS leases(id INTEGER PRIMARY KEY, ttl_s INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS lease_keys(
        lease INTEGER NOT NULL,
        key BLOB NOT NULL,
        PRIMARY KEY(lease, key)) WITHOUT ROWID""",
    # Member ids are unsigned 64-bit and SQLite integers signed: stored as eight bytes.
    """CREATE TABLE IF NOT EXISTS alarms(
        member_id BLOB NOT NULL,
        alarm INTEGER NOT NULL,
        PRIMARY KEY(member_id, alarm)) WITHOUT ROWID""",
)

# Names of rows in ``meta``.
REVISION_FLOOR = "revision_floor"  # the revision when last compacted; current is never below it
COMPACT_REVISION = "compact_revision"  # history below it may be deleted
COMPACT_STARTED = "compact_started"  # rows below it may be missing
COMPACT_CURSOR = "compact_cursor"  # row ids below it need no further look
COMPACT_FINISHED = "compact_finished"  # nothing is left to delete below it


def first(session: Session, statement: str, bindings: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """Run a query of at most one row to its end; return the row or None."""
    rows = list(session.execute(statement, bindings))
    return rows[0] if rows else None


def create(session: Session) -> None:
    """Create the tables that are absent, within the caller's transaction."""
    for statement in _STATEMENTS:
        list(session.execute(statement))


def exists(session: Session) -> bool:
    """Tell whether the tables are there (a new member has none until the first entry)."""
    query = "SELECT 1 FROM sqlite_schema WHERE type='table' AND name='alarms'"
    return first(session, query) is not None


def row_id(main: int, sub: int, tombstone: int) -> int:
    """Pack a revision into a row id."""
    return main << MAIN_SHIFT | sub << SUB_SHIFT | tombstone


def bound(revision: int) -> int:
    """Return the first id above every row of ``revision``: ``id < bound`` is the state at it."""
    return (revision + 1) << MAIN_SHIFT


def get_meta(session: Session, name: str, default: int) -> int:
    """Return a value of ``meta``, or ``default`` if it was never set."""
    row = first(session, "SELECT value FROM meta WHERE name=?", (name,))
    return default if row is None else int(row[0])


def set_meta(session: Session, name: str, value: int) -> None:
    """Set a value of ``meta``."""
    list(session.execute("INSERT OR REPLACE INTO meta(name, value) VALUES(?, ?)", (name, value)))


def current_revision(session: Session) -> int:
    """Return the store's revision as far as this session can see."""
    floor = get_meta(session, REVISION_FLOOR, FIRST_REVISION)
    newest = first(session, "SELECT id FROM revisions ORDER BY id DESC LIMIT 1")
    return floor if newest is None else max(floor, newest[0] >> MAIN_SHIFT)

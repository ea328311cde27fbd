"""Compaction: forgetting history in two phases.

First a compact revision is committed: from then on nothing below it can be asked for. Only later,
in small steps, does the leader delete the rows below it, so that no reader that was allowed to
read them sees them vanish.
"""

from __future__ import annotations

from dqlite_py import errors
from dqlite_py.kv import schema
from dqlite_py.kv.schema import MAIN_SHIFT, TOMBSTONE, get_meta, set_meta
from dqlite_py.node.contract import Session

STEP_ROWS = 500  # each may take one older row and itself along: at most 1000 deletions a step


def schedule(session: Session, wanted: int, compact_revision: int, revision: int) -> None:
    """Record ``wanted`` as the compact revision.

    Raises Compacted if that is not above the last one, FutureRevision if above ``revision``, the
    current one. The current revision is recorded too, because deleting tombstones may take the
    newest row away and the revision must not go back.
    """
    if wanted <= compact_revision:
        raise errors.Compacted
    if wanted > revision:
        raise errors.FutureRevision
    set_meta(session, schema.COMPACT_REVISION, wanted)
    set_meta(session, schema.REVISION_FLOOR, revision)


def step(session: Session, target: int) -> bool:
    """Delete some rows that are not needed to read at ``target`` or later; return True when done.

    Keeps of each key the newest change at or below ``target``, unless that is a tombstone; a
    tombstone exactly at ``target`` stays for watchers that start there (etcd behaviour). The caller
    guarantees that a compact revision >= ``target`` is committed.

    Every row below the cursor has had its older rows deleted, so each row met takes at most one
    with it, and a step costs the same however long the history is.
    """
    if get_meta(session, schema.COMPACT_FINISHED, schema.NEVER_COMPACTED) >= target:
        return True
    if get_meta(session, schema.COMPACT_STARTED, schema.NEVER_COMPACTED) < target:
        set_meta(session, schema.COMPACT_STARTED, target)
    cursor = get_meta(session, schema.COMPACT_CURSOR, 0)
    query = "SELECT id, key FROM revisions WHERE id>=? AND id<? ORDER BY id LIMIT ?"
    rows = list(session.execute(query, (cursor, schema.bound(target), STEP_ROWS)))
    for row_id, key in rows:
        list(session.execute("DELETE FROM revisions WHERE key=? AND id<?", (key, row_id)))
        if row_id & TOMBSTONE and row_id >> MAIN_SHIFT < target:
            list(session.execute("DELETE FROM revisions WHERE id=?", (row_id,)))
    if len(rows) == STEP_ROWS:
        set_meta(session, schema.COMPACT_CURSOR, rows[-1][0] + 1)
        return False
    # The next compaction looks at the target once more, for the tombstone that stayed.
    set_meta(session, schema.COMPACT_CURSOR, max(cursor, target << MAIN_SHIFT))
    set_meta(session, schema.COMPACT_FINISHED, target)
    return True

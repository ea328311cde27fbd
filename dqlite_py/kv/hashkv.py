"""HashKV: etcd's checksum over the history of keys, equal to etcd's for equal history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import google_crc32c

from dqlite_py.kv import schema, store
from dqlite_py.kv.committed import CommittedReader
from dqlite_py.kv.ranges import check_revision
from dqlite_py.kv.schema import MAIN_SHIFT, SUB_LIMIT, SUB_SHIFT, TOMBSTONE
from dqlite_py.kv.store import FROM_KEY, View
from dqlite_py.pb import kv_pb2, rpc_pb2

_CHUNK_ROWS = 2000
_SEED = b"key"  # etcd behaviour: the checksum starts with the name of etcd's own table

# etcd behaviour: at or below the compact revision a row counts only if compaction at the revision
# asked for would keep it, that is if it is the key's newest there and no tombstone. When no key at
# all is alive there, what compaction at the compact revision left counts.
_OLD = """SELECT id, key, create_revision, version, lease, value FROM revisions AS row
    WHERE id>=? AND id<? AND id&1=0 AND NOT EXISTS(
        SELECT 1 FROM revisions AS newer WHERE newer.key=row.key AND newer.id>row.id AND newer.id<?)
    ORDER BY id LIMIT ?"""
_RECENT = """SELECT id, key, create_revision, version, lease, value FROM revisions
    WHERE id>=? AND id<? ORDER BY id LIMIT ?"""


class _Progress(NamedTuple):
    """A checksum under way: fixed revisions, the next row id, the checksum of all before it.

    Rows up to the compact revision must be their key's newest below ``keep_bound``.
    """

    revision: int
    compact_revision: int
    keep_bound: int
    next_id: int
    checksum: int
    current_revision: int
    finished: bool


async def hash_kv(reader: CommittedReader, revision: int) -> rpc_pb2.HashKVResponse:
    """Checksum this member's history up to ``revision`` (0 or less: the current one).

    Raises FutureRevision or Compacted. Runs in chunks, so that no read transaction lasts long; a
    compaction that starts meanwhile makes it begin again.
    """
    progress: _Progress | None = None
    while progress is None or not progress.finished:
        now = progress

        def chunk(view: View, now: _Progress | None = now) -> _Progress:
            if now is None or view.compact_revision != now.compact_revision:
                now = _start(view, revision)
            return _advance(view, now)

        progress = await reader.read(chunk, inline=False)
    response = rpc_pb2.HashKVResponse(
        hash=progress.checksum,
        compact_revision=progress.compact_revision,
        hash_revision=progress.revision,
    )
    response.header.revision = progress.current_revision
    return response


def _start(view: View, revision: int) -> _Progress:
    if revision > 0:
        check_revision(view, revision)
    wanted = revision if revision > 0 else view.revision
    keep_bound = schema.bound(wanted)
    if not list(
        store.select(view.session, FROM_KEY, FROM_KEY, keep_bound, limit=1, with_value=False)
    ):
        keep_bound = schema.bound(view.compact_revision)
    checksum = google_crc32c.value(_SEED)
    return _Progress(wanted, view.compact_revision, keep_bound, 0, checksum, view.revision, False)


def _advance(view: View, progress: _Progress) -> _Progress:
    old_end = min(schema.bound(progress.compact_revision), schema.bound(progress.revision))
    end = schema.bound(progress.revision)
    start, session = progress.next_id, view.session
    if start < old_end:
        bindings = (start, old_end, progress.keep_bound, _CHUNK_ROWS)
        rows = list(session.execute(_OLD, bindings))
        reached, finished = old_end, False
    else:
        rows = list(session.execute(_RECENT, (start, end, _CHUNK_ROWS)))
        reached, finished = end, len(rows) < _CHUNK_ROWS
    if len(rows) == _CHUNK_ROWS:
        reached = rows[-1][0] + 1
    checksum = google_crc32c.extend(progress.checksum, b"".join(_records(rows)))
    return progress._replace(next_id=reached, checksum=checksum, finished=finished)


def _records(rows: Iterable[tuple[Any, ...]]) -> Iterable[bytes]:
    """Yield the bytes etcd stores for each change: its packed revision, then the key-value."""
    for row_id, key, create_revision, version, lease, value in rows:
        main, sub = row_id >> MAIN_SHIFT, row_id >> SUB_SHIFT & (SUB_LIMIT - 1)
        yield main.to_bytes(8, "big") + b"_" + sub.to_bytes(8, "big")
        if row_id & TOMBSTONE:
            yield b"t" + kv_pb2.KeyValue(key=key).SerializeToString()
            continue
        yield kv_pb2.KeyValue(
            key=key,
            create_revision=create_revision,
            mod_revision=main,
            version=version,
            value=value,
            lease=lease,
        ).SerializeToString()

"""Range: one interval of keys at one revision, with etcd's filters, order and limit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dqlite_py import errors
from dqlite_py.kv import schema, store
from dqlite_py.kv.store import Row, View
from dqlite_py.pb import kv_pb2, rpc_pb2

_Request = rpc_pb2.RangeRequest

_SORT_KEYS: dict[int, Callable[[Row], Any]] = {
    _Request.KEY: lambda row: row.key,
    _Request.VERSION: lambda row: row.version,
    _Request.CREATE: lambda row: row.create_revision,
    _Request.MOD: lambda row: row.id,
    _Request.VALUE: lambda row: row.value,
}


def execute(view: View, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
    """Answer a valid ``request`` from ``view``; only the header's revision is set.

    Raises FutureRevision or Compacted for a revision that can not be read. ``count`` counts the
    interval before filters and limit (etcd behaviour).
    """
    bound = _bound(view, request.revision)
    response = rpc_pb2.RangeResponse(header=rpc_pb2.ResponseHeader(revision=view.revision))
    if request.count_only:
        response.count = store.count(view.session, request.key, request.range_end, bound)
        return response
    rows, fetched_all = _fetch(view, request, bound)
    rows = _sort(request, rows)
    if 0 < request.limit < len(rows):
        response.more = True
        del rows[request.limit :]
    if fetched_all is None:
        response.count = store.count(view.session, request.key, request.range_end, bound)
    else:
        response.count = fetched_all
    keys_only = request.keys_only
    response.kvs.extend([key_value(row, without_value=keys_only) for row in rows])
    return response


def key_value(row: Row, *, without_value: bool = False) -> kv_pb2.KeyValue:
    """Return ``row`` as the API's message."""
    return kv_pb2.KeyValue(
        key=row.key,
        create_revision=row.create_revision,
        mod_revision=row.id >> schema.MAIN_SHIFT,
        version=row.version,
        lease=row.lease,
        value=b"" if without_value or row.value is None else row.value,
    )


def check_revision(view: View, revision: int) -> None:
    """Raise FutureRevision or Compacted unless ``revision`` can be read in ``view``."""
    if revision > view.revision:
        raise errors.FutureRevision
    if revision < view.compact_revision:
        raise errors.Compacted


def _bound(view: View, revision: int) -> int:
    if revision <= 0:
        return view.bound
    check_revision(view, revision)
    return schema.bound(revision)


def _fetch(view: View, request: rpc_pb2.RangeRequest, bound: int) -> tuple[list[Row], int | None]:
    """Return the filtered rows, and the interval's size if fetching has shown it."""
    filtered = (
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )
    # etcd behaviour: the limit is applied in key order unless an order or a filter is given, even
    # when another sort target reorders what is left. One more row shows whether there is more.
    everything = request.limit <= 0 or filtered or request.sort_order != _Request.NONE
    limit = -1 if everything else request.limit + 1
    rows: Iterable[Row] = store.select(
        view.session,
        request.key,
        request.range_end,
        bound,
        limit=limit,
        with_value=not request.keys_only or request.sort_target == _Request.VALUE,
    )
    fetched = list(rows)
    size = len(fetched) if everything or len(fetched) < limit else None
    if filtered:
        fetched = [row for row in fetched if _passes(request, row)]
    return fetched, size


def _passes(request: rpc_pb2.RangeRequest, row: Row) -> bool:
    mod, create = row.mod_revision, row.create_revision
    if request.max_mod_revision and mod > request.max_mod_revision:
        return False
    if request.max_create_revision and create > request.max_create_revision:
        return False
    return mod >= request.min_mod_revision and create >= request.min_create_revision


def _sort(request: rpc_pb2.RangeRequest, rows: list[Row]) -> list[Row]:
    if request.sort_target == _Request.KEY and request.sort_order != _Request.DESCEND:
        return rows
    descending = request.sort_order == _Request.DESCEND
    return sorted(rows, key=_SORT_KEYS[request.sort_target], reverse=descending)

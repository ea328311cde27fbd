"""Transactions: which branches run, whether they can, and what they do.

The order is etcd's: all compares, nested ones included, judge the state before the transaction;
then everything that may fail is checked; only then is anything written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from dqlite_py import errors
from dqlite_py.kv import leases, ranges, store
from dqlite_py.kv.store import Row, View
from dqlite_py.kv.writes import Changes
from dqlite_py.pb import rpc_pb2

_Compare = rpc_pb2.Compare

_TARGETS: dict[int, tuple[Callable[[Row], Any], str]] = {
    _Compare.VERSION: (lambda row: row.version, "version"),
    _Compare.CREATE: (lambda row: row.create_revision, "create_revision"),
    _Compare.MOD: (lambda row: row.mod_revision, "mod_revision"),
    _Compare.VALUE: (lambda row: row.value or b"", "value"),
    _Compare.LEASE: (lambda row: row.lease, "lease"),
}
_RESULTS: dict[int, Callable[[Any, Any], bool]] = {
    _Compare.EQUAL: lambda found, wanted: bool(found == wanted),
    _Compare.GREATER: lambda found, wanted: bool(found > wanted),
    _Compare.LESS: lambda found, wanted: bool(found < wanted),
    _Compare.NOT_EQUAL: lambda found, wanted: bool(found != wanted),
}
_UNKNOWN_TARGET: tuple[Callable[[Row], Any], str] = (lambda _row: 0, "")


def _always(_found: Any, _wanted: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class _Branch:
    """The chosen list of operations; ``nested`` holds the choice for each nested transaction."""

    succeeded: bool
    operations: tuple[rpc_pb2.RequestOp, ...]
    nested: tuple[_Branch | None, ...]  # one for each operation


def execute(
    view: View, changes: Changes | None, request: rpc_pb2.TxnRequest
) -> rpc_pb2.TxnResponse:
    """Run a valid transaction on ``view`` and return its TxnResponse.

    ``view`` is the state before; ``changes`` collects the writes and is None for a read-only
    transaction. Raises FutureRevision, Compacted, KeyNotFound or LeaseNotFound before any write.
    Only the outer header's revision is set; nested transactions have an empty header and their
    other responses one with the revision alone (etcd behaviour).
    """
    branch = _choose(view, request)
    _check(view, branch)
    response = rpc_pb2.TxnResponse()
    _run(view, changes, branch, response)
    response.header.revision = view.revision if changes is None else changes.revision
    return response


def _choose(view: View, request: rpc_pb2.TxnRequest) -> _Branch:
    succeeded = all(_holds(view, compare) for compare in request.compare)
    operations = tuple(request.success if succeeded else request.failure)
    nested = tuple(
        _choose(view, op.request_txn) if op.WhichOneof("request") == "request_txn" else None
        for op in operations
    )
    return _Branch(succeeded, operations, nested)


def _holds(view: View, compare: rpc_pb2.Compare) -> bool:
    # etcd behaviour: an unknown target compares equal, an unknown result always holds.
    read, field = _TARGETS.get(compare.target, _UNKNOWN_TARGET)
    test = _RESULTS.get(compare.result, _always)
    wanted = getattr(compare, field) if field else 0
    by_value = compare.target == _Compare.VALUE
    rows: Iterable[Row] = store.select(
        view.session, compare.key, compare.range_end, view.bound, with_value=by_value
    )
    empty = True
    for row in rows:
        empty = False
        if not test(read(row), wanted):
            return False
    if empty:
        # etcd behaviour: an absent key has no value to compare, and zero for everything else.
        return not by_value and test(0, wanted)
    return True


def _check(view: View, branch: _Branch) -> None:
    # etcd behaviour: every put is checked before any range, which shows when both are wrong.
    operations = list(_flat(branch))
    for op in operations:
        if op.WhichOneof("request") == "request_put":
            _check_put(view, op.request_put)
    for op in operations:
        if op.WhichOneof("request") == "request_range" and op.request_range.revision:
            ranges.check_revision(view, op.request_range.revision)


def _flat(branch: _Branch) -> Iterator[rpc_pb2.RequestOp]:
    for op, nested in zip(branch.operations, branch.nested, strict=True):
        if nested is None:
            yield op
        else:
            yield from _flat(nested)


def _check_put(view: View, put: rpc_pb2.PutRequest) -> None:
    if (put.ignore_value or put.ignore_lease) and not store.count(
        view.session, put.key, b"", view.bound
    ):
        raise errors.KeyNotFound
    if put.lease and not leases.exists(view.session, put.lease):
        raise errors.LeaseNotFound


def _run(
    view: View, changes: Changes | None, branch: _Branch, response: rpc_pb2.TxnResponse
) -> None:
    response.succeeded = branch.succeeded
    for op, nested in zip(branch.operations, branch.nested, strict=True):
        answer = response.responses.add()
        if op.WhichOneof("request") == "request_range":
            now = view if changes is None else replace(view, revision=changes.revision)
            answer.response_range.CopyFrom(ranges.execute(now, op.request_range))
            continue
        assert changes is not None
        match op.WhichOneof("request"):
            case "request_put":
                answer.response_put.CopyFrom(changes.put(op.request_put))
            case "request_delete_range":
                deleted = changes.delete_range(op.request_delete_range)
                answer.response_delete_range.CopyFrom(deleted)
            case "request_txn":
                assert nested is not None
                answer.response_txn.header.SetInParent()
                _run(view, changes, nested, answer.response_txn)

"""What a request must look like, judged before it is sent anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dqlite_py import errors
from dqlite_py.pb import rpc_pb2

_SORT_ORDERS = frozenset(rpc_pb2.RangeRequest.SortOrder.values())
_SORT_TARGETS = frozenset(rpc_pb2.RangeRequest.SortTarget.values())


def check_range(request: rpc_pb2.RangeRequest) -> None:
    """Raise EmptyKey or InvalidSortOption for a malformed range."""
    if not request.key:
        raise errors.EmptyKey
    if request.sort_order not in _SORT_ORDERS or request.sort_target not in _SORT_TARGETS:
        raise errors.InvalidSortOption


def check_put(request: rpc_pb2.PutRequest) -> None:
    """Raise EmptyKey, ValueProvided or LeaseProvided for a malformed put."""
    if not request.key:
        raise errors.EmptyKey
    if request.ignore_value and request.value:
        raise errors.ValueProvided
    if request.ignore_lease and request.lease:
        raise errors.LeaseProvided


def check_delete_range(request: rpc_pb2.DeleteRangeRequest) -> None:
    """Raise EmptyKey for a malformed delete."""
    if not request.key:
        raise errors.EmptyKey


def check_txn(request: rpc_pb2.TxnRequest, max_ops: int) -> None:
    """Raise for a malformed transaction, nested ones included.

    ``max_ops`` bounds the longest of the compare, success and failure lists; a nested transaction
    may use what the outer lists leave. Raises TooManyOps, EmptyKey, KeyNotFound (an operation
    without a request: etcd behaviour), DuplicateKey, and what the single requests raise.
    """
    _check_shape(request, max_ops)
    _footprint(request.success)
    _footprint(request.failure)


def is_read_only(request: rpc_pb2.TxnRequest) -> bool:
    """Tell whether both branches hold only ranges (a nested transaction counts as a write)."""
    return all(op.WhichOneof("request") == "request_range" for op in _operations(request))


def is_serializable(request: rpc_pb2.TxnRequest) -> bool:
    """Tell whether a read-only transaction may be answered from local state.

    A transaction without any range is not: stricter than etcd, which then answers stale compares.
    """
    ranges = [op.request_range for op in _operations(request)]
    return bool(ranges) and all(request.serializable for request in ranges)


def has_put(request: rpc_pb2.TxnRequest) -> bool:
    """Tell whether some branch, nested ones included, could put a key."""
    for op in _operations(request):
        kind = op.WhichOneof("request")
        if kind == "request_put" or (kind == "request_txn" and has_put(op.request_txn)):
            return True
    return False


def _operations(request: rpc_pb2.TxnRequest) -> Iterable[rpc_pb2.RequestOp]:
    yield from request.success
    yield from request.failure


def _check_shape(request: rpc_pb2.TxnRequest, max_ops: int) -> None:
    longest = max(len(request.compare), len(request.success), len(request.failure))
    if longest > max_ops:
        raise errors.TooManyOps
    if not all(compare.key for compare in request.compare):
        raise errors.EmptyKey
    for op in _operations(request):
        match op.WhichOneof("request"):
            case "request_range":
                check_range(op.request_range)
            case "request_put":
                check_put(op.request_put)
            case "request_delete_range":
                check_delete_range(op.request_delete_range)
            case "request_txn":
                _check_shape(op.request_txn, max_ops - longest)
            case _:
                raise errors.KeyNotFound


@dataclass(slots=True)
class _Footprint:
    """Keys that a list of operations may put, and intervals that it may delete."""

    puts: set[bytes] = field(default_factory=set)
    deletes: list[tuple[bytes, bytes]] = field(default_factory=list)

    def claim(self, keys: Iterable[bytes], shared_with: frozenset[bytes] = frozenset()) -> None:
        """Add puts; a key already put or deleted here raises DuplicateKey.

        Keys of ``shared_with`` may repeat: the other branch of the same transaction put them.
        """
        for key in keys:
            if key in self.puts and key not in shared_with:
                raise errors.DuplicateKey
            if any(_covers(interval, key) for interval in self.deletes):
                raise errors.DuplicateKey
            self.puts.add(key)


def _footprint(operations: Sequence[rpc_pb2.RequestOp]) -> _Footprint:
    """Return what a branch may change; raise DuplicateKey if it could touch a key twice."""
    result = _Footprint()
    own_puts, children = [], []
    for op in operations:
        match op.WhichOneof("request"):
            case "request_put":
                own_puts.append(op.request_put.key)
            case "request_delete_range":
                delete = op.request_delete_range
                result.deletes.append((delete.key, delete.range_end))
            case "request_txn":
                children.append(op.request_txn)
    for child in children:
        success, failure = _footprint(child.success), _footprint(child.failure)
        result.claim(success.puts)
        result.claim(failure.puts, shared_with=frozenset(success.puts))
        result.deletes += success.deletes + failure.deletes
    result.claim(own_puts)
    return result


def _covers(interval: tuple[bytes, bytes], key: bytes) -> bool:
    start, end = interval
    if not end:
        return key == start
    # etcd behaviour: a deletion without an end (one zero byte) conflicts with no put; it deletes
    # what was put before it in the list, and spares what is put after it.
    return start <= key < end

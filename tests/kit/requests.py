"""Seeded random etcd requests, valid and invalid, and the rules for comparing two answers.

The generator follows the store only through what answers told it (revision, compact revision), so
the same seed gives the same requests against any server that answers alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dqlite_py.pb import kv_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.etcd_client import EtcdClient, Refused

KEYS = [b"a", b"a0", b"a1", b"ab", b"b", b"b\x00", b"b\xff", b"c", b"d/1", b"d/2", b"d/3", b"\xff"]
LEASE_IDS = [7, 11, 13, 0x7FFFFFFFFFFFFFFF]
UNKNOWN_LEASE = 99
# Long enough that no lease expires while the requests run.
TTLS_S = [600, 1000, 86_400]
TARGETS = list(rpc.RangeRequest.SortTarget.values())
ORDERS = list(rpc.RangeRequest.SortOrder.values())


@dataclass(frozen=True)
class Request:
    """A method name of the client and its message."""

    method: str
    message: Any

    def __str__(self) -> str:
        text = str(self.message).replace("\n", " ")
        return f"{self.method}({text})"


class RequestSource:
    """Draws requests; ``learn`` feeds back the revision of the last answer."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._revision = 1
        self._compacted = 0
        self._kinds: list[tuple[int, Callable[[], Request]]] = [
            (30, lambda: Request("Put", self._put())),
            (25, lambda: Request("Range", self._range())),
            (8, lambda: Request("DeleteRange", self._delete())),
            (22, lambda: Request("Txn", self._txn(depth=2))),
            (3, self._compact),
            (4, self._grant),
            (2, self._revoke),
            (2, self._time_to_live),
            (2, lambda: Request("KeepAlive", rpc.LeaseKeepAliveRequest(ID=self._lease_id()))),
            (1, lambda: Request("LeaseLeases", rpc.LeaseLeasesRequest())),
            (1, self._too_many_operations),
        ]

    def next(self) -> Request:
        """Return the next request."""
        weights = [weight for weight, _ in self._kinds]
        return self._random.choices([make for _, make in self._kinds], weights)[0]()

    def learn(self, request: Request, answer: Any) -> None:
        """Note what a successful answer says about the store."""
        self._revision = max(self._revision, answer.header.revision)
        if request.method == "Compact":
            self._compacted = request.message.revision

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _key(self) -> bytes:
        return b"" if self._chance(0.01) else self._random.choice(KEYS)

    def _interval(self) -> tuple[bytes, bytes]:
        roll = self._random.random()
        if roll < 0.4:
            return self._key(), b""
        if roll < 0.5:
            return b"\0", b"\0"
        if roll < 0.6:
            return self._key(), b"\0"
        return self._key(), self._random.choice(KEYS)

    def _lease_id(self) -> int:
        return UNKNOWN_LEASE if self._chance(0.05) else self._random.choice(LEASE_IDS)

    def _past_revision(self) -> int:
        roll = self._random.random()
        if roll < 0.06:
            return self._revision + self._random.randrange(1, 4)
        if roll < 0.12:
            return max(0, self._compacted - self._random.randrange(0, 3))
        return self._random.randrange(self._compacted, self._revision + 1)

    def _value(self) -> bytes:
        return self._random.choice([b"", b"x", b"y", self._random.randbytes(8)])

    def _put(self) -> rpc.PutRequest:
        request = rpc.PutRequest(key=self._key(), value=self._value())
        request.prev_kv = self._chance(0.3)
        if self._chance(0.25):
            request.lease = self._lease_id()
        if self._chance(0.06):
            request.ignore_value = True
            if self._chance(0.8):
                request.value = b""
        if self._chance(0.06):
            request.ignore_lease = True
            if self._chance(0.8):
                request.lease = 0
        return request

    def _range(self) -> rpc.RangeRequest:
        key, range_end = self._interval()
        request = rpc.RangeRequest(key=key, range_end=range_end, serializable=self._chance(0.3))
        if self._chance(0.4):
            request.limit = self._random.choice([-1, 1, 2, 3, 5, 50])
        if self._chance(0.3):
            request.revision = self._past_revision()
        if self._chance(0.4):
            request.sort_order = self._random.choice(ORDERS)
            request.sort_target = self._random.choice(TARGETS)
        request.keys_only = self._chance(0.1)
        request.count_only = self._chance(0.1)
        for name in ("min_mod_revision", "max_mod_revision"):
            if self._chance(0.08):
                setattr(request, name, self._past_revision())
        for name in ("min_create_revision", "max_create_revision"):
            if self._chance(0.08):
                setattr(request, name, self._past_revision())
        return request

    def _delete(self) -> rpc.DeleteRangeRequest:
        key, range_end = self._interval()
        if range_end == b"\0" and self._chance(0.7):
            range_end = b""  # deleting everything each time would leave nothing to compare
        return rpc.DeleteRangeRequest(key=key, range_end=range_end, prev_kv=self._chance(0.4))

    def _compare(self) -> rpc.Compare:
        key = self._key()
        compare = rpc.Compare(
            key=key,
            result=self._random.choice(list(rpc.Compare.CompareResult.values())),
            target=self._random.choice(list(rpc.Compare.CompareTarget.values())),
        )
        if self._chance(0.2):
            compare.range_end = self._interval()[1]
        if self._chance(0.95):
            self._fill_target(compare)
        return compare

    def _fill_target(self, compare: rpc.Compare) -> None:
        if compare.target == rpc.Compare.VERSION:
            compare.version = self._random.randrange(0, 4)
        elif compare.target == rpc.Compare.CREATE:
            compare.create_revision = self._random.choice([0, self._past_revision()])
        elif compare.target == rpc.Compare.MOD:
            compare.mod_revision = self._random.choice([0, self._past_revision()])
        elif compare.target == rpc.Compare.VALUE:
            compare.value = self._value()
        else:
            compare.lease = self._random.choice([0, self._lease_id()])

    def _operation(self, depth: int) -> rpc.RequestOp:
        roll = self._random.random()
        if roll < 0.01:
            return rpc.RequestOp()
        if roll < 0.5:
            return rpc.RequestOp(request_put=self._put())
        if roll < 0.75:
            return rpc.RequestOp(request_range=self._range())
        if roll < 0.9 or depth == 0:
            return rpc.RequestOp(request_delete_range=self._delete())
        return rpc.RequestOp(request_txn=self._txn(depth - 1))

    def _txn(self, depth: int) -> rpc.TxnRequest:
        draw = self._random.randrange
        return rpc.TxnRequest(
            compare=[self._compare() for _ in range(draw(0, 3))],
            success=[self._operation(depth) for _ in range(draw(0, 4))],
            failure=[self._operation(depth) for _ in range(draw(0, 3))],
        )

    def _too_many_operations(self) -> Request:
        count = self._random.choice([128, 129])
        puts = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"many/%d" % number, value=b"v"))
            for number in range(count)
        ]
        return Request("Txn", rpc.TxnRequest(success=puts))

    def _compact(self) -> Request:
        revision = self._random.choice(
            [
                self._compacted,
                self._random.randrange(self._compacted, self._revision + 1),
                self._random.randrange(self._compacted, self._revision + 1),
                self._revision,
                self._revision + 1,
            ]
        )
        return Request("Compact", rpc.CompactionRequest(revision=revision, physical=True))

    def _grant(self) -> Request:
        ttl_s = 9_000_000_001 if self._chance(0.05) else self._random.choice(TTLS_S)
        return Request(
            "LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl_s, ID=self._random.choice(LEASE_IDS))
        )

    def _revoke(self) -> Request:
        return Request("LeaseRevoke", rpc.LeaseRevokeRequest(ID=self._lease_id()))

    def _time_to_live(self) -> Request:
        return Request(
            "LeaseTimeToLive",
            rpc.LeaseTimeToLiveRequest(ID=self._lease_id(), keys=self._chance(0.7)),
        )


def is_local(request: Request) -> bool:
    """Tell whether a member may answer from its own state, however old."""
    message = request.message
    if request.method == "Range":
        return bool(message.serializable)
    if request.method == "Txn":
        return not any(
            operation.WhichOneof("request")
            in ("request_put", "request_delete_range", "request_txn")
            for operation in [*message.success, *message.failure]
        )
    return request.method == "LeaseLeases"


def ask(client: EtcdClient, request: Request) -> Any:
    """Send a request; return the answer or the ``Refused``."""
    try:
        if request.method == "KeepAlive":
            return client.keep_alive(request.message.ID)
        return client.call(request.method, request.message)
    except Refused as error:
        return error


def comparable(request: Request, answer: Any) -> Any:
    """Return an answer without ids and terms, and with free orders made canonical."""
    if isinstance(answer, Refused):
        return (answer.code, answer.text)
    copy = type(answer)()
    copy.CopyFrom(answer)
    copy.header.cluster_id = copy.header.member_id = copy.header.raft_term = 0
    if request.method == "LeaseTimeToLive":
        copy.TTL = min(copy.TTL, 1)  # the clock runs: only "there" and "not there" compare
        copy.keys[:] = sorted(copy.keys)
    elif request.method == "LeaseLeases":
        ids = sorted(lease.ID for lease in copy.leases)
        del copy.leases[:]
        copy.leases.extend(rpc.LeaseStatus(ID=lease_id) for lease_id in ids)
    elif request.method == "Range":
        return (_settled(request.message, copy), copy)
    elif request.method == "Txn":
        return (_settle_branches(request.message, copy), copy)
    return copy


def _settle_branches(request: rpc.TxnRequest, answer: rpc.TxnResponse) -> list[Any]:
    branch = request.success if answer.succeeded else request.failure
    found: list[Any] = []
    for operation, response in zip(branch, answer.responses, strict=False):
        kind = operation.WhichOneof("request")
        if kind == "request_range":
            found.append(_settled(operation.request_range, response.response_range))
        elif kind == "request_txn":
            found.append(_settle_branches(operation.request_txn, response.response_txn))
    return found


SORT_FIELD: dict[int, Callable[[kv_pb2.KeyValue], Any]] = {
    rpc.RangeRequest.VERSION: lambda kv: kv.version,
    rpc.RangeRequest.CREATE: lambda kv: kv.create_revision,
    rpc.RangeRequest.MOD: lambda kv: kv.mod_revision,
    rpc.RangeRequest.VALUE: lambda kv: kv.value,
}


def _settled(request: rpc.RangeRequest, answer: rpc.RangeResponse) -> list[Any]:
    """Make the order of equal elements canonical in place; return the sequence sorted by.

    etcd sorts with an unstable sort, so elements equal in the sort field come in any order, and a
    limit may cut any of them off: those of the last value are only counted then.
    """
    field = SORT_FIELD.get(request.sort_target)
    if field is None or not answer.kvs:
        return []
    sequence = [field(kv) for kv in answer.kvs]
    kvs = sorted(answer.kvs, key=lambda kv: kv.key)
    if answer.more:
        kvs = [kv for kv in kvs if field(kv) != sequence[-1]]
    if request.keys_only and request.sort_target == rpc.RangeRequest.VALUE:
        sequence = []
    del answer.kvs[:]
    answer.kvs.extend(kvs)
    return sequence

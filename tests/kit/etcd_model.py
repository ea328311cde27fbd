"""A tiny model of etcd's store, written for obviousness: the whole history in one list.

It answers the same protobuf requests as the real service, one after another, and is the oracle of
the random differential test. Headers carry the revision only.
"""

from __future__ import annotations

from dataclasses import dataclass

from dqlite_py import errors
from dqlite_py.pb import kv_pb2
from dqlite_py.pb import rpc_pb2 as rpc


@dataclass(frozen=True)
class Record:
    main: int
    sub: int
    kv: kv_pb2.KeyValue | None  # None: deleted
    key: bytes


@dataclass(frozen=True)
class Plan:
    """Which branch of a transaction runs; decided for nested ones too before anything does."""

    taken: bool
    operations: list[tuple[rpc.RequestOp, Plan | None]]


class EtcdModel:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.revision = 1
        self.compacted = -1
        self.leases: dict[int, int] = {}

    # --- state at a revision -------------------------------------------------------------------
    def state(self, revision: int) -> dict[bytes, kv_pb2.KeyValue]:
        newest: dict[bytes, kv_pb2.KeyValue | None] = {}
        for record in self.records:
            if record.main <= revision:
                newest[record.key] = record.kv
        return {key: kv for key, kv in sorted(newest.items()) if kv is not None}

    def interval(self, key: bytes, end: bytes, revision: int) -> list[kv_pb2.KeyValue]:
        return [kv for k, kv in self.state(revision).items() if inside(k, key, end)]

    # --- requests ------------------------------------------------------------------------------
    def range(self, request: rpc.RangeRequest, now: int | None = None) -> rpc.RangeResponse:
        now = self.revision if now is None else now
        if request.revision > now:
            raise errors.FutureRevision
        if 0 < request.revision < self.compacted:
            raise errors.Compacted
        kvs = self.interval(
            request.key, request.range_end, request.revision if request.revision > 0 else now
        )
        response = rpc.RangeResponse(header=rpc.ResponseHeader(revision=now), count=len(kvs))
        if request.count_only:
            return response
        response.kvs.extend(self._arrange(request, kvs, response))
        return response

    def _arrange(
        self, request: rpc.RangeRequest, kvs: list[kv_pb2.KeyValue], response: rpc.RangeResponse
    ) -> list[kv_pb2.KeyValue]:
        bounds = (
            ("min_mod_revision", "mod_revision", 1),
            ("max_mod_revision", "mod_revision", -1),
            ("min_create_revision", "create_revision", 1),
            ("max_create_revision", "create_revision", -1),
        )
        filtered = any(getattr(request, name) for name, _, _ in bounds)
        if request.limit > 0 and request.sort_order == 0 and not filtered:
            kvs = kvs[: request.limit + 1]
        for name, field, sign in bounds:
            limit = getattr(request, name)
            if limit:
                kvs = [kv for kv in kvs if sign * getattr(kv, field) >= sign * limit]
        fields = ["key", "version", "create_revision", "mod_revision", "value"]
        if request.sort_order or request.sort_target:
            field = fields[request.sort_target]
            kvs = sorted(kvs, key=lambda kv: getattr(kv, field), reverse=request.sort_order == 2)
        if 0 < request.limit < len(kvs):
            response.more = True
            kvs = kvs[: request.limit]
        result = []
        for kv in kvs:
            copy = kv_pb2.KeyValue()
            copy.CopyFrom(kv)
            if request.keys_only:
                copy.value = b""
            result.append(copy)
        return result

    def put(self, request: rpc.PutRequest) -> rpc.PutResponse:
        if request.lease and request.lease not in self.leases:
            raise errors.LeaseNotFound
        self._check_ignore(request)
        batch = Batch(self)
        response = batch.put(request)
        batch.commit()
        return response

    def _check_ignore(self, put: rpc.PutRequest) -> None:
        ignores = put.ignore_value or put.ignore_lease
        if ignores and put.key not in self.state(self.revision):
            raise errors.KeyNotFound

    def delete_range(self, request: rpc.DeleteRangeRequest) -> rpc.DeleteRangeResponse:
        batch = Batch(self)
        response = batch.delete_range(request)
        batch.commit()
        return response

    def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        plan = self._decide(request)
        self._check(plan)
        batch = Batch(self)
        response = batch.txn(plan)
        batch.commit()
        response.header.revision = self.revision
        return response

    def _decide(self, request: rpc.TxnRequest) -> Plan:
        taken = all(self._holds(compare) for compare in request.compare)
        ops = request.success if taken else request.failure
        return Plan(
            taken,
            [
                (op, self._decide(op.request_txn) if op.HasField("request_txn") else None)
                for op in ops
            ],
        )

    def _holds(self, compare: rpc.Compare) -> bool:
        kvs = self.interval(compare.key, compare.range_end, self.revision)
        if not kvs and compare.target == rpc.Compare.VALUE:
            return False
        field = ["version", "create_revision", "mod_revision", "value", "lease"][compare.target]
        wanted = getattr(compare, field)
        for kv in kvs or [kv_pb2.KeyValue()]:
            found = getattr(kv, field)
            order = (found > wanted) - (found < wanted)
            if not [order == 0, order > 0, order < 0, order != 0][compare.result]:
                return False
        return True

    def _check(self, plan: Plan) -> None:
        for op, nested in plan.operations:
            if nested:
                self._check(nested)
            if op.HasField("request_range") and op.request_range.revision:
                if op.request_range.revision > self.revision:
                    raise errors.FutureRevision
                if op.request_range.revision < self.compacted:
                    raise errors.Compacted
            if op.HasField("request_put"):
                put = op.request_put
                self._check_ignore(put)
                if put.lease and put.lease not in self.leases:
                    raise errors.LeaseNotFound

    def compact(self, request: rpc.CompactionRequest) -> rpc.CompactionResponse:
        if request.revision <= self.compacted:
            raise errors.Compacted
        if request.revision > self.revision:
            raise errors.FutureRevision
        self.compacted = request.revision
        return rpc.CompactionResponse(header=rpc.ResponseHeader(revision=self.revision))

    def lease_grant(self, request: rpc.LeaseGrantRequest) -> rpc.LeaseGrantResponse:
        if request.ID in self.leases:
            raise errors.LeaseExists
        self.leases[request.ID] = request.TTL
        header = rpc.ResponseHeader(revision=self.revision)
        return rpc.LeaseGrantResponse(header=header, ID=request.ID, TTL=request.TTL)

    def lease_revoke(self, request: rpc.LeaseRevokeRequest) -> rpc.LeaseRevokeResponse:
        if request.ID not in self.leases:
            raise errors.LeaseNotFound
        batch = Batch(self)
        for key in self.lease_keys(request.ID):
            batch.delete_range(rpc.DeleteRangeRequest(key=key))
        batch.commit()
        del self.leases[request.ID]
        return rpc.LeaseRevokeResponse(header=rpc.ResponseHeader(revision=self.revision))

    def lease_keys(self, lease: int) -> list[bytes]:
        return [key for key, kv in self.state(self.revision).items() if kv.lease == lease]


class Batch:
    """The changes of one request; invisible to the model's revision until committed."""

    def __init__(self, model: EtcdModel) -> None:
        self.model = model
        self.main = model.revision + 1
        self.subs = 0

    @property
    def now(self) -> int:
        return self.main if self.subs else self.model.revision

    def commit(self) -> None:
        self.model.revision = self.now

    def add(self, key: bytes, kv: kv_pb2.KeyValue | None) -> None:
        self.model.records.append(Record(self.main, self.subs, kv, key))
        self.subs += 1

    def put(self, request: rpc.PutRequest) -> rpc.PutResponse:
        old = self.model.state(self.main).get(request.key)
        kv = kv_pb2.KeyValue(
            key=request.key,
            create_revision=old.create_revision if old else self.main,
            mod_revision=self.main,
            version=old.version + 1 if old else 1,
            lease=old.lease if old and request.ignore_lease else request.lease,
            value=old.value if old and request.ignore_value else request.value,
        )
        self.add(request.key, kv)
        response = rpc.PutResponse(header=rpc.ResponseHeader(revision=self.main))
        if request.prev_kv and old:
            response.prev_kv.CopyFrom(old)
        return response

    def delete_range(self, request: rpc.DeleteRangeRequest) -> rpc.DeleteRangeResponse:
        old = self.model.interval(request.key, request.range_end, self.main)
        for kv in old:
            self.add(kv.key, None)
        response = rpc.DeleteRangeResponse(deleted=len(old))
        response.header.revision = self.now
        if request.prev_kv:
            response.prev_kvs.extend(old)
        return response

    def txn(self, plan: Plan) -> rpc.TxnResponse:
        response = rpc.TxnResponse(succeeded=plan.taken, header=rpc.ResponseHeader())
        for op, nested in plan.operations:
            answer = response.responses.add()
            if op.HasField("request_put"):
                answer.response_put.CopyFrom(self.put(op.request_put))
            elif op.HasField("request_delete_range"):
                answer.response_delete_range.CopyFrom(self.delete_range(op.request_delete_range))
            elif op.HasField("request_range"):
                found = self.model.range(op.request_range, now=self.now)
                answer.response_range.CopyFrom(found)
            else:
                assert nested
                answer.response_txn.CopyFrom(self.txn(nested))
        return response


def inside(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\x00" or key < end)

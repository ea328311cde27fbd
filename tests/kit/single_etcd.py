"""The KV service on a replica of one, with short calls for tests."""

from __future__ import annotations

import asyncio
from typing import Any

from dqlite_py.kv.commands import Command, Kind
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.service import KvService
from dqlite_py.pb import kv_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.single_replica import SingleReplica

ALL = {"key": b"\0", "range_end": b"\0"}


class SingleEtcd:
    """Keyword arguments are the fields of the request; answers are the real messages."""

    def __init__(self, **options: Any) -> None:
        self.machine = EtcdMachine()
        self.replica = SingleReplica(self.machine)
        self.kv = KvService(self.replica, self.machine, **options)

    def put(self, key: bytes, value: bytes = b"", **fields: Any) -> rpc.PutResponse:
        return asyncio.run(self.kv.put(rpc.PutRequest(key=key, value=value, **fields)))

    def range(self, key: bytes, range_end: bytes = b"", **fields: Any) -> rpc.RangeResponse:
        request = rpc.RangeRequest(key=key, range_end=range_end, **fields)
        return asyncio.run(self.kv.range(request))

    def keys(self, key: bytes, range_end: bytes = b"", **fields: Any) -> list[bytes]:
        return [kv.key for kv in self.range(key, range_end, **fields).kvs]

    def delete(self, key: bytes, range_end: bytes = b"", **fields: Any) -> rpc.DeleteRangeResponse:
        request = rpc.DeleteRangeRequest(key=key, range_end=range_end, **fields)
        return asyncio.run(self.kv.delete_range(request))

    def txn(self, **fields: Any) -> rpc.TxnResponse:
        return asyncio.run(self.kv.txn(rpc.TxnRequest(**fields)))

    def compact(self, revision: int) -> rpc.CompactionResponse:
        return asyncio.run(self.kv.compact(rpc.CompactionRequest(revision=revision)))

    def compact_fully(self, revision: int) -> None:
        self.compact(revision)
        while self.machine.compact_finished < revision:
            self.step(revision)

    def step(self, revision: int) -> None:
        request = rpc.CompactionRequest(revision=revision)
        asyncio.run(self.replica.write(Command(Kind.COMPACT_STEP, request)))

    def hash(self, revision: int = 0) -> rpc.HashKVResponse:
        return asyncio.run(self.kv.hash_kv(rpc.HashKVRequest(revision=revision)))

    def grant(self, lease: int, ttl_s: int = 60) -> None:
        request = rpc.LeaseGrantRequest(ID=lease, TTL=ttl_s)
        asyncio.run(self.replica.write(Command(Kind.LEASE_GRANT, request)))

    def revoke(self, lease: int) -> Any:
        request = rpc.LeaseRevokeRequest(ID=lease)
        return asyncio.run(self.replica.write(Command(Kind.LEASE_REVOKE, request))).response

    def stored_revisions(self) -> list[tuple[int, bytes, bool]]:
        """Return (main, key, is tombstone) of every stored row, in order."""
        rows = self.replica.session.execute("SELECT id, key FROM revisions ORDER BY id")
        return [(row[0] >> 22, row[1], bool(row[0] & 1)) for row in rows]


def op_put(key: bytes, value: bytes = b"", **fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, **fields))


def op_range(key: bytes, range_end: bytes = b"", **fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, range_end=range_end, **fields))


def op_delete(key: bytes, range_end: bytes = b"", **fields: Any) -> rpc.RequestOp:
    request = rpc.DeleteRangeRequest(key=key, range_end=range_end, **fields)
    return rpc.RequestOp(request_delete_range=request)


def op_txn(**fields: Any) -> rpc.RequestOp:
    return rpc.RequestOp(request_txn=rpc.TxnRequest(**fields))


def kv(
    key: bytes, value: bytes, create: int, mod: int, version: int, lease: int = 0
) -> kv_pb2.KeyValue:
    return kv_pb2.KeyValue(
        key=key,
        value=value,
        create_revision=create,
        mod_revision=mod,
        version=version,
        lease=lease,
    )

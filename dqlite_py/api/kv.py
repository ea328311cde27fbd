"""etcdserverpb.KV: keys, transactions, compaction."""

from __future__ import annotations

from typing import Protocol

from dqlite_py.api.header import HeaderFiller
from dqlite_py.api.routes import Call, Route, unary
from dqlite_py.pb import rpc_pb2 as rpc


class KeyValueService(Protocol):
    """What the key-value store offers; each answer's header carries the revision only."""

    async def range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        """Read an interval of keys."""

    async def put(self, request: rpc.PutRequest) -> rpc.PutResponse:
        """Set one key."""

    async def delete_range(self, request: rpc.DeleteRangeRequest) -> rpc.DeleteRangeResponse:
        """Delete an interval of keys."""

    async def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        """Compare, then run one of two lists of operations, atomically."""

    async def compact(self, request: rpc.CompactionRequest) -> rpc.CompactionResponse:
        """Give up history below a revision."""


def routes(service: KeyValueService, headers: HeaderFiller) -> list[Route]:
    """Return the routes of the KV service; errors are those of ``service``."""

    async def range_(request: rpc.RangeRequest, _call: Call) -> rpc.RangeResponse:
        response = await service.range(request)
        headers.fill(response.header)
        return response

    async def put(request: rpc.PutRequest, _call: Call) -> rpc.PutResponse:
        response = await service.put(request)
        headers.fill(response.header)
        return response

    async def delete_range(request: rpc.DeleteRangeRequest, _call: Call) -> rpc.DeleteRangeResponse:
        response = await service.delete_range(request)
        headers.fill(response.header)
        return response

    async def txn(request: rpc.TxnRequest, _call: Call) -> rpc.TxnResponse:
        response = await service.txn(request)
        headers.fill(response.header)
        return response

    async def compact(request: rpc.CompactionRequest, _call: Call) -> rpc.CompactionResponse:
        response = await service.compact(request)
        headers.fill(response.header)
        return response

    path = "/etcdserverpb.KV/"
    return [
        unary(
            path + "Range",
            rpc.RangeRequest,
            rpc.RangeResponse,
            range_,
            learner_serves=_is_serializable,
        ),
        unary(path + "Put", rpc.PutRequest, rpc.PutResponse, put),
        unary(path + "DeleteRange", rpc.DeleteRangeRequest, rpc.DeleteRangeResponse, delete_range),
        unary(path + "Txn", rpc.TxnRequest, rpc.TxnResponse, txn),
        unary(path + "Compact", rpc.CompactionRequest, rpc.CompactionResponse, compact),
    ]


def _is_serializable(request: rpc.RangeRequest) -> bool:
    return request.serializable

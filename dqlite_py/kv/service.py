"""The KV service, and the parts of Maintenance that concern keys, as coroutines over messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from dqlite_py import errors
from dqlite_py.kv import alarms, ranges, txn, validation
from dqlite_py.kv.commands import Command, Kind
from dqlite_py.kv.committed import CommittedReader
from dqlite_py.kv.hashkv import hash_kv
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.store import View
from dqlite_py.node.contract import ReplicaPort
from dqlite_py.pb import rpc_pb2

T = TypeVar("T")

DEFAULT_MAX_REQUEST_BYTES = 1536 * 1024
DEFAULT_MAX_TXN_OPS = 128
_INLINE_OPS = 16  # point reads that may run on the event loop together


class KvService:
    """Validates requests, sends writes to the leader and reads at the committed revision.

    Every method raises the errors of the request (``RequestRefused``), and ``OutcomeUnknown`` when
    a write may or may not have happened; nothing is ever retried. Of the header only the revision
    is set.
    """

    def __init__(
        self,
        replica: ReplicaPort,
        machine: EtcdMachine,
        *,
        max_request_bytes: int = DEFAULT_MAX_REQUEST_BYTES,
        max_txn_ops: int = DEFAULT_MAX_TXN_OPS,
    ) -> None:
        self._replica = replica
        self._machine = machine
        self._reader = CommittedReader(replica, machine)
        self._max_request_bytes = max_request_bytes
        self._max_txn_ops = max_txn_ops
        self._compaction_waiters: list[tuple[int, asyncio.Future[None]]] = []
        machine.subscribe_compaction(self._compaction_moved)

    @property
    def revision(self) -> int:
        """The committed revision here."""
        return self._machine.revision

    async def range(self, request: rpc_pb2.RangeRequest) -> rpc_pb2.RangeResponse:
        """Return keys of an interval: linearizable, or local state if ``serializable``."""
        validation.check_range(request)
        return await self._read(
            lambda view: ranges.execute(view, request),
            serializable=request.serializable,
            inline=not request.range_end,
        )

    async def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        """Put one key; durable on a quorum when answered."""
        validation.check_put(request)
        response: rpc_pb2.PutResponse = await self._write(Kind.PUT, request)
        return response

    async def delete_range(
        self, request: rpc_pb2.DeleteRangeRequest
    ) -> rpc_pb2.DeleteRangeResponse:
        """Delete an interval; durable on a quorum when answered."""
        validation.check_delete_range(request)
        response: rpc_pb2.DeleteRangeResponse = await self._write(Kind.DELETE_RANGE, request)
        return response

    async def txn(self, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        """Run a transaction; one of ranges only is a read and does not pass through the log."""
        validation.check_txn(request, self._max_txn_ops)
        if not validation.is_read_only(request):
            written: rpc_pb2.TxnResponse = await self._write(Kind.TXN, request)
            return written
        return await self._read(
            lambda view: txn.execute(view, None, request),
            serializable=validation.is_serializable(request),
            inline=_is_small(request),
        )

    async def compact(self, request: rpc_pb2.CompactionRequest) -> rpc_pb2.CompactionResponse:
        """Make history below a revision unreadable.

        With ``physical`` the answer waits until the rows have been deleted and that is applied
        here; the deletion itself goes on even if the caller leaves.
        """
        response: rpc_pb2.CompactionResponse = await self._write(Kind.COMPACT, request)
        if request.physical:
            await self._compaction_finished(request.revision)
        return response

    async def hash_kv(self, request: rpc_pb2.HashKVRequest) -> rpc_pb2.HashKVResponse:
        """Return the checksum of this member's history up to a revision (0: all of it)."""
        return await hash_kv(self._reader, request.revision)

    async def alarm(self, request: rpc_pb2.AlarmRequest) -> rpc_pb2.AlarmResponse:
        """List, raise or clear alarms. ``NONE`` lists every type."""
        if request.action != rpc_pb2.AlarmRequest.GET:
            changed: rpc_pb2.AlarmResponse = await self._write(Kind.ALARM, request)
            return changed
        await self._replica.barrier()
        response = rpc_pb2.AlarmResponse()
        raised = alarms.messages(self._machine.alarms)
        wanted = request.alarm
        response.alarms.extend(m for m in raised if wanted in (rpc_pb2.NONE, m.alarm))
        response.header.revision = self._machine.revision
        return response

    async def local_alarms(self) -> list[rpc_pb2.AlarmMember]:
        """Return the alarms known here, without asking anyone."""
        return alarms.messages(self._machine.alarms)

    async def _write(self, kind: Kind, request: Message) -> Any:
        if request.ByteSize() > self._max_request_bytes:
            raise errors.RequestTooLarge
        result = await self._replica.write(Command(kind, request))
        return result.response

    async def _read(self, query: Callable[[View], T], *, serializable: bool, inline: bool) -> T:
        # A member without a schema has not heard from any leader yet and has nothing to serve.
        if not (serializable and self._machine.has_schema):
            await self._replica.barrier()
        return await self._reader.read(query, inline=inline)

    async def _compaction_finished(self, revision: int) -> None:
        if self._machine.compact_finished >= revision:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (revision, waiter)
        self._compaction_waiters.append(entry)
        try:
            await waiter
        finally:
            self._compaction_waiters.remove(entry)

    def _compaction_moved(self) -> None:
        for revision, waiter in self._compaction_waiters:
            if self._machine.compact_finished >= revision and not waiter.done():
                waiter.set_result(None)


def _is_small(request: rpc_pb2.TxnRequest) -> bool:
    ops: list[Any] = [op.request_range for op in (*request.success, *request.failure)]
    intervals: list[Any] = [*request.compare, *ops]
    return len(intervals) <= _INLINE_OPS and not any(item.range_end for item in intervals)

"""The few etcd calls that the demo makes, each against one chosen server."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import click
import grpc

from dqlite_py.pb import admin_pb2, kv_pb2, rpc_pb2

CALL_TIMEOUT_S = 10.0
PAGE_KEYS = 1000


class DemoFailed(click.ClickException):
    """Something is not as it must be; the demo ends with exit code 1."""


class Server:
    """A connection to one server; calls raise ``grpc.RpcError``."""

    def __init__(self, target: str) -> None:
        self.target = target
        self._channel = grpc.insecure_channel(
            target, options=[("grpc.use_local_subchannel_pool", 1)]
        )

    def close(self) -> None:
        """Give up the connection and every watch on it."""
        self._channel.close()

    def call(
        self, method: str, request: Any, response_type: Any, timeout_s: float = CALL_TIMEOUT_S
    ) -> Any:
        """Make one unary call and return the response."""
        stub = self._channel.unary_unary(
            method,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response_type.FromString,
        )
        return stub(request, timeout=timeout_s)

    def put(
        self, key: str, value: str, lease: int = 0, timeout_s: float = CALL_TIMEOUT_S
    ) -> rpc_pb2.PutResponse:
        """Put one key."""
        request = rpc_pb2.PutRequest(key=key.encode(), value=value.encode(), lease=lease)
        response: rpc_pb2.PutResponse = self.call(
            "/etcdserverpb.KV/Put", request, rpc_pb2.PutResponse, timeout_s
        )
        return response

    def get(self, key: str) -> str | None:
        """Read one key, linearizable."""
        request = rpc_pb2.RangeRequest(key=key.encode())
        response = self.call("/etcdserverpb.KV/Range", request, rpc_pb2.RangeResponse)
        return response.kvs[0].value.decode() if response.kvs else None

    def get_prefix(self, prefix: str, *, local: bool = False) -> dict[str, str]:
        """Read all keys under ``prefix`` at one revision; ``local``: without asking the others."""
        found: dict[str, str] = {}
        key, end, revision = prefix.encode(), prefix_end(prefix), 0
        while True:
            request = rpc_pb2.RangeRequest(
                key=key, range_end=end, limit=PAGE_KEYS, revision=revision, serializable=local
            )
            page = self.call("/etcdserverpb.KV/Range", request, rpc_pb2.RangeResponse)
            found |= {one.key.decode(): one.value.decode() for one in page.kvs}
            if not page.more:
                return found
            revision = revision or page.header.revision
            key = page.kvs[-1].key + b"\0"

    def delete(self, key: str) -> None:
        """Delete one key."""
        request = rpc_pb2.DeleteRangeRequest(key=key.encode())
        self.call("/etcdserverpb.KV/DeleteRange", request, rpc_pb2.DeleteRangeResponse)

    def swap(self, key: str, expected: str, value: str) -> bool:
        """Put ``value`` if the key holds ``expected``; tell whether it did."""
        request = rpc_pb2.TxnRequest(
            compare=[
                rpc_pb2.Compare(
                    result=rpc_pb2.Compare.EQUAL,
                    target=rpc_pb2.Compare.VALUE,
                    key=key.encode(),
                    value=expected.encode(),
                )
            ],
            success=[
                rpc_pb2.RequestOp(
                    request_put=rpc_pb2.PutRequest(key=key.encode(), value=value.encode())
                )
            ],
        )
        response = self.call("/etcdserverpb.KV/Txn", request, rpc_pb2.TxnResponse)
        return bool(response.succeeded)

    def grant(self, ttl_s: int) -> int:
        """Grant a lease and return its id."""
        request = rpc_pb2.LeaseGrantRequest(TTL=ttl_s)
        response = self.call("/etcdserverpb.Lease/LeaseGrant", request, rpc_pb2.LeaseGrantResponse)
        return int(response.ID)

    def members(self) -> list[rpc_pb2.Member]:
        """Return the member list, ordered by name."""
        request = rpc_pb2.MemberListRequest(linearizable=True)
        response = self.call(
            "/etcdserverpb.Cluster/MemberList", request, rpc_pb2.MemberListResponse
        )
        return sorted(response.members, key=lambda member: str(member.name))

    def status(self) -> rpc_pb2.StatusResponse:
        """Return this server's view of the cluster."""
        response: rpc_pb2.StatusResponse = self.call(
            "/etcdserverpb.Maintenance/Status", rpc_pb2.StatusRequest(), rpc_pb2.StatusResponse
        )
        return response

    def hash_kv(self, revision: int) -> rpc_pb2.HashKVResponse:
        """Return the hash over all keys and their history up to ``revision``."""
        response: rpc_pb2.HashKVResponse = self.call(
            "/etcdserverpb.Maintenance/HashKV",
            rpc_pb2.HashKVRequest(revision=revision),
            rpc_pb2.HashKVResponse,
        )
        return response

    def check(self) -> admin_pb2.CheckResponse:
        """Checkpoint and examine this server's database files."""
        response: admin_pb2.CheckResponse = self.call(
            "/dqlite.v1.Admin/Check",
            admin_pb2.CheckRequest(checkpoint=True),
            admin_pb2.CheckResponse,
            timeout_s=30.0,
        )
        return response

    def watch(self, prefix: str) -> Watch:
        """Watch all keys under ``prefix`` from now on; returns once the watch is in place."""
        stub = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc_pb2.WatchRequest.SerializeToString,
            response_deserializer=rpc_pb2.WatchResponse.FromString,
        )
        return Watch(stub, prefix)


class Watch:
    """One open watch; iterate ``events``."""

    def __init__(self, stub: Any, prefix: str) -> None:
        self._requests: queue.SimpleQueue[rpc_pb2.WatchRequest | None] = queue.SimpleQueue()
        create = rpc_pb2.WatchCreateRequest(key=prefix.encode(), range_end=prefix_end(prefix))
        self._requests.put(rpc_pb2.WatchRequest(create_request=create))
        self._stream = stub(iter(self._requests.get, None), timeout=CALL_TIMEOUT_S)
        created = next(self._stream)
        if not created.created or created.canceled:
            raise DemoFailed(f"the watch of {prefix} was refused: {created.cancel_reason}")

    def events(self, count: int) -> Iterator[kv_pb2.Event]:
        """Yield the next ``count`` events as they come, then close the watch."""
        try:
            while count > 0:
                for event in next(self._stream).events:
                    yield event
                    count -= 1
        finally:
            self._requests.put(None)
            self._stream.cancel()


def reason_of(error: grpc.RpcError) -> str:
    """Return what the server, or the library in its place, said."""
    call: Any = error
    return f"{call.code().name}: {call.details()}"


def prefix_end(prefix: str) -> bytes:
    """Return the end of the range of all keys that begin with ``prefix`` (not ending in 0xff)."""
    data = prefix.encode()
    return data[:-1] + bytes([data[-1] + 1])

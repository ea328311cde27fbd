"""A thin synchronous etcd v3 client for tests: one channel to one member, no retries.

It never hides an outcome: an error becomes ``Refused`` with the status code's name and the
server's text.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import grpc

from dqlite_py.pb import rpc_pb2 as rpc

TIMEOUT_S = 10.0
CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 1_000),  # also the time to wait for a first answer
    ("grpc.max_reconnect_backoff_ms", 200),
]

# Codes after which a write may or may not have happened.
UNKNOWN_OUTCOMES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "UNKNOWN"})


class Refused(Exception):
    """The server, or the way to it, answered with an error."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text

    @property
    def outcome_unknown(self) -> bool:
        return self.code in UNKNOWN_OUTCOMES


UNARY = {
    "Range": ("KV", rpc.RangeRequest, rpc.RangeResponse),
    "Put": ("KV", rpc.PutRequest, rpc.PutResponse),
    "DeleteRange": ("KV", rpc.DeleteRangeRequest, rpc.DeleteRangeResponse),
    "Txn": ("KV", rpc.TxnRequest, rpc.TxnResponse),
    "Compact": ("KV", rpc.CompactionRequest, rpc.CompactionResponse),
    "LeaseGrant": ("Lease", rpc.LeaseGrantRequest, rpc.LeaseGrantResponse),
    "LeaseRevoke": ("Lease", rpc.LeaseRevokeRequest, rpc.LeaseRevokeResponse),
    "LeaseTimeToLive": ("Lease", rpc.LeaseTimeToLiveRequest, rpc.LeaseTimeToLiveResponse),
    "LeaseLeases": ("Lease", rpc.LeaseLeasesRequest, rpc.LeaseLeasesResponse),
    "MemberList": ("Cluster", rpc.MemberListRequest, rpc.MemberListResponse),
    "MemberAdd": ("Cluster", rpc.MemberAddRequest, rpc.MemberAddResponse),
    "MemberRemove": ("Cluster", rpc.MemberRemoveRequest, rpc.MemberRemoveResponse),
    "MemberUpdate": ("Cluster", rpc.MemberUpdateRequest, rpc.MemberUpdateResponse),
    "MemberPromote": ("Cluster", rpc.MemberPromoteRequest, rpc.MemberPromoteResponse),
    "Status": ("Maintenance", rpc.StatusRequest, rpc.StatusResponse),
    "HashKV": ("Maintenance", rpc.HashKVRequest, rpc.HashKVResponse),
    "Alarm": ("Maintenance", rpc.AlarmRequest, rpc.AlarmResponse),
    "MoveLeader": ("Maintenance", rpc.MoveLeaderRequest, rpc.MoveLeaderResponse),
}


def prefix_end(prefix: bytes) -> bytes:
    """Return the range_end that selects every key beginning with ``prefix``."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\0"


def translated(error: grpc.RpcError) -> Refused:
    """Return a gRPC error as ``Refused``."""
    assert isinstance(error, grpc.Call)
    return Refused(error.code().name, error.details() or "")


class EtcdClient:
    """Calls to the member at ``address`` (host:port); safe to share between threads."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.address = address
        self._channel = (
            grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        )
        self._stubs: dict[str, Any] = {}
        for method, (service, _, response) in UNARY.items():
            self._stubs[method] = self._channel.unary_unary(
                f"/etcdserverpb.{service}/{method}",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=response.FromString,
            )

    def close(self) -> None:
        self._channel.close()

    def call(self, method: str, request: Any, timeout_s: float = TIMEOUT_S) -> Any:
        """Send one unary request; raise ``Refused`` for any error."""
        try:
            return self._stubs[method](request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise translated(error) from None

    def raw(self, path: str, request: bytes, timeout_s: float = TIMEOUT_S) -> bytes:
        """Send one unary request as bytes to any method path; raise ``Refused`` for any error."""
        try:
            answer: bytes = self._channel.unary_unary(path)(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise translated(error) from None
        return answer

    def put(self, key: bytes, value: bytes, *, timeout_s: float = TIMEOUT_S, **fields: Any) -> Any:
        return self.call("Put", rpc.PutRequest(key=key, value=value, **fields), timeout_s)

    def range(
        self, key: bytes, range_end: bytes = b"", *, timeout_s: float = TIMEOUT_S, **fields: Any
    ) -> Any:
        return self.call(
            "Range", rpc.RangeRequest(key=key, range_end=range_end, **fields), timeout_s
        )

    def prefix(self, prefix: bytes, **fields: Any) -> Any:
        return self.range(prefix, prefix_end(prefix), **fields)

    def get(self, key: bytes, **fields: Any) -> bytes | None:
        """Return the value of one key, or None."""
        kvs = self.range(key, **fields).kvs
        return kvs[0].value if kvs else None

    def revision(self, *, serializable: bool = False, timeout_s: float = 2.0) -> int:
        """Return the store's revision as a read sees it."""
        answer = self.range(
            b"\0", b"\0", count_only=True, serializable=serializable, timeout_s=timeout_s
        )
        return int(answer.header.revision)

    def delete(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        return self.call(
            "DeleteRange", rpc.DeleteRangeRequest(key=key, range_end=range_end, **fields)
        )

    def txn(self, request: rpc.TxnRequest, timeout_s: float = TIMEOUT_S) -> Any:
        return self.call("Txn", request, timeout_s)

    def compact(self, revision: int, *, physical: bool = True) -> Any:
        return self.call("Compact", rpc.CompactionRequest(revision=revision, physical=physical))

    def grant(self, ttl_s: int, lease_id: int = 0) -> Any:
        return self.call("LeaseGrant", rpc.LeaseGrantRequest(TTL=ttl_s, ID=lease_id))

    def revoke(self, lease_id: int) -> Any:
        return self.call("LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease_id))

    def time_to_live(self, lease_id: int, *, keys: bool = False) -> Any:
        return self.call("LeaseTimeToLive", rpc.LeaseTimeToLiveRequest(ID=lease_id, keys=keys))

    def leases(self) -> list[int]:
        return sorted(
            lease.ID for lease in self.call("LeaseLeases", rpc.LeaseLeasesRequest()).leases
        )

    def status(self, timeout_s: float = TIMEOUT_S) -> Any:
        return self.call("Status", rpc.StatusRequest(), timeout_s)

    def hash_kv(self, revision: int = 0) -> Any:
        return self.call("HashKV", rpc.HashKVRequest(revision=revision))

    def members(self, *, linearizable: bool = True) -> Any:
        return self.call("MemberList", rpc.MemberListRequest(linearizable=linearizable))

    def keep_alive(self, lease_id: int, timeout_s: float = TIMEOUT_S) -> Any:
        """Renew a lease once on a stream of its own (TTL 0: it does not exist)."""
        with self._stream(
            "Lease", "LeaseKeepAlive", rpc.LeaseKeepAliveResponse, timeout_s
        ) as calls:
            calls.send(rpc.LeaseKeepAliveRequest(ID=lease_id))
            return next(calls)

    def watch(self, timeout_s: float = 60.0) -> Stream:
        """Open a watch stream; send ``rpc.WatchRequest`` messages and iterate the answers."""
        return self._stream("Watch", "Watch", rpc.WatchResponse, timeout_s)

    def _stream(self, service: str, method: str, response: Any, timeout_s: float) -> Stream:
        stub = self._channel.stream_stream(
            f"/etcdserverpb.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return Stream(stub, timeout_s)


class Stream:
    """One bidirectional stream; a context manager that cancels it at the end."""

    def __init__(self, stub: Any, timeout_s: float) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = stub(iter(self._requests.get, None), timeout=timeout_s)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._requests.put(None)
        self._call.cancel()

    def send(self, request: Any) -> None:
        self._requests.put(request)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise translated(error) from None

    def watch_key(self, key: bytes, range_end: bytes = b"", **fields: Any) -> Any:
        """Create a watcher and return the answer that says so."""
        create = rpc.WatchCreateRequest(key=key, range_end=range_end, **fields)
        self.send(rpc.WatchRequest(create_request=create))
        return next(self)

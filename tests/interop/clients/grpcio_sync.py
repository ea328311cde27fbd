"""grpcio's synchronous client: one channel, calls in a row or many streams at once."""

from __future__ import annotations

from typing import Any

import grpc

from dqlite_py.pb import health_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from tests.interop.clients.reporting import (
    AT_LIMIT,
    OVER_LIMIT,
    PUT_AT_LIMIT,
    Seen,
    orders,
    run,
    watch,
)
from tests.interop.scenarios import READ_BACK_BYTES, Counts
from tests.kit.etcd_client import EtcdClient, Refused, Stream, translated


class Client:
    """The scenarios; the streams of one client share its connection."""

    def __init__(self, endpoint: str, counts: Counts) -> None:
        self._counts = counts
        self._client = EtcdClient(endpoint)
        self._channel = self._client._channel

    def unary(self) -> Seen:
        self._client.put(b"unary", b"unary value")
        return {
            "value": (self._client.get(b"unary") or b"").decode(),
            "refused": self._refusal(rpc.PutRequest(value=b"no key")),
            "unknown_method": self._unknown_method(),
        }

    def server_stream(self) -> Seen:
        stub = self._channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        call = stub(health_pb2.HealthCheckRequest(), timeout=20)
        status = next(call).status
        call.cancel()
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
        return {"status": name, "end": end_of(call)}

    def bidi(self) -> Seen:
        with self._client.watch(20) as stream:
            created = sum(stream.watch_key(b"bidi", watch_id=n).created for n in (1, 2))
            self._client.put(b"bidi", b"seen")
            events = sum(len(next(stream).events) for _ in (1, 2))
            stream.send(rpc.WatchRequest(cancel_request=rpc.WatchCancelRequest(watch_id=1)))
            canceled = int(next(stream).canceled)
        stub = self._channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=rpc.LeaseKeepAliveResponse.FromString,
        )
        renewals = stub(iter([rpc.LeaseKeepAliveRequest(ID=404)] * 2), timeout=20)
        ttls = [answer.TTL for answer in renewals]
        return {
            "created": created,
            "events": events,
            "canceled": canceled,
            "renewals": ttls,
            "end": renewals.code().name,
        }

    def cancel(self) -> Seen:
        with self._client.watch(20) as stream:
            stream.watch_key(b"cancel")
            stream._call.cancel()
            return {"end": end_of(stream._call), "after": self._still_here()}

    def deadline(self) -> Seen:
        with self._client.watch(0.3) as stream:
            stream.watch_key(b"deadline")
            return {"end": end_of(stream), "after": self._still_here()}

    def large(self) -> Seen:
        for key in (b"large/1", b"large/2"):
            self._client.put(key, b"v" * READ_BACK_BYTES)
        both = self._client.prefix(b"large/").kvs
        at_limit = self._client.call("Range", AT_LIMIT).count
        over_limit = self._refusal(OVER_LIMIT).split()[0]
        return {
            "read_back": len(self._client.get(b"large/1") or b""),
            "both": sum(len(kv.value) for kv in both),
            "at_limit": at_limit,
            "put_at_limit": self._refusal(PUT_AT_LIMIT),
            "over_limit": over_limit,
            "after": self._still_here(),
        }

    def sequential(self) -> Seen:
        answers = [
            self._client.range(b"unary", serializable=True) for _ in range(self._counts.sequential)
        ]
        return {"answered": sum(answer.header.revision > 0 for answer in answers)}

    def concurrent(self) -> Seen:
        streams: list[Stream] = []
        try:
            for _ in range(self._counts.concurrent):
                stream = self._client.watch(60)
                streams.append(stream)
                stream.send(watch(b"concurrent"))
            created = sum(next(stream).created for stream in streams)
            self._client.put(b"concurrent", b"seen")
            events = sum(len(next(stream).events) for stream in streams)
        finally:
            for stream in streams:
                stream.__exit__()
        return {"created": created, "events": events}

    def _refusal(self, request: Any) -> str:
        try:
            self._client.call("Put", request)
        except Refused as refused:
            return f"{refused.code} {refused.text}"
        return "OK"

    def _unknown_method(self) -> str:
        try:
            self._client.raw("/etcdserverpb.KV/Nonsense", b"")
        except Refused as refused:
            return refused.code
        return "OK"

    def _still_here(self) -> str:
        self._client.put(b"after", b"still here")
        return (self._client.get(b"after") or b"").decode()


def end_of(call: Any) -> str:
    """Read a stream to its end and return the name of its status."""
    try:
        for _ in call:
            pass
    except grpc.RpcError as error:
        return translated(error).code
    except Refused as refused:
        return refused.code
    return "OK"


def main() -> None:
    endpoint, names, counts = orders()
    client = Client(endpoint, counts)
    run(names, {name: getattr(client, name) for name in names})


if __name__ == "__main__":
    main()

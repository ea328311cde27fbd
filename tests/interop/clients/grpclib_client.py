"""grpclib: gRPC in pure Python on hyper-h2, independent of grpcio."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from grpclib.client import Channel, StreamStreamMethod, UnaryStreamMethod, UnaryUnaryMethod
from grpclib.exceptions import GRPCError

from dqlite_py.pb import health_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from tests.interop.clients.reporting import (
    AT_LIMIT,
    OVER_LIMIT,
    PUT_AT_LIMIT,
    Seen,
    orders,
    run_async,
    watch,
)
from tests.interop.scenarios import READ_BACK_BYTES, Counts
from tests.kit.etcd_client import UNARY, prefix_end

TIMEOUT_S = 60.0


class Client:
    """The scenarios."""

    def __init__(self, channel: Channel, counts: Counts) -> None:
        self._channel = channel
        self._counts = counts

    async def call(self, method: str, request: Any) -> Any:
        service, request_type, response_type = UNARY[method]
        path = f"/etcdserverpb.{service}/{method}"
        stub = UnaryUnaryMethod(self._channel, path, request_type, response_type)
        return await stub(request, timeout=TIMEOUT_S)

    def watch(self, timeout_s: float = TIMEOUT_S) -> Any:
        path = "/etcdserverpb.Watch/Watch"
        stub = StreamStreamMethod(self._channel, path, rpc.WatchRequest, rpc.WatchResponse)
        return stub.open(timeout=timeout_s)

    async def unary(self) -> Seen:
        await self.call("Put", rpc.PutRequest(key=b"unary", value=b"unary value"))
        found = await self.call("Range", rpc.RangeRequest(key=b"unary"))
        nonsense = UnaryUnaryMethod(
            self._channel, "/etcdserverpb.KV/Nonsense", rpc.PutRequest, rpc.PutResponse
        )
        return {
            "value": found.kvs[0].value.decode(),
            "refused": await refusal(self.call("Put", rpc.PutRequest(value=b"no key"))),
            "unknown_method": (await refusal(nonsense(rpc.PutRequest()))).split()[0],
        }

    async def server_stream(self) -> Seen:
        request_type, response_type = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
        path = "/grpc.health.v1.Health/Watch"
        stub = UnaryStreamMethod(self._channel, path, request_type, response_type)
        async with stub.open(timeout=TIMEOUT_S) as stream:
            await stream.send_message(request_type(), end=True)
            message = await stream.recv_message()
            await stream.cancel()
        assert message is not None
        return {
            "status": response_type.ServingStatus.Name(message.status),
            "end": end_of(stream),
        }

    async def bidi(self) -> Seen:
        created = 0
        async with self.watch() as watching:
            for number in (1, 2):
                await watching.send_message(watch(b"bidi", number))
                created += (await watching.recv_message()).created
            await self.call("Put", rpc.PutRequest(key=b"bidi", value=b"seen"))
            events = sum([len((await watching.recv_message()).events) for _ in (1, 2)])
            cancel = rpc.WatchCancelRequest(watch_id=1)
            await watching.send_message(rpc.WatchRequest(cancel_request=cancel))
            canceled = int((await watching.recv_message()).canceled)
            await watching.cancel()
        request_type, response_type = rpc.LeaseKeepAliveRequest, rpc.LeaseKeepAliveResponse
        path = "/etcdserverpb.Lease/LeaseKeepAlive"
        stub = StreamStreamMethod(self._channel, path, request_type, response_type)
        async with stub.open(timeout=TIMEOUT_S) as renewals:
            await renewals.send_message(request_type(ID=404))
            await renewals.send_message(request_type(ID=404), end=True)
            ttls = [answer.TTL async for answer in renewals]
        return {
            "created": created,
            "events": events,
            "canceled": canceled,
            "renewals": ttls,
            "end": "OK",  # leaving the stream raises for any other status
        }

    async def cancel(self) -> Seen:
        async with self.watch() as watching:
            await watching.send_message(watch(b"cancel"))
            await watching.recv_message()
            await watching.cancel()
        return {"end": end_of(watching), "after": await self._still_here()}

    async def deadline(self) -> Seen:
        end = "OK"
        try:
            async with self.watch(0.3) as watching:
                await watching.send_message(watch(b"deadline"))
                await watching.recv_message()
                await watching.recv_message()
        except TimeoutError:  # how grpclib says that its own clock ended the call
            end = "DEADLINE_EXCEEDED"
        except GRPCError as error:
            end = error.status.name
        return {"end": end, "after": await self._still_here()}

    async def large(self) -> Seen:
        value = b"v" * READ_BACK_BYTES
        for key in (b"large/1", b"large/2"):
            await self.call("Put", rpc.PutRequest(key=key, value=value))
        one = await self.call("Range", rpc.RangeRequest(key=b"large/1"))
        prefix = rpc.RangeRequest(key=b"large/", range_end=prefix_end(b"large/"))
        both = await self.call("Range", prefix)
        return {
            "read_back": len(one.kvs[0].value),
            "both": sum(len(kv.value) for kv in both.kvs),
            "at_limit": (await self.call("Range", AT_LIMIT)).count,
            "put_at_limit": await refusal(self.call("Put", PUT_AT_LIMIT)),
            "over_limit": (await refusal(self.call("Put", OVER_LIMIT))).split()[0],
            "after": await self._still_here(),
        }

    async def sequential(self) -> Seen:
        answered = 0
        request = rpc.RangeRequest(key=b"unary", serializable=True)
        for _ in range(self._counts.sequential):
            answered += (await self.call("Range", request)).header.revision > 0
        return {"answered": answered}

    async def concurrent(self) -> Seen:
        async with AsyncExitStack() as stack:
            streams = []
            for _ in range(self._counts.concurrent):
                stream = await stack.enter_async_context(self.watch())
                await stream.send_message(watch(b"concurrent"))
                streams.append(stream)
            created = sum([(await stream.recv_message()).created for stream in streams])
            await self.call("Put", rpc.PutRequest(key=b"concurrent", value=b"seen"))
            events = sum([len((await stream.recv_message()).events) for stream in streams])
            for stream in streams:
                await stream.cancel()
        return {"created": created, "events": events}

    async def _still_here(self) -> str:
        await self.call("Put", rpc.PutRequest(key=b"after", value=b"still here"))
        found = await self.call("Range", rpc.RangeRequest(key=b"after"))
        text: str = found.kvs[0].value.decode()
        return text


def end_of(stream: Any) -> str:
    """Return how a stream ended; grpclib has no status for one that this side has reset."""
    return "CANCELLED" if stream._cancel_done else "OPEN"


async def refusal(call: Any) -> str:
    try:
        await call
    except GRPCError as error:
        return f"{error.status.name} {error.message}"
    return "OK"


async def main() -> None:
    endpoint, names, counts = orders()
    host, _, port = endpoint.rpartition(":")
    async with Channel(host, int(port)) as channel:
        client = Client(channel, counts)
        await run_async(names, {name: getattr(client, name) for name in names})


if __name__ == "__main__":
    asyncio.run(main())

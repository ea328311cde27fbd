"""grpcio's asyncio client: one channel."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

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
from tests.kit.etcd_client import CHANNEL_OPTIONS, UNARY, prefix_end

TIMEOUT_S = 60.0


def _bytes(message: Any) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded


class Client:
    """The scenarios."""

    def __init__(self, channel: grpc.aio.Channel, counts: Counts) -> None:
        self._channel = channel
        self._counts = counts

    async def call(self, method: str, request: Any) -> Any:
        service, _, response = UNARY[method]
        path = f"/etcdserverpb.{service}/{method}"
        stub = self._channel.unary_unary(path, _bytes, response.FromString)
        return await stub(request, timeout=TIMEOUT_S)

    def watch(self, timeout_s: float = TIMEOUT_S) -> Any:
        path = "/etcdserverpb.Watch/Watch"
        stub = self._channel.stream_stream(path, _bytes, rpc.WatchResponse.FromString)
        return stub(timeout=timeout_s)

    async def unary(self) -> Seen:
        await self.call("Put", rpc.PutRequest(key=b"unary", value=b"unary value"))
        found = await self.call("Range", rpc.RangeRequest(key=b"unary"))
        nonsense = self._channel.unary_unary("/etcdserverpb.KV/Nonsense")
        return {
            "value": found.kvs[0].value.decode(),
            "refused": await refusal(self.call("Put", rpc.PutRequest(value=b"no key"))),
            "unknown_method": (await refusal(nonsense(b"", timeout=TIMEOUT_S))).split()[0],
        }

    async def server_stream(self) -> Seen:
        stub = self._channel.unary_stream(
            "/grpc.health.v1.Health/Watch", _bytes, health_pb2.HealthCheckResponse.FromString
        )
        call = stub(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        status = (await call.read()).status
        call.cancel()
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
        return {"status": name, "end": (await call.code()).name}

    async def bidi(self) -> Seen:
        watching = self.watch()
        created = 0
        for number in (1, 2):
            await watching.write(watch(b"bidi", number))
            created += (await watching.read()).created
        await self.call("Put", rpc.PutRequest(key=b"bidi", value=b"seen"))
        events = sum([len((await watching.read()).events) for _ in (1, 2)])
        cancel = rpc.WatchCancelRequest(watch_id=1)
        await watching.write(rpc.WatchRequest(cancel_request=cancel))
        canceled = int((await watching.read()).canceled)
        watching.cancel()
        path = "/etcdserverpb.Lease/LeaseKeepAlive"
        stub = self._channel.stream_stream(path, _bytes, rpc.LeaseKeepAliveResponse.FromString)
        renewals = stub(iter([rpc.LeaseKeepAliveRequest(ID=404)] * 2), timeout=TIMEOUT_S)
        ttls = [answer.TTL async for answer in renewals]
        return {
            "created": created,
            "events": events,
            "canceled": canceled,
            "renewals": ttls,
            "end": (await renewals.code()).name,
        }

    async def cancel(self) -> Seen:
        watching = self.watch()
        await watching.write(watch(b"cancel"))
        await watching.read()
        watching.cancel()
        return {"end": (await watching.code()).name, "after": await self._still_here()}

    async def deadline(self) -> Seen:
        watching = self.watch(0.3)
        await watching.write(watch(b"deadline"))
        await watching.read()
        end = (await watching.code()).name
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
        streams = [self.watch() for _ in range(self._counts.concurrent)]
        await asyncio.gather(*(stream.write(watch(b"concurrent")) for stream in streams))
        first = await asyncio.gather(*(stream.read() for stream in streams))
        await self.call("Put", rpc.PutRequest(key=b"concurrent", value=b"seen"))
        second = await asyncio.gather(*(stream.read() for stream in streams))
        for stream in streams:
            stream.cancel()
        return {
            "created": sum(answer.created for answer in first),
            "events": sum(len(answer.events) for answer in second),
        }

    async def _still_here(self) -> str:
        await self.call("Put", rpc.PutRequest(key=b"after", value=b"still here"))
        found = await self.call("Range", rpc.RangeRequest(key=b"after"))
        text: str = found.kvs[0].value.decode()
        return text


async def refusal(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {error.details()}"
    return "OK"


async def main() -> None:
    endpoint, names, counts = orders()
    async with grpc.aio.insecure_channel(endpoint, options=CHANNEL_OPTIONS) as channel:
        client = Client(channel, counts)
        await run_async(names, {name: getattr(client, name) for name in names})


if __name__ == "__main__":
    asyncio.run(main())

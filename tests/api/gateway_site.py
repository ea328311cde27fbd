"""A gateway over routes whose handlers are written here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from dqlite_py.api.gateway import Gateway
from dqlite_py.api.routes import Call, Kind, Route, Send, bidi, table, unary
from dqlite_py.api.status import Code
from dqlite_py.errors import LeaseNotFound
from dqlite_py.pb import kv_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.loop import run_virtual
from tests.kit.web_client import RecordedAnswer, ask, request

MOST_BYTES = 1000
KEY = b'{"key":"Zm9v"}'


class Site:
    """A gateway over a range, a put, a lease's renewal, a watch and a snapshot."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.failures: list[tuple[str, str]] = []
        self.handled: list[tuple[str, Code]] = []
        self.error: Exception | None = None
        self.waiting = 0
        snapshot = unary(
            "/etcdserverpb.Maintenance/Snapshot",
            rpc.SnapshotRequest,
            rpc.SnapshotResponse,
            self.snapshot,
        )
        routes = [
            unary("/etcdserverpb.KV/Range", rpc.RangeRequest, rpc.RangeResponse, self.range),
            bidi(
                "/etcdserverpb.Lease/LeaseKeepAlive",
                rpc.LeaseKeepAliveRequest,
                rpc.LeaseKeepAliveResponse,
                self.keep_alive,
            ),
            bidi("/etcdserverpb.Watch/Watch", rpc.WatchRequest, rpc.WatchResponse, self.watch),
            replace(snapshot, kind=Kind.SERVER_STREAM),
        ]
        self.gateway = Gateway(
            table(routes),
            most_message_bytes=MOST_BYTES,
            failed=lambda path, error: self.failures.append((path, repr(error))),
            handled=self._handled,
        )

    def _handled(self, route: Route, code: Code) -> None:
        self.handled.append((route.path.rpartition("/")[2], code))

    async def range(self, asked: rpc.RangeRequest, call: Call) -> rpc.RangeResponse:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        if asked.limit == 99:
            await self.forever()
        pair = kv_pb2.KeyValue(key=asked.key, value=b"v")
        return rpc.RangeResponse(header=rpc.ResponseHeader(revision=7), kvs=[pair], count=1)

    async def forever(self) -> None:
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1

    async def keep_alive(self, asked: AsyncIterator[Any], send: Send, _call: Call) -> None:
        async for one in asked:
            if one.ID == 13:
                raise self.error or LeaseNotFound
            await send(rpc.LeaseKeepAliveResponse(ID=one.ID, TTL=10))

    async def watch(self, asked: AsyncIterator[Any], send: Send, _call: Call) -> None:
        # As the real one: messages are bytes, and the end of the requests is not the end.
        async for one in asked:
            answer = rpc.WatchResponse(watch_id=one.create_request.watch_id, created=True)
            await send(answer.SerializeToString())
        await self.forever()

    async def snapshot(self, _asked: rpc.SnapshotRequest, send: Send, _call: Call) -> None:
        for left in (2, 1, 0):
            await send(rpc.SnapshotResponse(remaining_bytes=left, blob=b"x"))

    async def post(self, path: str, body: Any = b"", **headers: str) -> RecordedAnswer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await ask(self.gateway, request(path, body, headers=named))


def with_site(scenario: Callable[[Site], Awaitable[None]]) -> Site:
    site = Site()
    run_virtual(lambda: scenario(site), limit_s=None)  # type: ignore[arg-type,return-value]
    assert site.waiting == 0
    return site

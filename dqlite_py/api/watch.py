"""etcdserverpb.Watch: one stream that carries many watchers."""

from __future__ import annotations

from collections.abc import AsyncIterator

from dqlite_py.api.routes import Call, Route, Send, bidi
from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.watch.hub import WatchHub


def routes(hub: WatchHub) -> list[Route]:
    """Return the route of the Watch service; what is sent is bytes already serialised."""

    async def watch(requests: AsyncIterator[rpc.WatchRequest], send: Send, _call: Call) -> None:
        await hub.watch(requests, send)

    return [bidi("/etcdserverpb.Watch/Watch", rpc.WatchRequest, rpc.WatchResponse, watch)]

"""Writes and leader-only calls find the leader, wherever it is (design decision 4).

A request is sent again only when it certainly had no effect: nobody led, the member asked did not
lead, or nothing was sent. Everything else is answered as it is (decision 9).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from dqlite_py.errors import (
    NoLeader,
    NotLeader,
    PeerFailed,
    PeerUnreachable,
    RequestTimeout,
)
from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.contract import Machine
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.pipeline import Pipeline
from dqlite_py.seams import Clock
from dqlite_py.transport.transport import PeerTransport

WRITE_METHOD = "write"
_INDEX_BYTES = 8

CallHandler = Callable[[bytes], Awaitable[bytes]]


class Router:
    """Sends requests to the leader and serves those that other members sent. Event loop only."""

    def __init__(
        self,
        member_id: int,
        transport: PeerTransport,
        machine: Machine,
        applied: AppliedIndex,
        clock: Clock,
        limits: ReplicaLimits,
        *,
        leader_id: Callable[[], int],
        pipeline: Callable[[], Pipeline | None],
    ) -> None:
        self._member_id = member_id
        self._transport = transport
        self._machine = machine
        self._applied = applied
        self._clock = clock
        self._limits = limits
        self._leader_id = leader_id
        self._pipeline = pipeline
        self._handlers: dict[str, CallHandler] = {}
        self._changed: asyncio.Future[None] | None = None

    def register(self, method: str, handler: CallHandler) -> None:
        """Serve ``method`` for other members and for this one."""
        assert method not in self._handlers
        self._handlers[method] = handler

    def leadership_changed(self) -> None:
        """Requests waiting for a leader look again."""
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def _look_again(self, deadline_s: float) -> None:
        """Wait for leadership to move, but not long: a peer may become reachable silently."""
        now_s = self._clock.now_s()
        if now_s >= deadline_s:
            raise RequestTimeout
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        wait_s = min(self._limits.tick_interval_s, deadline_s - now_s)
        await asyncio.wait([self._changed], timeout=wait_s)

    # --- writes -----------------------------------------------------------------------------
    async def write(self, command: Any) -> Any:
        """Execute ``command`` on the leader; see ReplicaPort.write."""
        if command.leader_bound:
            return await self._submit(command, command.size_bytes)
        deadline_s = self._clock.now_s() + self._limits.request_timeout_s
        while True:
            try:
                leader_id = self._leader_id()
                if leader_id == self._member_id:
                    return await self._submit(command, command.size_bytes)
                if leader_id == 0:
                    raise NoLeader
                return await self._forward(leader_id, command, deadline_s)
            except (NotLeader, NoLeader, PeerUnreachable):
                await self._look_again(deadline_s)

    def _submit(self, command: Any, size_bytes: int) -> asyncio.Future[Any]:
        pipeline = self._pipeline()
        if pipeline is None:
            raise NotLeader
        return pipeline.submit(command, size_bytes)

    async def _forward(self, leader_id: int, command: Any, deadline_s: float) -> Any:
        payload = self._machine.encode_command(command)
        timeout_s = max(0.0, deadline_s - self._clock.now_s())
        answer = await self._transport.call(leader_id, WRITE_METHOD, payload, timeout_s)
        index = int.from_bytes(answer[:_INDEX_BYTES], "big")
        if index > self._applied.index:
            # A client that reads here afterwards, even serializably, sees its own write.
            try:
                async with asyncio.timeout(self._limits.request_timeout_s):
                    await self._applied.wait(index)
            except TimeoutError:
                pass  # the write is committed and its result known; only this member lags
        return self._machine.decode_result(answer[_INDEX_BYTES:])

    # --- calls ------------------------------------------------------------------------------
    async def call_leader(self, method: str, payload: bytes, timeout_s: float) -> bytes:
        """Run a registered call on the leader; see ReplicaPort.call_leader."""
        deadline_s = self._clock.now_s() + timeout_s
        while True:
            try:
                leader_id = self._leader_id()
                if leader_id == self._member_id:
                    return await self._handlers[method](payload)
                if leader_id == 0:
                    raise NoLeader
                left_s = max(0.0, deadline_s - self._clock.now_s())
                return await self._transport.call(leader_id, method, payload, left_s)
            except (NotLeader, NoLeader, PeerUnreachable):
                await self._look_again(deadline_s)

    def serve(self, method: str, payload: bytes) -> bytes | asyncio.Future[bytes] | Any:
        """Serve a call that another member sent; the transport awaits what is returned."""
        if method == WRITE_METHOD:
            return self._serve_write(payload)
        handler = self._handlers.get(method)
        if handler is None:
            raise PeerFailed(detail=f"unknown call {method!r}")
        return handler(payload)

    def _serve_write(self, payload: bytes) -> asyncio.Future[bytes]:
        command = self._machine.decode_command(payload)
        answer = self._submit(command, len(payload))
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def settled(done: asyncio.Future[Any]) -> None:
            if reply.done():
                return
            if done.cancelled():
                reply.cancel()
                return
            error = done.exception()
            if error is not None:
                reply.set_exception(error)
                return
            index = self._applied.index.to_bytes(_INDEX_BYTES, "big")
            reply.set_result(index + self._machine.encode_result(done.result()))

        answer.add_done_callback(settled)
        return reply

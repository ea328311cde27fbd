"""The inbound half: connections that other members dialled, one live a member."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from dqlite_py.errors import AuthenticationFailed, DqliteError, Fatal, PeerFailed, TooManyRequests
from dqlite_py.raft.messages import Message, MessageKind
from dqlite_py.seams import Stream
from dqlite_py.transport.codec import decode_message, encode_failure, encode_message
from dqlite_py.transport.contract import PeerHandler, TransportCounters, TransportLimits
from dqlite_py.transport.framing import FrameError, FrameKind, decode_body, encode_frame, read_body
from dqlite_py.transport.handshake import Epoch, Handshaker, Hello, refused, welcome
from dqlite_py.transport.sending import SendQueue

_PONG_FRAME = encode_frame([FrameKind.PONG.value])
_REPLY_OVERHEAD_BYTES = 32

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task that the transport's task group owns."""


class InboundConnection:
    """One authenticated connection from another member: its frames in, our answers out."""

    def __init__(
        self,
        member_id: int,
        epoch: Epoch,
        stream: Stream,
        *,
        own_id: int,
        limits: TransportLimits,
        counters: TransportCounters,
        handler: PeerHandler,
        spawn: Spawn,
    ) -> None:
        self.member_id = member_id
        self.epoch = epoch
        self._stream = stream
        self._own_id = own_id
        self._limits = limits
        self._counters = counters
        self._handler = handler
        self._spawn = spawn
        self._queue = SendQueue(limits, counters)
        self._queue.attach(stream)
        self._calls = 0
        self._silent_rounds = 0
        self._live = True

    def replace(self) -> None:
        """End this connection: nothing that still arrives on it counts."""
        self._live = False
        self._queue.detach()
        self._stream.close()

    def send(self, message: Message) -> bool:
        """Queue a message on the way back; return False when it must be dropped."""
        frame = encode_message(message)
        return len(frame) <= self._limits.frame_bytes and self._queue.put(frame)

    async def serve(self) -> None:
        """Handle frames until the connection ends or is replaced."""
        self._watch_for_silence()
        limit_bytes = self._limits.frame_bytes
        try:
            while True:
                content = decode_body(await read_body(self._stream, limit_bytes))
                if not self._live:
                    return  # bytes that had arrived before this connection was replaced
                self._silent_rounds = 0
                self._dispatch(content)
        except FrameError:
            self._counters.frames_malformed += 1
            raise
        finally:
            self._watcher.cancel()
            self.replace()

    def _dispatch(self, content: list[Any]) -> None:
        match content:
            case [FrameKind.MESSAGE, *_]:
                self._deliver(content)
            case [FrameKind.CALL, int(call_id), str(method), bytes(payload)]:
                self._serve_call(call_id, method, payload)
            case [FrameKind.PING]:
                self._put(_PONG_FRAME)
            case _:
                raise FrameError(f"an unexpected frame: {str(content)[:80]}")

    def _deliver(self, content: list[Any]) -> None:
        message = decode_message(content)
        if message.to != self._own_id or (
            message.from_ != self.member_id and message.kind is not MessageKind.TRANSFER_LEADER
        ):
            raise FrameError(f"a message from {message.from_:x} to {message.to:x}")
        try:
            self._handler.on_message(message)
        except Exception as error:  # the owner decides; the connection is not to blame
            self._handler.on_error(error)

    # --- calls --------------------------------------------------------------------------------
    def _serve_call(self, call_id: int, method: str, payload: bytes) -> None:
        if self._calls >= self._limits.calls_in_flight:
            self._put(encode_failure(call_id, TooManyRequests()))
            return
        self._counters.calls_served += 1
        try:
            answer = self._handler.on_call(self.member_id, method, payload)
        except Exception as error:  # told to the caller
            self._fail(call_id, error)
            return
        if isinstance(answer, bytes):
            self._reply(call_id, answer)
            return
        self._calls += 1
        if isinstance(answer, asyncio.Future):
            answer.add_done_callback(partial(self._settled, call_id))
        else:
            self._spawn(self._finish(call_id, answer))

    def _settled(self, call_id: int, answer: asyncio.Future[bytes]) -> None:
        self._calls -= 1
        if answer.cancelled():
            self._fail(call_id, PeerFailed(detail="the call was cancelled"))
        elif (error := answer.exception()) is not None:
            self._fail(call_id, error)
        else:
            self._reply(call_id, answer.result())

    async def _finish(self, call_id: int, answer: Coroutine[Any, Any, bytes]) -> None:
        try:
            payload = await answer
        except Exception as error:  # told to the caller
            self._fail(call_id, error)
        else:
            self._reply(call_id, payload)
        finally:
            self._calls -= 1

    def _reply(self, call_id: int, payload: bytes) -> None:
        if len(payload) + _REPLY_OVERHEAD_BYTES > self._limits.frame_bytes:
            self._fail(call_id, PeerFailed(detail="the answer exceeds the frame limit"))
            return
        self._put(encode_frame([2, call_id, payload]))  # FrameKind.REPLY

    def _fail(self, call_id: int, error: BaseException) -> None:
        if not isinstance(error, DqliteError) or isinstance(error, Fatal):
            self._handler.on_error(error)
            error = PeerFailed(detail=type(error).__name__)
        self._put(encode_failure(call_id, error))

    # --- the stream ---------------------------------------------------------------------------
    def _put(self, frame: bytes) -> None:
        # A dialer that does not take its answers is as good as gone: its calls then fail with
        # ConnectionLost instead of waiting for answers that were dropped.
        if self._live and not self._queue.put(frame):
            self.replace()

    def _watch_for_silence(self) -> None:
        limits = self._limits
        if self._silent_rounds > math.ceil(limits.idle_timeout_s / limits.ping_interval_s):
            self.replace()
            return
        self._silent_rounds += 1
        self._watcher = asyncio.get_running_loop().call_later(
            limits.ping_interval_s, self._watch_for_silence
        )


class Reception:
    """Admits inbound connections and keeps the live one of each member."""

    def __init__(
        self,
        handshaker: Handshaker,
        limits: TransportLimits,
        counters: TransportCounters,
        handler: PeerHandler,
        *,
        admitted: Callable[[int], None],
    ) -> None:
        self._handshaker = handshaker
        self._limits = limits
        self._counters = counters
        self._handler = handler
        self._admitted = admitted
        self._unauthenticated = 0
        self._live: dict[int, InboundConnection] = {}

    def live(self) -> frozenset[int]:
        """Return the members whose inbound connection stands."""
        return frozenset(self._live)

    def send(self, message: Message) -> bool:
        """Send a message back over its receiver's inbound connection, if one stands."""
        connection = self._live.get(message.to)
        return connection is not None and connection.send(message)

    def drop(self, member_id: int) -> None:
        """Close a member's inbound connection, if any."""
        if (connection := self._live.pop(member_id, None)) is not None:
            connection.replace()

    async def serve(self, stream: Stream, spawn: Spawn) -> None:
        """Authenticate one inbound stream and serve it to its end."""
        try:
            hello = await self._admit(stream)
            if hello is not None:
                await self._serve_member(hello, stream, spawn)
        finally:
            stream.close()

    async def _admit(self, stream: Stream) -> Hello | None:
        if self._unauthenticated >= self._limits.unauthenticated_connections:
            self._counters.connections_refused += 1
            return None
        self._unauthenticated += 1
        try:
            async with asyncio.timeout(self._limits.handshake_timeout_s):
                hello = await self._handshaker.admit(stream)
                if (objection := self._objection(hello)) is not None:
                    raise await refused(stream, objection)
        except TimeoutError:
            self._rejected(stream, "the handshake took too long")
        except (OSError, DqliteError) as error:
            self._rejected(stream, str(error))
        else:
            return hello
        finally:
            self._unauthenticated -= 1
        return None

    def _objection(self, hello: Hello) -> DqliteError | None:
        """Refuse a connection dialled before the live one, and members beyond the limit."""
        live = self._live.get(hello.from_id)
        if live is None and len(self._live) >= self._limits.inbound_members:
            return AuthenticationFailed(detail="too many members are connected")
        if live is not None and hello.epoch.older_than(live.epoch):
            return AuthenticationFailed(detail="a newer connection exists")
        return None

    async def _serve_member(self, hello: Hello, stream: Stream, spawn: Spawn) -> None:
        member_id = hello.from_id
        if member_id in self._live:
            self._counters.connections_replaced += 1
            self.drop(member_id)
        connection = InboundConnection(
            member_id,
            hello.epoch,
            stream,
            own_id=hello.to_id,
            limits=self._limits,
            counters=self._counters,
            handler=self._handler,
            spawn=spawn,
        )
        self._live[member_id] = connection
        welcome(stream)
        self._admitted(member_id)
        try:
            await connection.serve()
        except FrameError as error:
            self._handler.on_rejected(stream.peer_address(), str(error))
        except OSError:
            return  # the dialer notices too, and tells its own side why
        finally:
            if self._live.get(member_id) is connection:
                del self._live[member_id]

    def _rejected(self, stream: Stream, reason: str) -> None:
        self._counters.handshakes_rejected += 1
        self._handler.on_rejected(stream.peer_address(), reason)

"""One HTTP/2 connection on asyncio: bytes to the state machine, requests to calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from dqlite_py.http.connections import Connections, Ending
from dqlite_py.http.grpc.call import GrpcCall
from dqlite_py.http.grpc.call_head import CallHead, is_grpc, read
from dqlite_py.http.grpc.kinds import KINDS, RefusedCall
from dqlite_py.http.grpc.service import GrpcService
from dqlite_py.http.h2.connection import Connection
from dqlite_py.http.h2.errors import ErrorCode
from dqlite_py.http.h2.settings import H2Limits
from dqlite_py.http.h2.stream import Stream
from dqlite_py.http.h2_web import H2WebCall
from dqlite_py.http.owner import TaskOwner
from dqlite_py.http.web import WebHandler

LEAVING_PING = b"leaving!"
ALIVE_PING = b"alive?\x00\x00"
CONTROL_BYTES = 256 * 1024  # written and not yet taken by the peer, beyond which we stop reading
WRITE_AHEAD_BYTES = 64 * 1024  # written and not yet taken, beyond which data waits
TURN_BYTES = 16 * 1024  # of one peer, before others have their turn


@dataclass(frozen=True, slots=True)
class H2Times:
    """How long a peer may keep us waiting."""

    settle_s: float = 10.0  # until its preface and first SETTINGS
    frame_s: float = 30.0  # for the rest of a frame or header block that it began
    stalled_s: float = 60.0  # for taking any of what we send, and what is left at the end
    ping_interval_s: float = 7_200.0  # etcd behaviour: idle peers are asked for a sign of life
    ping_timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class H2Setting:
    """What all HTTP/2 connections of a server share."""

    grpc: GrpcService
    web: WebHandler
    web_failed: Any  # Callable[[str, BaseException], None]
    limits: H2Limits = field(default_factory=H2Limits)
    times: H2Times = field(default_factory=H2Times)


class H2Protocol(asyncio.Protocol):
    """Serves one connection. The listener hands over the transport and the first bytes."""

    def __init__(
        self,
        setting: H2Setting,
        connections: Connections,
        owner: TaskOwner,
        *,
        secure: bool,
        certificate_name: str | None,
    ) -> None:
        self._setting = setting
        self._connections = connections
        self.owner = owner
        self.loop = asyncio.get_running_loop()
        self.secure = secure
        self.certificate_name = certificate_name
        self.connection = Connection(setting.limits, self)
        self._transport: asyncio.Transport | None = None
        self._flushing = False
        self._leaving = False
        self._counted = False  # why it ends is counted already
        self._reading = True
        self._unread = b""  # came, and waits for its turn
        now_s = self.loop.time()
        self._heard_s = now_s  # when the peer last said anything
        self._stalled_since_s: float | None = None
        self._stalled_bytes = 0  # that it had still to take then
        self._closing_since_s: float | None = None
        self._mid_frame_since_s: float | None = now_s
        self._pinged_s: float | None = None

    # --- from asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with our settings."""
        self._transport = cast(asyncio.Transport, transport)
        # Under TLS asyncio's own limit is higher than CONTROL_BYTES: reading would be paused
        # where writing is not, and who resumes the one resumes the other.
        self._transport.set_write_buffer_limits(high=WRITE_AHEAD_BYTES)
        self.wrote()

    def data_received(self, data: bytes) -> None:
        """Feed the state machine and send what it answers.

        What one read brings can be a thousand small requests: the others would wait for all of
        them, so it is fed in turns.
        """
        if self._unread:
            self._unread += data
            return
        if len(data) > TURN_BYTES:
            self._unread = data[TURN_BYTES:]
            data = data[:TURN_BYTES]
            self._pause_reading()
            self.loop.call_soon(self._next_turn)
        self._feed(data)

    def _next_turn(self) -> None:
        if self._transport is None or self.connection.dead:
            self._unread = b""
            return
        data, self._unread = self._unread[:TURN_BYTES], self._unread[TURN_BYTES:]
        if self._unread:
            self.loop.call_soon(self._next_turn)
        elif self.connection.sender.room:
            self._resume_reading()
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        now_s = self.loop.time()
        self._heard_s = now_s
        self._pinged_s = None
        connection = self.connection
        connection.receive(data, now_s)
        if connection.mid_frame or not connection.settled:
            if self._mid_frame_since_s is None or connection.framer.got_on:
                self._mid_frame_since_s = now_s
        else:
            self._mid_frame_since_s = None
        if connection.sender.out_bytes or self._leaving:
            self._flush()

    def eof_received(self) -> bool:
        """The client will not send anything more, so it cannot end a request: close.

        Its calls end now: closing may take long if it does not read what is on its way.
        """
        self.connection.fail(ErrorCode.NO_ERROR, "the client sends no more")
        return False

    def pause_writing(self) -> None:
        """Hold data back; stop reading too once the peer only asks and never listens."""
        self.connection.sender.room = False
        self._stalled_since_s = self.loop.time()
        if self._transport is not None:
            self._stalled_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        """Send what was held back."""
        self.connection.sender.room = True
        self._stalled_since_s = None
        if not self._unread:
            self._resume_reading()
        self.connection.pump()
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel every call."""
        self._transport = None
        self._connections.remove(self)
        self.connection.fail(ErrorCode.NO_ERROR, "the connection is closed")
        self.connection.take()

    # --- from the listener ---

    def leave(self) -> None:
        """Begin a graceful end: no new streams, the present ones are finished (RFC 9113, 6.8)."""
        if self._leaving or self.connection.dead:
            return
        self._leaving = True
        self.connection.announce_leaving()
        self.connection.ping(LEAVING_PING)
        self.wrote()

    def abort(self, ending: Ending) -> None:
        """End now, saying why; the second time without a word."""
        if self.connection.dead:
            if self._transport is not None:
                self._transport.abort()
            return
        self._connections.ended(ending)
        self._counted = True
        leaving = ending is Ending.LEAVING
        code = ErrorCode.NO_ERROR if leaving else ErrorCode.ENHANCE_YOUR_CALM
        self.connection.fail(code, ending.value)

    def tick(self, now_s: float) -> None:
        """Check what a peer owes us; called every second or so."""
        times = self._setting.times
        connection, transport = self.connection, self._transport
        if transport is None:
            return
        since_s = self._mid_frame_since_s
        if transport.is_closing():
            self._tick_closing(transport, now_s)
        elif self._stalled_since_s is not None:  # what it owes us then, we do not read
            self._tick_stalled(transport, self._stalled_since_s, now_s)
        elif since_s is not None:
            settled = connection.settled
            if now_s - since_s > (times.frame_s if settled else times.settle_s):
                self.abort(Ending.SLOW_WRITER)
        elif self._pinged_s is not None:
            if now_s - self._pinged_s > times.ping_timeout_s:
                self._connections.ended(Ending.NO_SIGN_OF_LIFE)
                transport.abort()
        elif now_s - self._heard_s > times.ping_interval_s:
            self._pinged_s = now_s
            connection.ping(ALIVE_PING)
            self.wrote()

    def _tick_stalled(self, transport: asyncio.Transport, since_s: float, now_s: float) -> None:
        unsent_bytes = transport.get_write_buffer_size()
        if unsent_bytes < self._stalled_bytes:  # it reads, however slowly
            self._stalled_since_s, self._stalled_bytes = now_s, unsent_bytes
        elif now_s - since_s > self._setting.times.stalled_s:
            self._connections.ended(Ending.SLOW_READER)
            transport.abort()  # it would not read a GOAWAY either

    def _tick_closing(self, transport: asyncio.Transport, now_s: float) -> None:
        """A transport closes when all is sent, so a peer that does not read could keep it."""
        if self._closing_since_s is None:
            self._closing_since_s = now_s
        elif now_s - self._closing_since_s > self._setting.times.stalled_s:
            transport.abort()

    # --- from the state machine ---

    def request(self, stream: Stream, *, ended: bool) -> None:
        """Make a call of a request."""
        head = stream.head
        call_head: CallHead | None = head.read_as
        if call_head is None:
            if not is_grpc(head):
                self._begin_web(stream, ended=ended)
                return
            call_head = read(head, self._setting.grpc.methods, self.certificate_name)
            head.read_as = call_head
        self._begin_call(stream, call_head, ended=ended)

    def _begin_web(self, stream: Stream, *, ended: bool) -> None:
        setting = self._setting
        call = H2WebCall(self, stream, setting.web, setting.web_failed, setting.grpc.budget)
        stream.call = call
        call.begin(ended=ended)

    def _begin_call(self, stream: Stream, head: CallHead, *, ended: bool) -> None:
        service = self._setting.grpc
        kind = RefusedCall if head.method is None else KINDS[head.method.kind]
        call: GrpcCall = kind(self, service, stream, head)
        stream.call = call
        if head.refusal is not None:
            call.refuse(head.refusal)
        elif ended:
            call.body(b"", ended=True)

    def body(self, stream: Stream, data: bytes, *, ended: bool) -> None:
        """Pass a piece of a request on."""
        stream.call.body(data, ended=ended)

    def reset(self, stream: Stream, code: int) -> None:
        """Tell the call."""
        if stream.call is not None:
            stream.call.reset(code)

    def drained(self, stream: Stream) -> None:
        """Tell the call."""
        if stream.call is not None:
            stream.call.drained()

    def pong(self, payload: bytes) -> None:
        """All streams that the client began before our first GOAWAY have arrived by now."""
        if payload == LEAVING_PING and self._leaving:
            self.connection.leave()
            self.wrote()

    def broken(self, code: ErrorCode, reason: str) -> None:
        """Send the GOAWAY and close."""
        if code is not ErrorCode.NO_ERROR and not self._counted:
            self._connections.broken(code)
        if self._transport is not None:
            self._transport.write(self.connection.take())
            self._transport.close()

    # --- writing ---

    def wrote(self) -> None:
        """Send soon: all that this turn of the loop produces goes into one write."""
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        transport, connection = self._transport, self.connection
        if transport is None or transport.is_closing():
            connection.take()
            return
        out = connection.take()
        if out:
            transport.write(out)
        if connection.sender.can_pump:
            connection.pump()
            self.wrote()  # in the next turn of the loop: the others have theirs in between
        self._connections.holds(self, connection.sender.held_bytes)
        sent = not connection.streams and not connection.sender.out_bytes
        if self._leaving and sent and not connection.dead:
            self._close_when_left()
        elif transport.get_write_buffer_size() > CONTROL_BYTES:
            self._pause_reading()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        transport = self._transport
        if not self._reading and transport is not None and not transport.is_closing():
            self._reading = True
            transport.resume_reading()

    def _close_when_left(self) -> None:
        """Close once the client knows that we leave and nothing is left to serve."""
        if self.connection.refusing and self._transport is not None:
            self._transport.close()

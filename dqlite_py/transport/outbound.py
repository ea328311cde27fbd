"""The outbound half of one peer: a connection kept up, messages and calls sent over it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from urllib.parse import urlsplit

from dqlite_py.errors import DqliteError, PeerUnreachable, RequestTooLarge, TooManyRequests
from dqlite_py.raft.messages import Message
from dqlite_py.seams import Clock, Network, Random, Stream
from dqlite_py.transport.calls import CallTable, PendingCall
from dqlite_py.transport.codec import decode_error, decode_message, encode_message
from dqlite_py.transport.contract import PeerHandler, TransportCounters, TransportLimits
from dqlite_py.transport.framing import FrameError, FrameKind, decode_body, encode_frame, read_body
from dqlite_py.transport.handshake import Epoch, Handshaker
from dqlite_py.transport.sending import SendQueue

_CALL_OVERHEAD_BYTES = 64  # array, kind, call id and lengths around method and payload
_PING_FRAME = encode_frame([FrameKind.PING.value])


def address_of(url: str) -> str:
    """Return the network's address of a peer URL; a bare ``host:port`` is one already.

    ``https`` stays in front, so that whoever dials can not forget it.
    """
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return f"https://{parts.netloc}" if parts.scheme == "https" else parts.netloc


class OutboundPeer:
    """One peer as seen by its sender.

    Args:
        member_id: the peer.
        addresses: as the network takes them, tried in turn.
        incarnation: names this process life in every handshake.
    """

    def __init__(
        self,
        member_id: int,
        addresses: Sequence[str],
        *,
        network: Network,
        handshaker: Handshaker,
        incarnation: bytes,
        clock: Clock,
        random: Random,
        limits: TransportLimits,
        counters: TransportCounters,
        handler: PeerHandler,
    ) -> None:
        self.member_id = member_id
        self._addresses = tuple(addresses)
        self._network = network
        self._handshaker = handshaker
        self._incarnation = incarnation
        self._clock = clock
        self._random = random
        self._limits = limits
        self._counters = counters
        self._handler = handler
        self._calls = CallTable(clock, limits.calls_in_flight, limits.call_timer_s)
        self._queue = SendQueue(limits, counters)
        self._held_calls: list[tuple[PendingCall, bytes]] = []
        self._held_call_bytes = 0
        self._attempt = 0
        self._address = ""
        self._dialing = False
        self._stream: Stream | None = None
        self._silent_pings = 0
        self._told_reason = ""
        self._telling_unreachable = False
        self._hurry = asyncio.Event()

    # --- for the owner ------------------------------------------------------------------------
    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._stream is not None

    def set_addresses(self, addresses: Sequence[str]) -> None:
        """Replace the addresses; a connection to one that is gone is closed and made anew."""
        if self._addresses == tuple(addresses):
            return
        self._addresses = tuple(addresses)
        if self._stream is not None and self._address not in self._addresses:
            self._stream.close()
        self.hurry()

    def hurry(self) -> None:
        """Dial at once if waiting to: there is reason to think that the peer is up."""
        self._hurry.set()

    def send(self, message: Message) -> None:
        """Queue a message, or drop it and tell the handler soon; never blocks."""
        if self._stream is not None or self._dialing:
            frame = encode_message(message)
            if len(frame) > self._limits.frame_bytes:
                self._handler.on_error(RequestTooLarge())
            elif self._queue.put(frame):
                self._counters.messages_sent += 1
                return
        self._counters.messages_dropped += 1
        self._tell_unreachable()

    def open_call(self, method: str, payload: bytes, timeout_s: float) -> PendingCall:
        """Send a call, or hold it while the connection is being made; see PeerTransport.call."""
        if self._stream is None and not self._dialing:
            raise PeerUnreachable
        if len(payload) + len(method) * 4 + _CALL_OVERHEAD_BYTES > self._limits.frame_bytes:
            raise RequestTooLarge
        call = self._calls.open(timeout_s)
        frame = encode_frame([1, call.call_id, method, payload])  # FrameKind.CALL
        if self._stream is not None:
            accepted = call.sent = self._queue.put(frame)
        else:
            accepted = self._held_call_bytes + len(frame) <= self._limits.send_queue_bytes
            if accepted:
                self._held_calls.append((call, frame))
                self._held_call_bytes += len(frame)
        if not accepted:
            self._calls.forget(call)
            raise TooManyRequests
        self._counters.calls_sent += 1
        return call

    def forget(self, call: PendingCall) -> None:
        """Drop a call nobody waits for any more."""
        self._calls.forget(call)

    async def run(self) -> None:
        """Keep the connection up until cancelled; then fail what is under way."""
        backoff_s = self._limits.backoff_first_s
        try:
            while True:
                dialled_s = self._clock.now_s()
                await self._connect_once()
                # A connection that breaks at once, again and again, is no reason to hurry.
                if self._clock.now_s() - dialled_s > self._limits.backoff_longest_s:
                    backoff_s = self._limits.backoff_first_s
                await self._pause(backoff_s)
                backoff_s = min(backoff_s * 2, self._limits.backoff_longest_s)
        finally:
            self._drop_everything()

    # --- one connection -----------------------------------------------------------------------
    async def _connect_once(self) -> None:
        """Dial and serve one connection to its end."""
        self._dialing = True
        self._hurry.clear()
        reason = "stopped"
        stream: Stream | None = None
        try:
            stream = await self._dial()
            self._stand(stream)
            await self._receive(stream)
        except (OSError, DqliteError) as error:
            reason = str(error) or "timed out"  # asyncio's TimeoutError has no text
        finally:
            if stream is not None:
                stream.close()
            self._drop_everything()
        self._tell_disconnected(reason)

    async def _dial(self) -> Stream:
        self._attempt += 1
        if not self._addresses:
            raise ConnectionError("no peer URL is known")
        self._address = self._addresses[self._attempt % len(self._addresses)]
        async with asyncio.timeout(self._limits.connect_timeout_s):
            stream = await self._network.connect(self._address)
        try:
            async with asyncio.timeout(self._limits.handshake_timeout_s):
                epoch = Epoch(self._incarnation, self._attempt)
                await self._handshaker.greet(stream, self.member_id, epoch)
        except BaseException:
            stream.close()
            raise
        return stream

    def _stand(self, stream: Stream) -> None:
        """The connection stands: release what was held for it."""
        self._dialing = False
        self._stream = stream
        self._silent_pings = 0
        self._told_reason = ""
        self._queue.attach(stream)
        held, self._held_calls, self._held_call_bytes = self._held_calls, [], 0
        for call, frame in held:
            if not call.future.done():
                call.sent = self._queue.put(frame)
                if not call.sent:
                    self._calls.fail(call.call_id, TooManyRequests())
        self._handler.on_connected(self.member_id)

    async def _receive(self, stream: Stream) -> None:
        """Settle calls with the answers that arrive; raise when the connection ends."""
        limit_bytes = self._limits.frame_bytes
        pinger = asyncio.get_running_loop().call_later(self._limits.ping_interval_s, self._ping)
        self._pinger = pinger
        try:
            while True:
                content = decode_body(await read_body(stream, limit_bytes))
                self._silent_pings = 0
                match content:
                    case [FrameKind.REPLY, int(call_id), bytes(payload)]:
                        self._calls.answer(call_id, payload)
                    case [FrameKind.FAILURE, int(call_id), error]:
                        self._calls.fail(call_id, decode_error(error))
                    case [FrameKind.PONG]:
                        pass
                    case [FrameKind.MESSAGE, *_]:
                        self._deliver(decode_message(content))
                    case _:
                        self._counters.frames_malformed += 1
                        raise FrameError(f"an unexpected frame: {str(content)[:80]}")
        finally:
            self._pinger.cancel()

    def _deliver(self, message: Message) -> None:
        """Take a message that came back: its sender does not know us as a peer yet."""
        if message.from_ != self.member_id:
            raise FrameError(f"a message from {message.from_:x} to {message.to:x}")
        try:
            self._handler.on_message(message)
        except Exception as error:  # the owner decides; the connection is not to blame
            self._handler.on_error(error)

    def _ping(self) -> None:
        """Ping the peer, or give the connection up after too many pings without a sound.

        Rounds are counted instead of seconds, so that a process that was stopped for a while
        first reads what has arrived meanwhile.
        """
        stream = self._stream
        if stream is None:
            return
        self._silent_pings += 1
        if self._silent_pings > math.ceil(
            self._limits.idle_timeout_s / self._limits.ping_interval_s
        ):
            stream.close()
            return
        self._queue.put(_PING_FRAME)
        self._pinger = asyncio.get_running_loop().call_later(
            self._limits.ping_interval_s, self._ping
        )

    # --- between connections ------------------------------------------------------------------
    def _drop_everything(self) -> None:
        self._stream = None
        self._dialing = False
        dropped = self._queue.detach()
        self._counters.messages_dropped += dropped
        self._held_calls = []
        self._held_call_bytes = 0
        self._calls.connection_gone()

    async def _pause(self, backoff_s: float) -> None:
        wait_s = backoff_s * (0.5 + self._random.random() / 2)
        try:
            async with asyncio.timeout(wait_s):
                await self._hurry.wait()
        except TimeoutError:
            return

    def _tell_disconnected(self, reason: str) -> None:
        self._tell_unreachable()
        if reason != self._told_reason:
            self._told_reason = reason
            self._handler.on_disconnected(self.member_id, reason)

    def _tell_unreachable(self) -> None:
        """Tell the handler soon, once for a burst: the caller of ``send`` may be inside Raft."""
        if not self._telling_unreachable:
            self._telling_unreachable = True
            asyncio.get_running_loop().call_soon(self._unreachable)

    def _unreachable(self) -> None:
        self._telling_unreachable = False
        self._handler.on_unreachable(self.member_id)

"""The server's side of one HTTP/2 connection, without I/O and without a clock (RFC 9113).

Bytes go in through `receive`, with the time; what they mean is told to a `Receiver`, and bytes to
send are fetched with `take`. A peer that breaks the rules gets RST_STREAM or GOAWAY, and nothing
is ever raised for what a peer does.
"""

from __future__ import annotations

from typing import Protocol

from dqlite_py.http.h2 import frames, settings
from dqlite_py.http.h2.errors import ConnectionBroken, ErrorCode, StreamBroken
from dqlite_py.http.h2.framer import Framer
from dqlite_py.http.h2.guard import Guard, PingPolicy
from dqlite_py.http.h2.header_decoder import HeaderBlockError, HeaderDecoder, HeaderListTooLarge
from dqlite_py.http.h2.header_encoder import HeaderEncoder
from dqlite_py.http.h2.large_heads import SMALL_HEAD_BYTES, LargeHeads
from dqlite_py.http.h2.past_streams import PastStreams
from dqlite_py.http.h2.request_head import Fields, HeadReader, Malformed
from dqlite_py.http.h2.sender import Sender
from dqlite_py.http.h2.settings import H2Limits
from dqlite_py.http.h2.stream import Stream

MAX_REASON_BYTES = 200
BOMB_TIMES = 4  # as many times what was announced, a header list is an attack and no mistake
MOST_FRAME_BYTES = 16_384  # larger ones would let one stream hold up the others


class Receiver(Protocol):
    """Who is told what a peer asks for. None of these may raise."""

    def request(self, stream: Stream, *, ended: bool) -> None:
        """A request began; its fields are in ``stream.head``."""

    def body(self, stream: Stream, data: bytes, *, ended: bool) -> None:
        """A piece of a request's body came. Give its bytes back with `Connection.consumed`."""

    def reset(self, stream: Stream, code: int) -> None:
        """The stream is gone: the peer, or the rules, reset it."""

    def drained(self, stream: Stream) -> None:
        """Something that was queued for the stream has been sent."""

    def pong(self, payload: bytes) -> None:
        """The peer acknowledged a PING."""

    def broken(self, code: ErrorCode, reason: str) -> None:
        """The connection is over: send what `take` returns, and close."""


class Connection:
    """The state of one connection. Not to be used after `Receiver.broken` but for `take`."""

    def __init__(self, limits: H2Limits, receiver: Receiver) -> None:
        self._limits = limits
        self._receiver = receiver
        self._decoder = HeaderDecoder(max_list_bytes=limits.header_list_bytes)
        self.encoder = HeaderEncoder()
        self._heads = HeadReader()
        self._large_heads = LargeHeads(limits.large_heads_bytes)
        self._idle_frames = Guard(limits.idle_frames, "frames that carry nothing")
        self._resets = Guard(limits.resets, "reset streams")
        self._settings_frames = Guard(limits.settings_frames, "SETTINGS frames")
        self._pings = PingPolicy(
            limits.ping_interval_s, limits.ping_interval_without_streams_s, limits.ping_strikes
        )
        self.sender = Sender(limits.output_bytes, self._idle_frames, self._pings)
        self.streams: dict[int, Stream] = {}
        self.last_stream_id = 0
        self._refuse_after: int | None = None  # streams above it are refused: we are leaving
        self._past = PastStreams()
        self.framer = Framer(limits, self)
        self.dead = False
        self._window = max(limits.connection_window_bytes, frames.DEFAULT_WINDOW_BYTES)
        self._owed_bytes = 0
        self._now_s = 0.0
        self.sender.control(limits.announced())

    # --- what the owner calls ---

    def receive(self, data: bytes, now_s: float) -> None:
        """Take bytes from the peer, as they came; ``now_s`` is any steady clock."""
        if self.dead:
            return
        self._now_s = now_s
        try:
            self.framer.feed(data)
        except ConnectionBroken as broken:
            self.fail(broken.code, broken.reason)

    def take(self) -> bytes:
        """Return the bytes to send now, and forget them."""
        return self.sender.take()

    @property
    def settled(self) -> bool:
        """Whether the peer has shown that it speaks HTTP/2."""
        return self.framer.settled

    @property
    def mid_frame(self) -> bool:
        """Whether the peer owes the rest of a frame or header block."""
        return self.framer.mid_frame

    @property
    def refusing(self) -> bool:
        """Whether new streams are refused: `leave` was called."""
        return self._refuse_after is not None

    def consumed(self, stream: Stream, size_bytes: int) -> None:
        """Give back to the peer what the owner has taken of a stream's body."""
        if stream.ended_there or stream.id not in self.streams:
            return
        stream.owed_bytes += size_bytes
        if stream.owed_bytes * 2 >= self._limits.stream_window_bytes:
            stream.receive_window += stream.owed_bytes
            self.sender.control(frames.window_update(stream.id, stream.owed_bytes))
            stream.owed_bytes = 0

    def headers(self, stream: Stream, block: bytes, *, end: bool) -> None:
        """Send response fields, encoded by `encoder`; ``end`` makes them the last."""
        self.sender.headers(stream, block, end=end)
        if end:
            self._ended_here(stream)

    def data(self, stream: Stream, payload: bytes, *, end: bool) -> None:
        """Send a piece of the response's body."""
        self.sender.data(stream, payload, end=end)
        if end:
            self._ended_here(stream)

    def respond(self, stream: Stream, head: bytes, payload: bytes, trailers: bytes) -> None:
        """Send a whole response."""
        self.sender.whole(stream, head, payload, trailers)
        self._ended_here(stream)

    def reset_stream(self, stream: Stream, code: ErrorCode) -> None:
        """Break off a stream; the receiver is not told."""
        if stream.id not in self.streams:
            return
        self.sender.forget(stream)
        self.streams.pop(stream.id, None)
        self._past.reset(stream.id)
        self.sender.control(frames.rst_stream(stream.id, code))

    def pump(self) -> None:
        """Send queued data that windows and room admit now."""
        for stream in self.sender.pump().values():
            if not stream.queue:
                self._leave(stream)
            self._receiver.drained(stream)

    def ping(self, payload: bytes) -> None:
        """Ask for a sign of life; ``payload`` has eight bytes."""
        self.sender.control(frames.ping(payload, acknowledges=False))

    def announce_leaving(self) -> None:
        """Tell the peer to begin no new streams, while those on their way are still served."""
        if self.refusing:
            return
        self.sender.control(frames.goaway(frames.STREAM_ID_MASK, ErrorCode.NO_ERROR, b""))

    def leave(self) -> None:
        """Serve the streams that exist, and refuse what comes after them; only once."""
        if self.refusing:
            return  # the number in a GOAWAY must not grow (RFC 9113 section 6.8)
        self._refuse_after = self.last_stream_id
        self.sender.control(frames.goaway(self.last_stream_id, ErrorCode.NO_ERROR, b""))

    def fail(self, code: ErrorCode, reason: str) -> None:
        """End the connection at once: GOAWAY, every stream reset, the receiver told."""
        if self.dead:
            return
        self.dead = True
        text = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES]
        last = self.last_stream_id if self._refuse_after is None else self._refuse_after
        self.sender.control(frames.goaway(last, code, text))
        for stream in list(self.streams.values()):
            self.sender.forget(stream)
            self._receiver.reset(stream, code)
        self.streams.clear()
        self._receiver.broken(code, reason)

    # --- what the framer calls ---

    def on_data(self, stream_id: int, data: bytes, *, counted: int, ended: bool) -> None:
        """Check a piece of a body against windows and content-length, and pass it on."""
        self._window -= counted
        if self._window < 0:
            raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "more data than the window")
        self._give_back(counted)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._absent(stream_id, "DATA")
            return
        if stream.ended_there:
            raise StreamBroken(stream_id, ErrorCode.STREAM_CLOSED, "DATA after END_STREAM")
        stream.receive_window -= counted
        if stream.receive_window < 0:
            raise StreamBroken(stream_id, ErrorCode.FLOW_CONTROL_ERROR, "more than the window")
        if counted > len(data):
            self.consumed(stream, counted - len(data))
        if not data and not ended:
            self._idle_frames.charge(self._now_s)
            return
        stream.received_bytes += len(data)
        stream.check_length(ended=ended)
        if ended:
            self._ended_there(stream)
        self._receiver.body(stream, data, ended=ended)

    def on_fields(
        self, stream_id: int, block: bytes, *, depends_on: int | None, ended: bool
    ) -> None:
        """Begin a stream, or take its trailers.

        The block is decoded first, whatever it is for: the table of fields is the connection's.
        """
        fields: Fields | None = None
        try:
            fields = self._decoder.decode(block)
        except HeaderListTooLarge as error:
            # A little too much is told to the peer below, once the stream's state is known.
            if error.size_bytes > BOMB_TIMES * error.most_bytes:
                raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "a header bomb") from None
        except HeaderBlockError as error:
            raise ConnectionBroken(ErrorCode.COMPRESSION_ERROR, str(error)) from None
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id <= self.last_stream_id:
                self._absent(stream_id, "HEADERS")
                return
            self._past.opened(stream_id, self.last_stream_id)
            self.last_stream_id = stream_id
        if fields is None:
            raise StreamBroken(stream_id, ErrorCode.ENHANCE_YOUR_CALM, "too many header fields")
        if depends_on == stream_id:
            raise StreamBroken(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")
        if stream is None:
            self._open(stream_id, fields, ended=ended)
        else:
            self._trailers(stream, fields, ended=ended)

    def on_priority(self, stream_id: int, depends_on: int) -> None:
        """Check and ignore."""
        self._idle_frames.charge(self._now_s)
        if depends_on == stream_id:
            raise StreamBroken(stream_id, ErrorCode.PROTOCOL_ERROR, "a stream depends on itself")

    def on_reset(self, stream_id: int, code: int) -> None:
        """End a stream for both sides."""
        if stream_id > self.last_stream_id or not stream_id & 1:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "RST_STREAM of an idle stream")
        crossed = self._past.was_reset(stream_id)  # as clients do whose streams we end early
        (self._idle_frames if crossed else self._resets).charge(self._now_s)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.sender.forget(stream)
            self.streams.pop(stream.id, None)
            self._receiver.reset(stream, code)

    def on_settings(self, payload: bytes) -> None:
        """Take over the peer's parameters and acknowledge them."""
        self._settings_frames.charge(self._now_s)
        window_bytes = self.sender.initial_window
        for identifier, value in settings.parse(payload):
            if identifier == settings.INITIAL_WINDOW_SIZE:
                window_bytes = value  # one frame can name 2,730, and each costs every stream a step
            elif identifier == settings.MAX_FRAME_SIZE:
                self.sender.frame_bytes = min(value, MOST_FRAME_BYTES)
            elif identifier == settings.HEADER_TABLE_SIZE:
                self.encoder.peer_table_size(value)
        self.sender.resize_windows(window_bytes, self.streams.values())
        self.sender.control(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self.pump()

    def on_ping(self, payload: bytes, *, acknowledges: bool) -> None:
        """Answer at once; pings that come too often end the connection."""
        self._idle_frames.charge(self._now_s)
        if acknowledges:
            self._receiver.pong(payload)
            return
        self._pings.pinged(self._now_s, streams=bool(self.streams))
        self.sender.control(frames.ping(payload, acknowledges=True))

    def on_goaway(self, code: int) -> None:
        """The client leaves. Its streams are still served; it closes when they have ended."""
        self._idle_frames.charge(self._now_s)

    def on_window_update(self, stream_id: int, increment: int) -> None:
        """Send what the wider window admits."""
        self._idle_frames.charge(self._now_s)
        if not stream_id:
            self.sender.widen(None, increment)
        else:
            stream = self.streams.get(stream_id)
            if stream is None:
                if stream_id > self.last_stream_id or not stream_id & 1:
                    raise ConnectionBroken(
                        ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of an idle stream"
                    )
                return  # the stream has ended meanwhile
            self.sender.widen(stream, increment)
        self.pump()

    def on_nothing(self) -> None:
        """Ignore, within limits."""
        self._idle_frames.charge(self._now_s)

    def on_broken_stream(self, broken: StreamBroken) -> None:
        """Reset the stream at fault; doing so often is an attack like resetting is.

        A stream that never began can not be reset (RFC 9113 section 6.4), and none is twice.
        """
        if broken.stream_id > self.last_stream_id or not broken.stream_id & 1:
            raise ConnectionBroken(broken.code, f"on an idle stream: {broken.reason}")
        self._resets.charge(self._now_s)
        if self._past.was_reset(broken.stream_id):
            return
        stream = self.streams.get(broken.stream_id)
        if stream is not None:
            self.sender.forget(stream)
            self.streams.pop(stream.id, None)
            self._receiver.reset(stream, broken.code)
        self._past.reset(broken.stream_id)
        self.sender.control(frames.rst_stream(broken.stream_id, broken.code))

    # --- streams ---

    def _open(self, stream_id: int, fields: Fields, *, ended: bool) -> None:
        if self._refuse_after is not None and stream_id > self._refuse_after:
            raise StreamBroken(stream_id, ErrorCode.REFUSED_STREAM, "the server is leaving")
        if len(self.streams) >= self._limits.max_concurrent_streams:
            raise StreamBroken(stream_id, ErrorCode.REFUSED_STREAM, "too many streams")
        try:
            head = self._heads.read(fields)
        except Malformed as error:
            raise StreamBroken(stream_id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        if head.size_bytes > SMALL_HEAD_BYTES:
            self._large_heads.admit(stream_id, head.size_bytes, self.streams)
        stream = Stream(
            stream_id, head, self._limits.stream_window_bytes, self.sender.initial_window
        )
        if ended:
            stream.check_length(ended=True)
            stream.ended_there = True
        self.streams[stream_id] = stream
        self._receiver.request(stream, ended=ended)

    def _trailers(self, stream: Stream, fields: Fields, *, ended: bool) -> None:
        if stream.ended_there:
            raise StreamBroken(stream.id, ErrorCode.STREAM_CLOSED, "HEADERS after END_STREAM")
        if not ended:
            raise StreamBroken(stream.id, ErrorCode.PROTOCOL_ERROR, "trailers that end nothing")
        try:
            self._heads.check_trailers(fields)
        except Malformed as error:
            raise StreamBroken(stream.id, ErrorCode.PROTOCOL_ERROR, str(error)) from None
        stream.check_length(ended=True)
        self._ended_there(stream)
        self._receiver.body(stream, b"", ended=True)

    def _absent(self, stream_id: int, what: str) -> None:
        """Judge a frame on a stream that is not open: idle, ended, or reset by us."""
        if stream_id > self.last_stream_id or not stream_id & 1:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, f"{what} on an idle stream")
        if what == "HEADERS" and self._past.passed_over(stream_id):
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a stream out of turn")
        if self._past.was_reset(stream_id):
            self._idle_frames.charge(self._now_s)  # it crossed our RST_STREAM
            return
        raise ConnectionBroken(ErrorCode.STREAM_CLOSED, f"{what} on a closed stream")

    def _ended_there(self, stream: Stream) -> None:
        stream.ended_there = True
        if stream.ended_here and not stream.queue:
            self.streams.pop(stream.id, None)

    def _ended_here(self, stream: Stream) -> None:
        stream.ended_here = True
        if not stream.queue:
            self._leave(stream)

    def _leave(self, stream: Stream) -> None:
        """Let go of a stream whose response is sent; a client still sending is told to stop."""
        if not stream.ended_here or self.streams.pop(stream.id, None) is None:
            return
        if not stream.ended_there:
            self._past.reset(stream.id)
            self.sender.control(frames.rst_stream(stream.id, ErrorCode.NO_ERROR))

    def _give_back(self, counted: int) -> None:
        """Open the connection's window again: what is kept is limited by stream, not here."""
        self._owed_bytes += counted
        if self._owed_bytes * 2 >= self._limits.connection_window_bytes:
            self._window += self._owed_bytes
            self.sender.control(frames.window_update(0, self._owed_bytes))
            self._owed_bytes = 0

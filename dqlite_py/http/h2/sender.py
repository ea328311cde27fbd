"""What goes out: windows, the largest frame, and a fair turn for every stream.

Data leaves in frames of at most the peer's size, one frame a stream in turn, as long as the
peer's windows and our room for encoded frames allow it; the rest waits as the objects that the
caller gave. Frames of one stream keep their order (RFC 9113 sections 5.2 and 6.9).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from dqlite_py.http.h2 import frames
from dqlite_py.http.h2.errors import ConnectionBroken, ErrorCode, StreamBroken
from dqlite_py.http.h2.guard import Guard, PingPolicy
from dqlite_py.http.h2.stream import Piece, Stream

REFUND_PER_FRAME = 2  # window updates that a DATA frame of ours may cause


class Sender:
    """The sending half of a connection. ``room`` is false while the transport is full."""

    __slots__ = (
        "_idle_frames",
        "_out",
        "_output_bytes",
        "_pings",
        "_round",
        "frame_bytes",
        "held_bytes",
        "initial_window",
        "out_bytes",
        "room",
        "window",
    )

    def __init__(self, output_bytes: int, idle_frames: Guard, pings: PingPolicy) -> None:
        self._output_bytes = output_bytes
        self._idle_frames = idle_frames
        self._pings = pings
        self._out: list[bytes] = []
        self.out_bytes = 0
        self.held_bytes = 0  # in memory for what is queued; a piece counts whole until its end
        self._round: OrderedDict[Stream, None] = OrderedDict()  # in the order of their turns
        self.window = frames.DEFAULT_WINDOW_BYTES
        self.initial_window = frames.DEFAULT_WINDOW_BYTES
        self.frame_bytes = frames.DEFAULT_FRAME_BYTES
        self.room = True

    def control(self, encoded: bytes) -> None:
        """Append a whole frame that no window limits."""
        self._out.append(encoded)
        self.out_bytes += len(encoded)

    def take(self) -> bytes:
        """Return all encoded frames and forget them."""
        out = self._out
        if not out:
            return b""
        joined = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        self.out_bytes = 0
        return joined

    def headers(self, stream: Stream, block: bytes, *, end: bool) -> None:
        """Send a header block after everything that the stream has queued."""
        if stream.queue:
            stream.queue.append(Piece(block, end=end, block=True))
            self.held_bytes += len(block)
        else:
            self._emit_block(stream, block, end=end)

    def data(self, stream: Stream, payload: bytes, *, end: bool) -> None:
        """Send body bytes, or queue what windows and room do not admit now."""
        length = len(payload)
        if not length:
            self._empty(stream, end=end)
            return
        if (
            not stream.queue
            and self.room
            and length <= stream.send_window
            and length <= self.window
            and length <= self.frame_bytes
            and self.out_bytes < self._output_bytes
        ):
            self._emit_data(stream, payload, end=end)
            return
        stream.queue.append(Piece(payload, end=end, block=False))
        stream.queued_bytes += length
        self.held_bytes += length
        self._schedule(stream)

    def whole(self, stream: Stream, head: bytes, payload: bytes, trailers: bytes) -> None:
        """Send a whole response: header block, body, block of trailers."""
        length = len(payload)
        if (
            not stream.queue
            and self.room
            and length <= stream.send_window
            and length <= self.window
            and length <= self.frame_bytes
            and self.out_bytes < self._output_bytes
        ):
            pack, stream_id = frames.HEAD.pack, stream.id
            self._out += (
                pack(0, len(head), frames.HEADERS, frames.END_HEADERS, stream_id),
                head,
                pack(length >> 16, length & 0xFFFF, frames.DATA, 0, stream_id),
                payload,
                pack(0, len(trailers), frames.HEADERS, 0x5, stream_id),
                trailers,
            )
            self.out_bytes += 27 + len(head) + length + len(trailers)
            stream.send_window -= length
            self.window -= length
            self._pings.forgiven = True
            self._idle_frames.refund(REFUND_PER_FRAME)
            return
        self.headers(stream, head, end=False)
        self.data(stream, payload, end=False)
        self.headers(stream, trailers, end=True)

    def pump(self) -> dict[int, Stream]:
        """Send what has become possible; return the streams whose queues shrank, by number."""
        served: dict[int, Stream] = {}
        waiting = self._round
        while waiting and self.can_pump:
            stream, _ = waiting.popitem(last=False)
            if self._serve(stream):
                served[stream.id] = stream
            if stream.queue:
                self._schedule(stream)
        return served

    @property
    def can_pump(self) -> bool:
        """Whether some stream has data that windows and room admit."""
        return (
            bool(self._round)
            and self.room
            and self.window > 0
            and self.out_bytes < self._output_bytes
        )

    def forget(self, stream: Stream) -> None:
        """Drop what a stream has queued, and its turn: it was reset."""
        self.held_bytes -= sum(len(piece.data) for piece in stream.queue)
        stream.queue.clear()
        stream.queued_bytes = 0
        self._round.pop(stream, None)

    def widen(self, stream: Stream | None, increment: int) -> None:
        """Take over a WINDOW_UPDATE (RFC 9113 section 6.9.1)."""
        if stream is None:
            self.window += increment
            if self.window > frames.LARGEST_WINDOW_BYTES:
                raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
            return
        stream.send_window += increment
        if stream.send_window > frames.LARGEST_WINDOW_BYTES:
            raise StreamBroken(stream.id, ErrorCode.FLOW_CONTROL_ERROR, "the window is too large")
        if stream.queue:
            self._schedule(stream)

    def resize_windows(self, initial_bytes: int, streams: Iterable[Stream]) -> None:
        """Change every stream's window by the difference (RFC 9113 section 6.9.2)."""
        difference = initial_bytes - self.initial_window
        if not difference:
            return
        self.initial_window = initial_bytes
        for stream in streams:
            if stream.send_window + difference > frames.LARGEST_WINDOW_BYTES:
                raise ConnectionBroken(ErrorCode.FLOW_CONTROL_ERROR, "a window grew too large")
            self.widen(stream, difference)

    def _empty(self, stream: Stream, *, end: bool) -> None:
        """End a body, for which no window is needed (section 6.9.1).

        It waits for one that is negative: the PyPI library h2 calls it overrun otherwise.
        """
        if stream.queue:
            stream.queue[-1].end |= end
        elif stream.send_window < 0:
            stream.queue.append(Piece(b"", end=end, block=False))
        elif end:
            self._emit_data(stream, b"", end=True)

    def _schedule(self, stream: Stream) -> None:
        """Give the stream a turn, unless its own window is shut: `widen` does it then."""
        if stream.send_window > 0:
            self._round.setdefault(stream)

    def _serve(self, stream: Stream) -> bool:
        """Send at most one DATA frame of a stream, and the blocks around it."""
        sent = False
        while stream.queue:
            piece = stream.queue[0]
            if piece.block:
                self.held_bytes -= len(piece.data)
                stream.queue.popleft()
                self._emit_block(stream, piece.data, end=piece.end)
                sent = True
                continue
            left = len(piece.data) - piece.offset
            size = min(left, self.frame_bytes, self.window, stream.send_window)
            if sent or (size <= 0 < left):
                break
            part = piece.data[piece.offset : piece.offset + size]
            piece.offset += size
            stream.queued_bytes -= size
            whole = size == left
            if whole:
                self.held_bytes -= len(piece.data)
                stream.queue.popleft()
            self._emit_data(stream, part, end=whole and piece.end)
            sent = True
        return sent

    def _emit_block(self, stream: Stream, block: bytes, *, end: bool) -> None:
        for encoded in frames.header_frames(block, stream.id, self.frame_bytes, end_stream=end):
            self.control(encoded)
        self._pings.forgiven = True

    def _emit_data(self, stream: Stream, payload: bytes, *, end: bool) -> None:
        length = len(payload)
        self._out.append(
            frames.head(length, frames.DATA, frames.END_STREAM if end else 0, stream.id)
        )
        self._out.append(payload)
        self.out_bytes += frames.HEADER_BYTES + length
        stream.send_window -= length
        self.window -= length
        self._pings.forgiven = True
        self._idle_frames.refund(REFUND_PER_FRAME)

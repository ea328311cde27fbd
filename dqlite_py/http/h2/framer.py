"""From bytes to frames: sizes, padding, the order that RFC 9113 sections 4 and 6 ask for.

What a frame means to streams is the business of its `FrameReceiver`, the connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dqlite_py.http.h2 import frames
from dqlite_py.http.h2.errors import ConnectionBroken, ErrorCode, StreamBroken
from dqlite_py.http.h2.settings import H2Limits


class FrameReceiver(Protocol):
    """Who is told of well-formed frames, in order. They may raise the two errors of `errors`."""

    def on_data(self, stream_id: int, data: bytes, *, counted: int, ended: bool) -> None:
        """DATA without its padding; ``counted`` is what it takes from the windows."""

    def on_fields(
        self, stream_id: int, block: bytes, *, depends_on: int | None, ended: bool
    ) -> None:
        """HEADERS with all its CONTINUATION frames."""

    def on_priority(self, stream_id: int, depends_on: int) -> None:
        """PRIORITY, of which only the form is checked (RFC 9113 section 5.3.2)."""

    def on_reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM."""

    def on_settings(self, payload: bytes) -> None:
        """SETTINGS that the peer announces; those that only acknowledge are not told."""

    def on_ping(self, payload: bytes, *, acknowledges: bool) -> None:
        """PING."""

    def on_goaway(self, code: int) -> None:
        """GOAWAY."""

    def on_window_update(self, stream_id: int, increment: int) -> None:
        """WINDOW_UPDATE; stream 0 is the connection."""

    def on_nothing(self) -> None:
        """A frame that asks for nothing: an acknowledgement, or of an unknown type (5.5)."""

    def on_broken_stream(self, broken: StreamBroken) -> None:
        """One of the above, or a check here, found a stream at fault."""


class _Block:
    """A header block of which CONTINUATION frames are still to come."""

    __slots__ = ("depends_on", "ended", "parts", "size_bytes", "stream_id")

    def __init__(self, stream_id: int, part: bytes, depends_on: int | None, *, ended: bool) -> None:
        self.stream_id = stream_id
        self.parts = [part]
        self.size_bytes = len(part)
        self.depends_on = depends_on
        self.ended = ended


class Framer:
    """Cuts a peer's bytes into frames and checks each by itself."""

    __slots__ = (
        "_begun",
        "_block",
        "_limits",
        "_readers",
        "_receiver",
        "_rest",
        "got_on",
        "settled",
    )

    def __init__(self, limits: H2Limits, receiver: FrameReceiver) -> None:
        self._limits = limits
        self._receiver = receiver
        self._rest = b""
        self._begun = False  # the preface has come
        self._block: _Block | None = None
        self._readers: tuple[Callable[[int, int, bytes], None], ...] = (
            self._data,
            self._headers,
            self._priority,
            self._rst_stream,
            self._settings,
            self._push_promise,
            self._ping,
            self._goaway,
            self._window_update,
            self._continuation,
        )
        self.settled = False  # the peer's first SETTINGS has come
        self.got_on = False  # what was last fed ended a frame, and with it any header block

    @property
    def mid_frame(self) -> bool:
        """Whether the peer owes the rest of a frame or of a header block."""
        return bool(self._rest) or self._block is not None

    def feed(self, data: bytes) -> None:
        """Handle every whole frame; raise ConnectionBroken at the first that breaks the rules."""
        self.got_on = False
        if self._rest:
            data = self._rest + data
            self._rest = b""
        start = 0
        if not self._begun:
            start = self._preface(data)
            if not self._begun:
                self._rest = data
                return
        done = self._frames(data, start)
        self.got_on = done > start and self._block is None
        if done < len(data):
            self._rest = data[done:]

    def _preface(self, data: bytes) -> int:
        known = min(len(data), len(frames.PREFACE))
        if data[:known] != frames.PREFACE[:known]:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "not an HTTP/2 connection preface")
        self._begun = known == len(frames.PREFACE)
        return known

    def _frames(self, data: bytes, start: int) -> int:
        """Handle the whole frames from ``start`` on; return where the first incomplete one is."""
        unpack, size, readers = frames.HEAD.unpack_from, len(data), self._readers
        while size - start >= frames.HEADER_BYTES:
            high, low, kind, flags, stream_id = unpack(data, start)
            length = high << 16 | low
            if length > frames.DEFAULT_FRAME_BYTES:
                raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a frame is too large")
            begin = start + frames.HEADER_BYTES
            end = begin + length
            if end > size:
                break
            start = end
            stream_id &= frames.STREAM_ID_MASK
            if self._block is not None or not self.settled:
                self._check_turn(kind, flags, stream_id)
            try:
                if kind < len(readers):
                    readers[kind](flags, stream_id, data[begin:end])
                else:
                    self._receiver.on_nothing()
            except StreamBroken as broken:
                self._receiver.on_broken_stream(broken)
        return start

    def _check_turn(self, kind: int, flags: int, stream_id: int) -> None:
        if not self.settled:
            if kind != frames.SETTINGS or flags & frames.ACK:
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self.settled = True
        block = self._block
        if block is not None and (kind != frames.CONTINUATION or stream_id != block.stream_id):
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a header block was interrupted")

    def _data(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "DATA on stream 0")
        counted = len(payload)
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        ended = bool(flags & frames.END_STREAM)
        self._receiver.on_data(stream_id, payload, counted=counted, ended=ended)

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "HEADERS on a server's stream")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        depends_on: int | None = None
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without its priority")
            depends_on = _number(payload)
            payload = payload[5:]
        ended = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._receiver.on_fields(stream_id, payload, depends_on=depends_on, ended=ended)
        else:
            self._block = _Block(stream_id, payload, depends_on, ended=ended)
            self._check_block(self._block)

    def _continuation(self, flags: int, _stream_id: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block.parts.append(payload)
        block.size_bytes += len(payload)
        self._check_block(block)
        if flags & frames.END_HEADERS:
            self._block = None
            self._receiver.on_fields(
                block.stream_id,
                b"".join(block.parts),
                depends_on=block.depends_on,
                ended=block.ended,
            )

    def _check_block(self, block: _Block) -> None:
        limits = self._limits
        if len(block.parts) > 1 + limits.max_continuations:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "too many CONTINUATION frames")
        if block.size_bytes > limits.header_block_bytes:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "a header block is too large")

    def _priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise StreamBroken(stream_id, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY of a broken size")
        self._receiver.on_priority(stream_id, _number(payload))

    def _rst_stream(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "RST_STREAM on stream 0")
        if len(payload) != 4:
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a broken size")
        self._receiver.on_reset(stream_id, frames.UINT32.unpack(payload)[0])

    def _settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS ACK with a payload")
            self._receiver.on_nothing()
            return
        self._receiver.on_settings(payload)

    def _push_promise(self, _flags: int, _stream_id: int, _payload: bytes) -> None:
        raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "a client cannot push")

    def _ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "PING of a broken size")
        self._receiver.on_ping(payload, acknowledges=bool(flags & frames.ACK))

    def _goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a broken size")
        self._receiver.on_goaway(frames.UINT32.unpack_from(payload, 4)[0])

    def _window_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a broken size")
        increment = _number(payload)
        if not increment:
            reason = "WINDOW_UPDATE of nothing"
            if not stream_id:
                raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, reason)
            raise StreamBroken(stream_id, ErrorCode.PROTOCOL_ERROR, reason)
        self._receiver.on_window_update(stream_id, increment)


def _number(payload: bytes) -> int:
    """Return the 31-bit number at the beginning of a payload."""
    number: int = frames.UINT32.unpack_from(payload)[0] & frames.STREAM_ID_MASK
    return number


def _unpadded(payload: bytes) -> bytes:
    """Return a payload without its padding (RFC 9113 sections 6.1 and 6.2)."""
    if not payload:
        raise ConnectionBroken(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without a length")
    end = len(payload) - payload[0]
    if end < 1:
        raise ConnectionBroken(ErrorCode.PROTOCOL_ERROR, "padding as long as the frame")
    return payload[1:end]

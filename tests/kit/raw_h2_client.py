"""A raw peer of HTTP/2 on a socket, which sends what it likes and notes how the server ends it."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterable
from types import TracebackType

from tests.kit import raw_h2 as h2
from tests.kit.raw_h2 import Frame

CODES = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT"),
    *("STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR"),
    *("CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)
READ_BYTES = 1 << 16


def code_name(code: int) -> str:
    return CODES[code] if code < len(CODES) else hex(code)


class RawConnection:
    """One connection. ``kept`` are the latest frames; ``ended`` says how it ended, if it did."""

    def __init__(
        self, port: int, *settings: tuple[int, int], preface: bool = True, source: str = "127.0.0.1"
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 5.0, (source, 0))
        self.socket.setblocking(False)
        self.ended: str | None = None
        self.goaway: str | None = None
        self.resets: dict[str, int] = {}
        self.trailers = 0
        self.kept: list[Frame] = []
        self._rest = b""
        if preface:
            self.send(h2.PREFACE + h2.settings(*settings))

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.socket.close()

    @property
    def outcome(self) -> str:
        """What the server has done to this connection so far."""
        if self.goaway is not None:
            return f"GOAWAY {self.goaway}"
        if self.ended is not None:
            return self.ended
        if self.resets:
            code, count = max(self.resets.items(), key=lambda pair: pair[1])
            return f"{count} x RST_STREAM {code}"
        return "served on"

    def send(self, data: bytes, timeout_s: float = 5.0, *, read: bool = True) -> bool:
        """Send all of it, reading meanwhile; return False if that ended or took too long."""
        deadline = time.monotonic() + timeout_s
        left = memoryview(data)
        while left and self.ended is None:
            if read:
                self._read()
            try:
                left = left[self.socket.send(left) :]
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
                select.select([self.socket] if read else [], [self.socket], [], 0.05)
            except OSError:
                self._end("closed")
        return not left and self.ended is None

    def listen(self, seconds: float) -> None:
        """Read until that time has passed or the connection has ended."""
        deadline = time.monotonic() + seconds
        while self.ended is None and (left := deadline - time.monotonic()) > 0:
            select.select([self.socket], [], [], min(left, 0.2))
            self._read()

    def until(self, *kinds: int, timeout_s: float = 5.0) -> Frame | None:
        """Read until a frame of one of these kinds has come; None if there is none."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for frame in self.kept:
                if frame.kind in kinds:
                    return frame
            if self.ended is not None:
                return None
            self.listen(0.05)
        return None

    def _read(self) -> None:
        try:
            while self.ended is None:
                data = self.socket.recv(READ_BYTES)
                if not data:
                    self._end("closed")
                self._take(data)
        except BlockingIOError:
            pass
        except OSError:
            self._end("closed")

    def _end(self, how: str) -> None:
        if self.ended is None:
            self.ended = how

    def _take(self, data: bytes) -> None:
        frames, self._rest = h2.parse(self._rest + data)
        for frame in frames:
            if frame.kind == h2.GOAWAY:
                self.goaway = code_name(frame.code)
            elif frame.kind == h2.RST_STREAM:
                name = code_name(frame.code)
                self.resets[name] = self.resets.get(name, 0) + 1
            elif frame.kind == h2.HEADERS and frame.flags & h2.END_STREAM:
                self.trailers += 1
        self.kept = (self.kept + frames)[-50:]


def close_all(connections: Iterable[RawConnection]) -> None:
    for connection in connections:
        connection.socket.close()

"""What a peer of the connection knows: its windows, its streams, and what it has heard."""

from __future__ import annotations

from collections import defaultdict

import hpack

from tests.kit import raw_h2 as h2
from tests.kit.raw_h2 import Frame

FRAME_BYTES = 16_384
FRAME_HEAD_BYTES = 9


class Windows:
    """What may be sent to the peer, by the frames that the peer has sent.

    A step's frames are all counted before the step's output is looked at, so the widest window
    within the step is what the output is held against.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self.initial = h2.DEFAULT_WINDOW
        self.now: dict[int, int] = {0: h2.DEFAULT_WINDOW}
        self.widest: dict[int, int] = {}
        self.reset: set[int] = set()
        self.settings = 0
        self.pings: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """Count the whole frames in what the peer sent."""
        self.widest = dict(self.now)
        self._rest += data
        if not self._begun:
            if len(self._rest) < len(h2.PREFACE):
                return
            self._begun = True
            self._rest = self._rest[len(h2.PREFACE) :]
        frames, self._rest = h2.parse(self._rest)
        for frame in frames:
            self._count(frame)

    def _count(self, frame: Frame) -> None:
        number = frame.stream_id
        if frame.kind == h2.HEADERS and number not in self.now:
            self._widen(number, self.initial)
        elif frame.kind == h2.RST_STREAM:
            self.reset.add(number)
        elif frame.kind == h2.WINDOW_UPDATE and len(frame.payload) == 4:
            self._widen(number, h2.number(frame.payload) & h2.LARGEST_WINDOW)
        elif frame.kind == h2.SETTINGS and not frame.flags & h2.ACK:
            self.settings += 1
            if len(frame.payload) % 6 == 0:
                sizes = [value for what, value in frame.settings if what == 4]
                for size in sizes:
                    self._resize(size)
        elif frame.kind == h2.PING and not frame.flags & h2.ACK:
            self.pings.append(frame.payload)

    def _widen(self, number: int, step: int) -> None:
        self.now[number] = self.now.get(number, 0) + step
        self.widest[number] = max(self.widest.get(number, 0), self.now[number])

    def _resize(self, size: int) -> None:
        step, self.initial = size - self.initial, size
        for number in self.now:
            if number:
                self._widen(number, step)


class Heard:
    """The frames that the connection sends, each checked against what it may send then."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.bodies: dict[int, bytearray] = defaultdict(bytearray)
        self.fields: dict[int, list[list[tuple[bytes, bytes]]]] = defaultdict(list)
        self.ended: set[int] = set()
        self.reset: set[int] = set()
        self.reset_before: set[int] = set()  # by the peer, before this step
        self.goaways: list[Frame] = []
        self.settings_acks = 0
        self.data_bytes = 0
        self._decoder = hpack.Decoder()
        self._block: tuple[int, bytes] | None = None
        self._rest = b""

    def take(self, data: bytes) -> list[Frame]:
        """Check a step's output, which is whole frames."""
        frames, rest = h2.parse(data)
        assert not rest, "half a frame"
        spent: dict[int, int] = defaultdict(int)
        for frame in frames:
            assert len(frame.payload) <= FRAME_BYTES
            if self._block is not None:
                assert frame.kind == h2.CONTINUATION, "a block was interrupted"
            self._check(frame)
            if frame.kind == h2.DATA:
                spent[0] += len(frame.payload)
                spent[frame.stream_id] += len(frame.payload)
        for number, size in spent.items():
            assert size <= max(0, self.windows.widest[number]), f"window of {number} overrun"
            self.windows.now[number] -= size
        self.reset_before = set(self.windows.reset)
        return frames

    def _check(self, frame: Frame) -> None:
        number = frame.stream_id
        assert not self.goaways or self.goaways[-1].code == 0 or frame.kind == h2.GOAWAY
        if frame.kind in (h2.DATA, h2.HEADERS, h2.CONTINUATION):
            assert number & 1, "a stream that no client opened"
            assert number not in self.ended, "sent after END_STREAM"
            assert number not in self.reset, "sent after our RST_STREAM"
            assert number not in self.reset_before, "sent after the peer's RST_STREAM"
        if frame.kind == h2.DATA:
            assert self.fields[number], "a body before its head"
            self.bodies[number] += frame.payload
            self.data_bytes += len(frame.payload)
            if frame.flags & h2.END_STREAM:
                self.ended.add(number)
        elif frame.kind in (h2.HEADERS, h2.CONTINUATION):
            self._headers(frame)
        elif frame.kind == h2.RST_STREAM:
            assert number not in self.reset, "reset twice"
            self.reset.add(number)
        elif frame.kind == h2.GOAWAY:
            for before in self.goaways:
                assert frame.last_stream_id <= before.last_stream_id
            self.goaways.append(frame)
        elif frame.kind == h2.WINDOW_UPDATE:
            assert h2.number(frame.payload) > 0
            assert number not in self.reset | self.reset_before, "a window for a stream gone"
        elif frame.kind == h2.SETTINGS:
            self.settings_acks += frame.flags & h2.ACK
            assert self.settings_acks <= self.windows.settings
        elif frame.kind == h2.PING and frame.flags & h2.ACK:
            assert frame.payload == self.windows.pings.pop(0)
        else:
            assert frame.kind == h2.PING

    def _headers(self, frame: Frame) -> None:
        number = frame.stream_id
        if frame.kind == h2.HEADERS:
            self._block = (number, frame.payload)
            if frame.flags & h2.END_STREAM:
                self.ended.add(number)
        else:
            assert self._block is not None
            self._block = (number, self._block[1] + frame.payload)
        if frame.flags & h2.END_HEADERS:
            fields = self._decoder.decode(self._block[1], raw=True)
            self.fields[number].append([(name, value) for name, value in fields])
            self._block = None

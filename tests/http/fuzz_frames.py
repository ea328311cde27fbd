"""Frames that a peer might send: mostly right, sometimes wrong; and bytes that are neither."""

from __future__ import annotations

from random import Random

import hpack

from tests.kit import raw_h2 as h2

REGULAR = (
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"grpc-timeout", b"1S"),
    (b"x-long", b"v" * 300),
    (b"cookie", b"a=b"),
    (b"content-length", b"7"),
)
WRONG_FIELDS = (
    (b"connection", b"close"),
    (b"Upper", b"case"),
    (b":late", b"pseudo"),
    (b"te", b"gzip"),
    (b"x-bad", b"a\r\nb"),
    (b"content-length", b"x"),
    (b"", b""),
)
SIZES = (0, 0, 1, 5, 100, 1_000, 16_000, h2.DEFAULT_FRAME)


class FrameMaker:
    """Writes a peer's frames one by one; of each ``wrong_rate`` is against the rules."""

    def __init__(self, draw: Random, wrong_rate: float) -> None:
        self.draw = draw
        self.wrong_rate = wrong_rate
        self.next_id = 1
        self.open: list[int] = []  # streams whose request has not ended
        self.known: list[int] = []
        self.window = h2.DEFAULT_WINDOW
        self._encoder = hpack.Encoder()

    def begin(self) -> bytes:
        """Return preface and SETTINGS."""
        return h2.PREFACE + self._settings()

    def next(self) -> bytes:
        """Return one frame, or a whole header block."""
        if self.draw.random() < self.wrong_rate:
            return self._wrong()
        makers = (
            (self._request, 8),
            (self._data, 8),
            (self._trailers, 1),
            (self._reset, 1),
            (self._settings, 1),
            (self._ping, 1),
            (self._window_update, 5),
            (self._harmless, 1),
        )
        maker = self.draw.choices([one for one, _ in makers], [many for _, many in makers])[0]
        return maker()

    def _request(self) -> bytes:
        draw, number = self.draw, self.next_id
        self.next_id += 2 if draw.random() < 0.95 else 2 * draw.randint(2, 9)
        fields = h2.request_fields(draw.choice((b"/a/B", b"/p/q?r=%d" % draw.randrange(99))))
        fields += draw.sample(REGULAR, draw.randrange(3))
        if draw.random() < self.wrong_rate:
            fields.insert(draw.randrange(len(fields)), draw.choice(WRONG_FIELDS))
        ended = draw.random() < 0.4
        self.known.append(number)
        if not ended:
            self.open.append(number)
        return self._block(number, fields, ended=ended)

    def _block(self, number: int, fields: list[tuple[bytes, bytes]], *, ended: bool) -> bytes:
        draw = self.draw
        block = self._encoder.encode(fields, huffman=draw.random() < 0.5)
        parts = [block]
        while len(parts) < 6 and draw.random() < 0.2:
            at = draw.randrange(len(parts[-1]) + 1)
            parts[-1:] = [parts[-1][:at], parts[-1][at:]]
        flags, payload = 0, parts[0]
        if draw.random() < 0.1:
            flags, payload = h2.WITH_PRIORITY, h2.u32(0) + b"\x10" + payload
        if draw.random() < 0.1:
            flags, payload = flags | h2.PADDED, h2.padded(payload, draw.randrange(256))
        last = len(parts) - 1
        out = h2.headers(number, payload, end_stream=ended, end_headers=not last, flags=flags)
        for at, part in enumerate(parts[1:], 1):
            out += h2.continuation(number, part, end_headers=at == last)
        return out

    def _data(self) -> bytes:
        if not self.open:
            return self._request()
        draw, number = self.draw, self.draw.choice(self.open)
        payload = bytes(draw.choice(SIZES))
        ended = draw.random() < 0.3
        if ended:
            self.open.remove(number)
        if draw.random() < 0.1 and len(payload) < 16_000:
            flags = h2.PADDED | (h2.END_STREAM if ended else 0)
            return h2.frame(h2.DATA, flags, number, h2.padded(payload, draw.randrange(256)))
        return h2.data(number, payload, end_stream=ended)

    def _trailers(self) -> bytes:
        if not self.open:
            return self._request()
        number = self.open.pop(self.draw.randrange(len(self.open)))
        return self._block(number, [(b"x-trailer", b"1")], ended=True)

    def _reset(self) -> bytes:
        number = self._some_known()
        if number in self.open:
            self.open.remove(number)
        return h2.rst_stream(number, self.draw.randrange(14)) if number else self._ping()

    def _settings(self) -> bytes:
        draw = self.draw
        pairs = []
        for _ in range(draw.randrange(4)):
            what = draw.choice((1, 3, 4, 4, 5, 6, 0x99))
            value = draw.choice((0, 1, 100, 16_384, 65_535, 1 << 20))
            if what == h2.MAX_FRAME_SIZE:
                value = draw.choice((16_384, 20_000, 2**24 - 1))
            pairs.append((what, value))
        return h2.settings(*pairs)

    def _ping(self) -> bytes:
        return h2.ping(self.draw.randbytes(8), ack=self.draw.random() < 0.5)

    def _window_update(self) -> bytes:
        draw = self.draw
        number = draw.choice((0, self._some_known()))
        return h2.window_update(number, draw.choice((1, 10, 1_000, 16_384, 65_535, 1 << 20)))

    def _harmless(self) -> bytes:
        draw = self.draw
        number = self._some_known()
        return draw.choice(
            (
                h2.settings(ack=True),
                h2.priority(number or 1, number + 10),
                h2.frame(draw.randrange(10, 256), draw.randrange(256), number, draw.randbytes(9)),
                h2.goaway(number, draw.randrange(14)),
            )
        )

    def _wrong(self) -> bytes:
        draw = self.draw
        number = draw.choice((self._some_known(), self.next_id, self.next_id + 1, 0, 2))
        size = draw.choice((0, 1, 3, 4, 5, 6, 8, 9, 100))
        kind = draw.randrange(11)
        return draw.choice(
            (
                h2.window_update(number, draw.choice((0, h2.LARGEST_WINDOW))),
                h2.settings((draw.randrange(7), draw.choice((2, 2**31, 2**32 - 1)))),
                h2.frame(kind, draw.randrange(256), number, draw.randbytes(size)),
                h2.frame(kind, 0, number, draw.randbytes(size), draw.choice((0, 5, 70_000))),
                h2.headers(number, draw.randbytes(size), end_stream=draw.random() < 0.5),
                h2.continuation(number, b"", end_headers=True),
                h2.data(number, bytes(draw.choice(SIZES)), end_stream=draw.random() < 0.5),
                h2.priority(number, number),
                h2.rst_stream(number),
            )
        )

    def _some_known(self) -> int:
        return self.draw.choice(self.known[-20:]) if self.known else 0


def mutated(draw: Random, data: bytes) -> bytes:
    """Return ``data`` with a few octets or stretches changed."""
    octets = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(octets))
        stretch = octets[at : at + draw.choice((1, 4, 9, 40))]
        kind = draw.randrange(5)
        if kind == 0:
            octets[at] ^= 1 << draw.randrange(8)
        elif kind == 1 and len(octets) > 100:
            del octets[at : at + len(stretch)]
        elif kind == 2:
            octets[at:at] = stretch
        elif kind == 3:
            octets[at:at] = draw.randbytes(draw.choice((1, 3, 9)))
        else:
            octets[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
    return bytes(octets)


def split(draw: Random, data: bytes) -> list[bytes]:
    """Cut ``data`` at random places, sometimes into single octets."""
    pieces, most = [], draw.choice((1, 9, 40, 1_000, 20_000))
    while data:
        size = draw.randint(1, most)
        pieces.append(data[:size])
        data = data[size:]
        if len(pieces) > 400:
            return [*pieces, data] if data else pieces
    return pieces

"""A connection, an owner that answers at random, and what must hold after every step."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from dqlite_py.http.h2.connection import Connection
from dqlite_py.http.h2.errors import ErrorCode
from dqlite_py.http.h2.guard import Rate
from dqlite_py.http.h2.settings import H2Limits
from dqlite_py.http.h2.stream import Stream
from tests.http.fuzz_peer import FRAME_BYTES, FRAME_HEAD_BYTES, Heard, Windows

HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
CONTROL_BYTES = 64 * 1024  # frames of answers to one step's input that no window limits
REMEMBERED = 11_000  # resets, heads or fields: the most that anything may keep


@dataclass
class Answer:
    """What the owner does with one request, and what it knows of it."""

    stream: Stream
    request: bytearray = field(default_factory=bytearray)
    request_ended: bool = False
    unconsumed_bytes: int = 0
    sent: bytearray = field(default_factory=bytearray)
    started: bool = False
    done: bool = False


class Owner:
    """The receiver. Everything that it does comes from ``draw``."""

    def __init__(self, draw: Random, limits: H2Limits, *, faulty: bool) -> None:
        self.draw = draw
        self.limits = limits
        self.faulty = faulty  # it may reset streams and break the connection off by itself
        self.windows = Windows()
        self.heard = Heard(self.windows)
        self.open: dict[int, Answer] = {}
        self.all: dict[int, Answer] = {}
        self.end: ErrorCode | None = None
        self.now_s = 100.0
        self.connection = Connection(limits, self)
        self._silent = False

    # --- the receiver ---

    def request(self, stream: Stream, *, ended: bool) -> None:
        assert self.end is None
        assert stream.id not in self.all, "a stream began twice"
        answer = Answer(stream, request_ended=ended)
        self.open[stream.id] = self.all[stream.id] = answer
        if self.draw.random() < 0.2:
            self.answer(answer)

    def body(self, stream: Stream, data: bytes, *, ended: bool) -> None:
        answer = self.all[stream.id]
        assert answer.stream is stream
        assert not answer.request_ended, "a body after its end"
        answer.request += data
        answer.request_ended = ended
        answer.unconsumed_bytes += len(data)
        assert answer.unconsumed_bytes <= self.limits.stream_window_bytes
        if self.draw.random() < 0.5:
            self.consume(answer)

    def reset(self, stream: Stream, code: int) -> None:
        assert self.open.pop(stream.id).stream is stream, "reset twice"

    def drained(self, stream: Stream) -> None:
        assert self.all[stream.id].stream is stream

    def pong(self, payload: bytes) -> None:
        assert len(payload) == 8
        if self.faulty and self.draw.random() < 0.3:
            self.connection.leave()

    def broken(self, code: ErrorCode, reason: str) -> None:
        assert self.end is None, "broken twice"
        assert reason
        assert all(one.done for one in self.open.values())
        self.end = code

    # --- acts ---

    def act(self) -> None:
        """Do something that an owner may do, or nothing."""
        draw, connection = self.draw, self.connection
        if connection.dead:
            return
        kind = draw.randrange(20)
        if kind < 12 and self.open:
            answer = self.open[draw.choice(list(self.open))]
            draw.choice((self.answer, self.answer, self.consume))(answer)
        elif kind < 14:
            connection.sender.room = draw.random() < 0.7
            if connection.sender.room:
                connection.pump()
        elif kind == 14 and draw.random() < 0.2:
            connection.ping(draw.randbytes(8))
        elif kind == 15 and self.faulty and self.open:
            self._reset(self.open[draw.choice(list(self.open))])
        elif kind == 16 and self.faulty and draw.random() < 0.05:
            draw.choice((connection.announce_leaving, connection.leave))()
        elif kind == 17 and self.faulty and draw.random() < 0.01:
            connection.fail(ErrorCode.NO_ERROR, "closed")

    def consume(self, answer: Answer) -> None:
        """Give back a part of what came."""
        size = self.draw.randint(0, answer.unconsumed_bytes)
        if size and answer.stream.id in self.open:
            answer.unconsumed_bytes -= size
            self.connection.consumed(answer.stream, size)

    def answer(self, answer: Answer) -> None:
        """Send a part of the answer, or all of it."""
        if answer.done:
            return
        draw, connection, stream = self.draw, self.connection, answer.stream
        encode = connection.encoder.encode
        size = draw.choice((0, 1, 5, 100, 3_000, 20_000, 90_000))
        payload = draw.randbytes(1) * size if size > 100 else draw.randbytes(size)
        trailers = ((b"grpc-status", b"%d" % draw.randrange(17)),)
        kind = draw.randrange(4)
        answer.done = kind != 1
        if not answer.started and kind == 0:
            connection.respond(stream, encode(HEAD), payload, encode(trailers))
            answer.sent += payload
        elif not answer.started and kind == 2:
            connection.headers(stream, encode(HEAD + trailers), end=True)
        else:
            if not answer.started:
                connection.headers(stream, encode(HEAD), end=False)
            answer.sent += payload
            connection.data(stream, payload, end=kind == 2)
            if kind in (0, 3):
                connection.headers(stream, encode(trailers), end=True)
        answer.started = True

    def finish(self) -> None:
        """Answer everything."""
        self.connection.sender.room = True
        for answer in list(self.open.values()):
            while not answer.done and answer.stream.id in self.open:
                self.answer(answer)
        self.connection.pump()

    def _reset(self, answer: Answer) -> None:
        if answer.stream.id in self.connection.streams:
            self.connection.reset_stream(answer.stream, ErrorCode.CANCEL)
            del self.open[answer.stream.id]

    # --- steps ---

    def step(self, data: bytes) -> bytes:
        """Let bytes come, do something, send; check everything; return what was sent."""
        self.now_s += self.draw.expovariate(20.0)
        self.windows.feed(data)
        self.connection.receive(data, self.now_s)
        for _ in range(self.draw.randrange(3)):
            self.act()
        sent = self.send()
        self.check()
        return sent

    def send(self) -> bytes:
        """Take what is to be sent, as the protocol does; check it."""
        sender, sent = self.connection.sender, b""
        while True:
            assert sender.out_bytes <= self._most_out_bytes()
            out = self.connection.take()
            if not out:
                break
            assert not self._silent, "a broken connection goes on talking"
            sent += out
            if not sender.can_pump:
                break
            self.connection.pump()
        frames = self.heard.take(sent)
        if self.end is not None and not self._silent:
            self._silent = True
            assert frames
            assert (frames[-1].kind, frames[-1].code) == (7, self.end), "GOAWAY is not the last"
        return sent

    def _most_out_bytes(self) -> int:
        trailers = 100 * (len(self.open) + 8)
        return self.limits.output_bytes + FRAME_BYTES + FRAME_HEAD_BYTES + CONTROL_BYTES + trailers

    # --- what always holds ---

    def check(self) -> None:
        """Check the connection from inside."""
        connection, sender = self.connection, self.connection.sender
        gone = [number for number in self.open if number not in connection.streams]
        for number in gone:
            answer = self.open.pop(number)
            assert answer.done, "a stream went without a word"
        assert set(self.open) == set(connection.streams)
        assert len(connection.streams) <= self.limits.max_concurrent_streams
        held = 0
        for stream in connection.streams.values():
            assert stream.receive_window >= 0
            pieces = [piece for piece in stream.queue if not piece.block]
            assert stream.queued_bytes == sum(len(one.data) - one.offset for one in pieces)
            held += sum(len(piece.data) for piece in stream.queue)
            assert all(piece.offset < len(piece.data) or not piece.offset for piece in pieces)
        assert sender.held_bytes == held
        assert sender.window >= 0
        assert connection.dead or sender.window <= 2**31 - 1
        assert connection.dead or connection._window >= 0
        self._check_memory()

    def _check_memory(self) -> None:
        connection = self.connection
        framer = connection.framer
        assert len(framer._rest) < FRAME_BYTES + FRAME_HEAD_BYTES
        if framer._block is not None:
            assert framer._block.size_bytes <= self.limits.header_block_bytes
        assert len(connection._past._resets) <= REMEMBERED
        assert len(connection._heads._heads) <= REMEMBERED
        assert connection._decoder._table_bytes <= 4096
        assert len(connection.sender._round) <= len(connection.streams)

    def check_bodies(self) -> None:
        """What was heard of an answer is a beginning of what was sent."""
        for number, answer in self.all.items():
            heard = self.heard.bodies.get(number, b"")
            assert answer.sent[: len(heard)] == heard


def random_limits(draw: Random) -> H2Limits:
    """Return limits, often so narrow that they matter."""
    generous = Rate(burst=10**6, per_s=10.0**6)
    narrow = Rate(burst=draw.randint(1, 40), per_s=draw.choice((0.1, 1.0, 100.0)))
    rate = narrow if draw.random() < 0.3 else generous
    return H2Limits(
        max_concurrent_streams=draw.choice((1, 3, 100)),
        stream_window_bytes=draw.choice((65_535, 70_000, 256 * 1024)),
        connection_window_bytes=draw.choice((65_535, 100_000, 1 << 20)),
        header_list_bytes=draw.choice((1_000, 65_536)),
        header_block_bytes=draw.choice((1_000, 65_536)),
        output_bytes=draw.choice((1, 1_000, 128 * 1024)),
        resets=rate,
        idle_frames=rate,
        settings_frames=rate,
        ping_interval_s=draw.choice((0.0, 5.0)),
        ping_interval_without_streams_s=0.0,
    )

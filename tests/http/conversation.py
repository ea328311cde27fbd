"""A peer at the server's end of one connection, frame by frame, without sockets."""

from __future__ import annotations

from dataclasses import dataclass, field

from dqlite_py.http.h2.connection import Connection
from dqlite_py.http.h2.settings import H2Limits
from dqlite_py.http.h2.stream import Stream
from tests.kit import raw_h2 as h2
from tests.kit.raw_h2 import Frame

OK_HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"))
OK_TRAILERS = ((b"grpc-status", b"0"),)


@dataclass
class Recorder:
    """What the connection told its owner."""

    requests: list[Stream] = field(default_factory=list)
    bodies: list[tuple[int, bytes, bool]] = field(default_factory=list)
    resets: list[tuple[int, int]] = field(default_factory=list)
    drains: list[int] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    end: tuple[int, str] | None = None

    def request(self, stream: Stream, *, ended: bool) -> None:
        assert ended == stream.ended_there
        self.requests.append(stream)

    def body(self, stream: Stream, data: bytes, *, ended: bool) -> None:
        self.bodies.append((stream.id, data, ended))

    def reset(self, stream: Stream, code: int) -> None:
        self.resets.append((stream.id, int(code)))

    def drained(self, stream: Stream) -> None:
        self.drains.append(stream.id)

    def pong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def broken(self, code: int, reason: str) -> None:
        self.end = (int(code), reason)


class Conversation:
    """A connection and its peer; ``open`` has exchanged the prefaces."""

    def __init__(self, limits: H2Limits | None = None, *, opened: bool = True) -> None:
        self.seen = Recorder()
        self.limits = limits or H2Limits()
        self.connection = Connection(self.limits, self.seen)
        self._rest = b""
        self.now_s = 1_000.0
        if opened:
            self.first = self.say(h2.PREFACE + h2.settings())

    def say(self, *frames: bytes) -> list[Frame]:
        """Send frames; return what the server sends until it has nothing more to say."""
        self.connection.receive(b"".join(frames), self.now_s)
        return self.hear()

    def hear(self) -> list[Frame]:
        """Return the frames that the server has to send now."""
        found: list[Frame] = []
        while data := self.connection.take():
            frames, self._rest = h2.parse(self._rest + data)
            found += frames
            if not self.connection.dead:
                self.connection.pump()
        assert not self._rest, "half a frame was sent"
        return found

    def stream(self, stream_id: int) -> Stream:
        return self.connection.streams[stream_id]

    def answer(self, stream_id: int, body: bytes = b"answer") -> list[Frame]:
        """Answer a request wholly; return what is sent."""
        encode = self.connection.encoder.encode
        stream = self.stream(stream_id)
        self.connection.respond(stream, encode(OK_HEAD), body, encode(OK_TRAILERS))
        return self.hear()

    def body_of(self, stream_id: int) -> bytes:
        return b"".join(part for number, part, _ in self.seen.bodies if number == stream_id)

    # --- what must have happened ---

    def alive(self) -> None:
        """The connection serves on: it answers a ping and takes a new request."""
        assert self.seen.end is None, self.seen.end
        self.now_s += 60
        heard = self.say(h2.ping(b"are you?"))
        assert h2.Frame(h2.PING, h2.ACK, 0, b"are you?") in heard
        before = len(self.seen.requests)
        fresh = max(self.connection.last_stream_id + 2 | 1, 1001)
        self.say(h2.headers(fresh, end_stream=True))
        assert [stream.id for stream in self.seen.requests[before:]] == [fresh]

    def breaks(self, *frames: bytes, code: int) -> Frame:
        """The frames are a connection error: GOAWAY with the code is the last that is said."""
        heard = self.say(*frames)
        assert heard, "nothing was said"
        assert heard[-1].kind == h2.GOAWAY, heard
        assert heard[-1].code == code, heard[-1]
        assert self.seen.end is not None
        assert self.seen.end[0] == code
        assert self.say(h2.ping()) == [], "a broken connection goes on talking"
        return heard[-1]

    def resets(self, stream_id: int, *frames: bytes, code: int) -> None:
        """The frames are a stream error: RST_STREAM with the code, and the connection lives."""
        heard = [one for one in self.say(*frames) if one.kind in (h2.RST_STREAM, h2.GOAWAY)]
        assert [(one.kind, one.stream_id) for one in heard] == [(h2.RST_STREAM, stream_id)], heard
        assert heard[0].code == code, heard[0]
        assert stream_id not in self.connection.streams
        self.alive()

    def malformed(self, fields: h2.Fields, *, end_stream: bool = True) -> None:
        """A request with these fields is malformed (section 8.1.1); its handler never sees it."""
        before = len(self.seen.requests)
        frame = h2.headers(1, fields, end_stream=end_stream)
        heard = self.say(frame)
        assert [(one.kind, one.stream_id, one.code) for one in heard] == [
            (h2.RST_STREAM, 1, h2.PROTOCOL_ERROR)
        ], heard
        assert len(self.seen.requests) == before
        self.alive()

"""A client port in memory, on virtual time: connections without sockets, calls by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import hpack

from dqlite_py.http.budget import Budget
from dqlite_py.http.client_port import Arriving, ClientPort, PortSetting
from dqlite_py.http.connections import ConnectionLimits
from dqlite_py.http.grpc.methods import Call, Kind, Method
from dqlite_py.http.grpc.service import GrpcLimits, GrpcService
from dqlite_py.http.grpc.status import Code
from dqlite_py.http.h2.settings import H2Limits
from dqlite_py.http.h2_protocol import H2Setting, H2Times
from dqlite_py.http.web import WebRequest, WebResponse
from tests.kit import raw_h2 as h2
from tests.kit.fake_transport import FakeTransport, settle
from tests.kit.loop import run_virtual

LIMITS = GrpcLimits(max_message_bytes=1_000, stream_queue_bytes=2_000, partial_bytes=10_000)
WIDE = h2.settings((h2.INITIAL_WINDOW_SIZE, h2.LARGEST_WINDOW)) + h2.window_update(0, 2**30)
PIECE = 16_384


class PortTransport(FakeTransport):
    """A transport that can be handed to another protocol, as the port does."""

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


@dataclass
class Answer:
    """What a client has of one call."""

    fields: list[dict[str, str]] = field(default_factory=list)  # of each block
    body: bytearray = field(default_factory=bytearray)
    ended: bool = False
    reset: int | None = None

    @property
    def head(self) -> dict[str, str]:
        return self.fields[0]

    @property
    def status(self) -> tuple[int, str]:
        """The status of a call that has ended: code and message as they travel."""
        assert self.ended
        trailers = self.fields[-1]
        return int(trailers["grpc-status"]), trailers.get("grpc-message", "")

    @property
    def trailers_only(self) -> bool:
        return self.ended and len(self.fields) == 1 and not self.body

    @property
    def messages(self) -> list[tuple[int, bytes]]:
        """The whole messages that came, with their flags."""
        found, body, at = [], bytes(self.body), 0
        while len(body) >= at + 5:
            end = at + 5 + h2.number(body[at + 1 : at + 5])
            if end > len(body):
                break
            found.append((body[at], body[at + 5 : end]))
            at = end
        return found


class Peer:
    """A client's end of a connection, which is HTTP/2 once it has said so."""

    def __init__(self, transport: PortTransport) -> None:
        self.transport = transport
        self.answers: dict[int, Answer] = {}
        self.frames: list[h2.Frame] = []  # all that came, without the bodies of DATA
        self._decoder = hpack.Decoder()
        self._next_id = 1
        self._ponged = 0

    async def send(self, *frames: bytes) -> None:
        """Send frames at once and let everything run that can."""
        self.transport.receive(b"".join(frames))
        await settle()
        self.hear()

    async def call(
        self, path: str, body: bytes = b"", *more: tuple[bytes, bytes], end: bool = True
    ) -> Answer:
        """Begin a call and send ``body``; return its answer, which grows."""
        number = self.begin()
        pieces = [body[at : at + PIECE] for at in range(0, len(body), PIECE)]
        fields = h2.request_fields(path.encode(), *more)
        frames = [h2.headers(number, fields, end_stream=end and not pieces)]
        frames += [h2.data(number, piece) for piece in pieces[:-1]]
        frames += [h2.data(number, piece, end_stream=end) for piece in pieces[-1:]]
        await self.send(*frames)
        return self.answers[number]

    def begin(self) -> int:
        """Return the number of a new stream."""
        number, self._next_id = self._next_id, self._next_id + 2
        self.answers[number] = Answer()
        return number

    def number(self, answer: Answer) -> int:
        return next(one for one, known in self.answers.items() if known is answer)

    def hear(self) -> list[h2.Frame]:
        """Take what has come; return the frames."""
        frames, rest = h2.parse(bytes(self.transport.sent))
        self.transport.sent[:] = rest
        for frame in frames:
            self._note(frame)
        self.frames += frames
        return frames

    def of_kind(self, kind: int) -> list[h2.Frame]:
        return [one for one in self.frames if one.kind == kind]

    async def ponged(self) -> None:
        """Answer the pings that came."""
        self.hear()
        asked = [one.payload for one in self.frames if (one.kind, one.flags) == (h2.PING, 0)]
        await self.send(*(h2.ping(payload, ack=True) for payload in asked[self._ponged :]))
        self._ponged = len(asked)

    @property
    def goaways(self) -> list[tuple[int, int, bytes]]:
        """Last stream, code and reason of each."""
        found = self.of_kind(h2.GOAWAY)
        return [(one.last_stream_id, one.code, one.payload[8:]) for one in found]

    def _note(self, frame: h2.Frame) -> None:
        answer = self.answers.setdefault(frame.stream_id, Answer())
        if frame.kind == h2.HEADERS:
            assert frame.flags & h2.END_HEADERS
            answer.fields.append(dict(self._decoder.decode(frame.payload)))
        elif frame.kind == h2.DATA:
            answer.body += frame.payload
        elif frame.kind == h2.RST_STREAM:
            answer.reset = frame.code
        if frame.kind in (h2.DATA, h2.HEADERS) and frame.flags & h2.END_STREAM:
            answer.ended = True


class Site:
    """A client port with the methods of a test; see `serving`."""

    def __init__(
        self,
        *methods: Method,
        limits: GrpcLimits = LIMITS,
        h2_limits: H2Limits | None = None,
        times: H2Times | None = None,
        connections: ConnectionLimits | None = None,
        web: Any = None,
    ) -> None:
        self.handled: list[tuple[str, Code]] = []
        self.failures: list[tuple[str, str]] = []
        self.counted: list[str] = []
        self.web_requests: list[WebRequest] = []
        self._web = web
        self.budget = Budget(limits.partial_bytes)
        self.service = GrpcService(
            {method.path.encode(): method for method in methods},
            lambda error: (Code.INTERNAL, f"broken: {error}"),
            lambda path, error: self.failures.append((path, repr(error))),
            lambda method, code: self.handled.append((method.path, code)),
            limits,
            self.budget,
        )
        setting = H2Setting(
            self.service, self._handle_web, self._web_failed, h2_limits or H2Limits()
        )
        if times is not None:
            setting = H2Setting(
                self.service, self._handle_web, self._web_failed, setting.limits, times
            )
        port = PortSetting(
            setting, self.counted.append, connections=connections or ConnectionLimits()
        )
        self.port = ClientPort(port)

    def arrive(self, address: str = "198.51.100.1", **extra: Any) -> PortTransport:
        """A client connects and has said nothing yet."""
        transport = PortTransport(None, {"peername": (address, 1), **extra})
        transport.protocol = Arriving(self.port)
        transport.connect()
        return transport

    async def connect(self, *settings: bytes, address: str = "198.51.100.1") -> Peer:
        """A client of HTTP/2; without ``settings`` its windows are wide open."""
        peer = Peer(self.arrive(address))
        await peer.send(h2.PREFACE, *(settings or (WIDE,)))
        return peer

    async def _handle_web(self, request: WebRequest, response: WebResponse) -> None:
        self.web_requests.append(request)
        assert self._web is not None, "no page was expected"
        await self._web(request, response)

    def _web_failed(self, path: str, error: BaseException) -> None:
        self.failures.append((path, repr(error)))


def serving(scene: Callable[[Site], Awaitable[None]], *methods: Method, **options: Any) -> Site:
    """Play a scene; afterwards the port stops, and nothing may be left of what it held."""
    sites = []

    async def main() -> None:
        site = Site(*methods, **options)
        sites.append(site)
        await site.port.start([])
        await scene(site)
        await site.port.stop(0.0)
        assert len(site.port.owner) == 0
        assert len(site.port.connections) == 0
        assert not site.port.connections._of_address, "addresses of nobody are remembered"
        assert site.budget.left_bytes == site.service.limits.partial_bytes

    run_virtual(main, limit_s=100_000.0)
    return sites[0]


class Echo:
    """Methods that answer with what they are asked, and take note of calls and cancellations."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.requests: list[bytes] = []
        self.cancelled = 0
        self.go = asyncio.Event()
        self.unary = Method("/t.T/Unary", Kind.UNARY, bytes, self._unary)
        self.waits = Method("/t.T/Waits", Kind.UNARY, bytes, self._waits)
        self.stream = Method("/t.T/Stream", Kind.SERVER_STREAM, bytes, self._stream)
        self.bidi = Method("/t.T/Bidi", Kind.BIDI, bytes, self._bidi)

    @property
    def methods(self) -> tuple[Method, ...]:
        return (self.unary, self.waits, self.stream, self.bidi)

    async def _unary(self, request: bytes, call: Call) -> bytes:
        self.calls.append(call)
        self.requests.append(request)
        return request

    async def _waits(self, request: bytes, call: Call) -> bytes:
        self.calls.append(call)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return request

    async def _stream(self, request: bytes, send: Any, call: Call) -> None:
        self.calls.append(call)
        for _ in range(3):
            await send(request)

    async def _bidi(self, requests: Any, send: Any, call: Call) -> None:
        self.calls.append(call)
        try:
            async for request in requests:
                self.requests.append(request)
                await send(request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

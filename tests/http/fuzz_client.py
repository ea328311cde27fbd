"""The PyPI library h2 as a peer that keeps every rule: it must get exactly what was answered."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

from dqlite_py.http.h2.settings import H2Limits
from tests.http.fuzz_frames import REGULAR, split
from tests.http.fuzz_owner import Owner
from tests.kit.raw_h2 import request_fields

STREAMS_AT_ONCE = 20
PATIENCE = 2_000  # rounds until everything must be answered


class Client:
    """Sends requests and notes answers."""

    def __init__(self, draw: Random) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding=None)
        self.draw = draw
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.unsent: dict[int, bytearray] = {}  # of request bodies
        self.bodies: dict[int, bytes] = {}
        self.requests: dict[int, list[tuple[bytes, bytes]]] = {}
        self.answers: dict[int, bytearray] = defaultdict(bytearray)
        self.fields: dict[int, list[list[tuple[bytes, bytes]]]] = defaultdict(list)
        self.ended: set[int] = set()
        self.gone: set[int] = set()  # given up by the client
        self.owed: dict[int, int] = defaultdict(int)

    @property
    def waiting(self) -> list[int]:
        return [one for one in self.requests if one not in self.ended and one not in self.gone]

    def act(self) -> None:
        """Do something that a client may do."""
        draw, kind = self.draw, self.draw.randrange(20)
        if kind < 5 and len(self.waiting) < STREAMS_AT_ONCE:
            self.request()
        elif kind < 12 and self.unsent:
            self.body(draw.choice(list(self.unsent)))
        elif kind < 16:
            self.open_windows(whole=False)
        elif kind == 16:
            self.h2.ping(draw.randbytes(8))
        elif kind == 17 and draw.random() < 0.3:
            code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
            self.h2.update_settings({code: draw.choice((1, 1_000, 65_535, 200_000))})
        elif kind == 18 and self.waiting and draw.random() < 0.3:
            number = draw.choice(self.waiting)
            self.h2.reset_stream(number, 8)
            self.gone.add(number)
            self.unsent.pop(number, None)

    def request(self) -> None:
        """Begin a request."""
        draw, number = self.draw, self.h2.get_next_available_stream_id()
        regular = [one for one in REGULAR if one[0] != b"content-length"]
        fields = [*request_fields(b"/p/%d" % number), *draw.sample(regular, draw.randrange(3))]
        body = draw.randbytes(draw.choice((0, 5, 1_000, 100_000)))
        self.requests[number], self.bodies[number] = fields, body
        self.h2.send_headers(number, fields, end_stream=not body)
        if body:
            self.unsent[number] = bytearray(body)

    def body(self, number: int) -> None:
        """Send as much of a body as the windows allow, or less."""
        left = self.unsent[number]
        room = self.h2.local_flow_control_window(number)
        size = min(room, len(left), self.draw.choice((1, 5, 1_000, 16_000)))
        if size <= 0:
            return
        self.h2.send_data(number, bytes(left[:size]), end_stream=size == len(left))
        del left[:size]
        if not left:
            del self.unsent[number]

    def open_windows(self, *, whole: bool) -> None:
        """Acknowledge what has come of answers, or some of it."""
        for number, owed in list(self.owed.items()):
            if owed and (whole or self.draw.random() < 0.5):
                self.owed[number] = 0
                self.h2.acknowledge_received_data(owed, number)

    def hear(self, data: bytes) -> None:
        """Take what the server sent; the library raises if that is against the rules."""
        for event in self.h2.receive_data(data):
            number = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                self.fields[number].append([tuple(pair) for pair in event.headers])
            elif isinstance(event, h2.events.DataReceived):
                self.answers[number] += event.data
                self.owed[number] += event.flow_controlled_length
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(number)
            elif isinstance(event, h2.events.StreamReset):
                assert event.error_code == 0, "a stream was reset"
                assert number in self.ended, "reset before its answer"
                self.unsent.pop(number, None)
            else:
                assert not isinstance(event, h2.events.ConnectionTerminated), event


def client(draw: Random) -> int:
    """One conversation; return its steps."""
    limits = H2Limits(
        stream_window_bytes=draw.choice((65_535, 256 * 1024)),
        connection_window_bytes=draw.choice((65_535, 1 << 20)),
        output_bytes=draw.choice((1, 5_000, 128 * 1024)),
        ping_interval_s=0.0,
        ping_interval_without_streams_s=0.0,
    )
    owner, peer = Owner(draw, limits, faulty=False), Client(draw)
    peer.hear(owner.send())
    rounds = draw.choice((30, 200))
    for _ in range(rounds):
        for _ in range(draw.randrange(4)):
            peer.act()
        _exchange(owner, peer)
    peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 200_000})
    steps = rounds
    while peer.waiting or peer.unsent:
        steps += 1
        assert steps < PATIENCE, f"no answer to {peer.waiting}"
        for number in list(peer.unsent):
            peer.body(number)
        for answer in owner.open.values():
            owner.consume(answer)
        owner.finish()
        peer.open_windows(whole=True)
        _exchange(owner, peer)
    _compare(owner, peer)
    return steps


def _exchange(owner: Owner, peer: Client) -> None:
    for piece in split(peer.draw, peer.h2.data_to_send()) or [b""]:
        peer.hear(owner.step(piece))


def _compare(owner: Owner, peer: Client) -> None:
    assert owner.end is None
    for number, fields in peer.requests.items():
        answer = owner.all.get(number)
        if answer is None:
            raise AssertionError("a request did not arrive")
        head = answer.stream.head
        assert list(head.fields) == [pair for pair in fields if not pair[0].startswith(b":")]
        assert head.path == b"/p/%d" % number
        sent = peer.bodies[number]
        assert sent.startswith(bytes(answer.request))
        if number not in peer.gone and number not in owner.heard.reset:
            assert answer.request == sent
            assert answer.request_ended
        if number not in peer.gone:
            assert peer.answers[number] == answer.sent
            assert peer.fields[number] == owner.heard.fields[number]

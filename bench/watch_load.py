"""Watch fan-out: many watchers of one prefix, and puts under it as fast as they are delivered.

``python -m bench.watch_load --help``. Each of ``--writers`` puts waits until its event has reached
every watcher, so the rate is one that the server keeps up for ever, and nothing piles up. Each
watcher is a Watch stream of its own. Prints ``ready`` when all watches are confirmed, waits for a
line on standard input, then works for ``--seconds`` and prints its figures as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

from bench.load import Connection, fast_run, summary
from bench.wire import (
    ACK,
    BIG_WINDOW_BYTES,
    DATA,
    END_HEADERS,
    FRAME_HEADER_BYTES,
    GOAWAY,
    HEADERS,
    METHODS,
    PING,
    RST_STREAM,
    SETTINGS,
    VALUE_BYTES,
    WINDOW_UPDATE,
    bytes_field,
    frame,
    header_block,
    opening,
    prefixed,
    request,
    rotating_key,
)

PREFIX, PREFIX_END = b"bench/", b"bench0"
WATCH_PATH = "/etcdserverpb.Watch/Watch"
STAMP_MARK, STAMP_DIGITS = b"sent@", 20
CREATED_FIELD, CANCELED_FIELD, EVENTS_FIELD = 3, 4, 11
SETTLE_TIMEOUT_S = 15.0


def stamped(seed: int) -> Iterator[bytes]:
    """Yield PutRequests of rotating keys; a value tells when it was made, the rest is random."""
    draw = random.Random(seed)
    number = 0
    while True:
        number += 1
        stamp = STAMP_MARK + b"%0*d" % (STAMP_DIGITS, time.perf_counter_ns())
        value = stamp + draw.randbytes(VALUE_BYTES - len(stamp))
        yield request("put", rotating_key(number), value)


def varint_at(message: bytes, at: int) -> tuple[int, int]:
    """Return the varint at a position and the position after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
        shift += 7


def fields_of(message: bytes) -> list[int]:
    """Return the field numbers of a protobuf message's top level, in its order."""
    at, numbers = 0, []
    while at < len(message):
        tag, at = varint_at(message, at)
        numbers.append(tag >> 3)
        length, at = varint_at(message, at)  # a WatchResponse has varints and lengths only
        if tag & 7 == 2:
            at += length
    return numbers


class Watchers(asyncio.Protocol):
    """``count`` Watch streams on one connection; ``progress`` is called when events came."""

    def __init__(self, authority: str, count: int, progress: Callable[[], None]) -> None:
        self._block = header_block(WATCH_PATH, authority)
        self._count = count
        self._progress = progress
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._bodies: dict[int, bytes] = {}
        self._last_message = b""
        self._last_events = 0
        self._consumed = 0
        self.created = 0
        self.delivered = {1 + 2 * number: 0 for number in range(count)}
        self.latencies: list[float] = []
        self.failure = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        create = bytes_field(1, bytes_field(1, PREFIX) + bytes_field(2, PREFIX_END))
        out = [opening()]
        for stream in self.delivered:
            out.append(frame(HEADERS, END_HEADERS, stream, self._block))
            out.append(frame(DATA, 0, stream, prefixed(create)))
        self._transport.write(b"".join(out))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"a watchers' connection was lost: {exc}")

    def _fail(self, text: str) -> None:
        self.failure = self.failure or text
        self._progress()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, size, replies = 0, len(buffer), []
        while size - at >= FRAME_HEADER_BYTES:
            length = int.from_bytes(buffer[at : at + 3], "big")
            end = at + FRAME_HEADER_BYTES + length
            if size < end:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
            payload = buffer[at + FRAME_HEADER_BYTES : end]
            if kind == DATA:
                self._consumed += length
                self._take(stream, payload)
            elif kind in (SETTINGS, PING) and not flags & ACK:
                replies.append(frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind in (RST_STREAM, GOAWAY) or (kind == HEADERS and flags & 1):
                self._fail(f"the server ended a watch: frame type {kind}, {payload!r}")
            at = end
        self._buffer = buffer[at:]
        if self._consumed > BIG_WINDOW_BYTES // 2:
            replies.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._consumed)))
            self._consumed = 0
        if replies and self._transport is not None:
            self._transport.write(b"".join(replies))
        self._progress()

    def _take(self, stream: int, payload: bytes) -> None:
        """Take the messages that are complete; one may come in several frames."""
        rest = self._bodies.pop(stream, b"") + payload
        while len(rest) >= 5:
            end = 5 + int.from_bytes(rest[1:5], "big")
            if len(rest) < end:
                break
            self._message(stream, rest[5:end])
            rest = rest[end:]
        if rest:
            self._bodies[stream] = rest

    def _message(self, stream: int, message: bytes) -> None:
        # The same event comes once for each stream, in equal bytes where the ids are equal.
        if message != self._last_message:
            fields = fields_of(message)
            if CANCELED_FIELD in fields:
                self._fail(f"the server cancelled a watch: {message!r}")
            self.created += CREATED_FIELD in fields
            self._last_events = fields.count(EVENTS_FIELD)
            # A creation is counted whenever it comes, so it must not be remembered.
            self._last_message = b"" if CREATED_FIELD in fields else message
        self.delivered[stream] += self._last_events
        if stream == 1 and self._last_events:
            self._note_latency(message)

    def _note_latency(self, message: bytes) -> None:
        """Note how long ago the put of the last event in a message was made."""
        at = message.rfind(STAMP_MARK)
        if at >= 0:
            digits = message[at + len(STAMP_MARK) : at + len(STAMP_MARK) + STAMP_DIGITS]
            self.latencies.append((time.perf_counter_ns() - int(digits)) / 1e9)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class PacedWriter(Connection):
    """Puts of which no more than ``width`` have not yet reached every watcher."""

    delivered = 0

    @property
    def sent(self) -> int:
        """How many puts were sent."""
        return (self._next_stream - 1) // 2

    @property
    def acknowledged(self) -> int:
        """How many puts were answered, well or not."""
        return self.sent - len(self._started)

    def _start(self, count: int) -> bytes:
        room = max(0, self._width - (self.sent - self.delivered))
        if count > room:
            self._owed += count - room
        return super()._start(min(count, room))

    def release(self, delivered: int) -> None:
        """Send what may be sent now that ``delivered`` events have reached every watcher."""
        if delivered > self.delivered:
            self.delivered = delivered
            owed, self._owed = self._owed, 0
            if self._transport is not None and owed and not self.stopping:
                self._transport.write(self._start(owed))


class FanOut:
    """The watchers, the writer, and what couples them."""

    def __init__(self, writers: int) -> None:
        self.writers = writers
        self.watchers: list[Watchers] = []
        self.writer: PacedWriter | None = None
        self.changed = asyncio.Event()

    def progress(self) -> None:
        self.changed.set()
        if self.writer is not None:
            self.writer.release(self.slowest())

    def slowest(self) -> int:
        """Return how many events the watcher with the fewest has got."""
        return min(min(each.delivered.values()) for each in self.watchers)

    def total(self) -> int:
        return sum(sum(each.delivered.values()) for each in self.watchers)

    def failure(self) -> str:
        return next((each.failure for each in self.watchers if each.failure), "")

    async def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition that changes with progress; return whether it came true."""
        deadline = time.monotonic() + timeout_s
        while not condition() and not self.failure():
            self.changed.clear()
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            try:
                await asyncio.wait_for(self.changed.wait(), min(left_s, 0.1))
            except TimeoutError:
                continue  # the writer's answers do not set the event
        return condition()

    async def watch(self, endpoints: list[str], count: int, connections_each: int) -> None:
        """Open ``count`` watches over the endpoints; return when all are confirmed."""
        loop = asyncio.get_running_loop()
        places = endpoints * connections_each
        share, rest = divmod(count, len(places))
        for number, endpoint in enumerate(places):
            streams = share + (number < rest)
            if streams:
                host, port = endpoint.rsplit(":", 1)
                watchers = Watchers(endpoint, streams, self.progress)
                self.watchers.append(watchers)
                await loop.create_connection(lambda w=watchers: w, host, int(port))  # type: ignore[misc]
        if not await self.until(
            lambda: sum(each.created for each in self.watchers) == count, SETTLE_TIMEOUT_S
        ):
            raise SystemExit(f"not all watches were confirmed {self.failure()}")

    async def work(self, leader: str, seconds: float) -> dict[str, Any]:
        """Put for ``seconds``; then wait until every acknowledged put has reached everybody."""
        loop = asyncio.get_running_loop()
        host, port = leader.rsplit(":", 1)
        seed = int.from_bytes(os.urandom(4), "big")
        writer = PacedWriter(header_block(METHODS["put"], leader), stamped(seed), self.writers)
        writer.recording = True
        began, cpu_began = time.perf_counter(), time.process_time()
        self.writer = writer
        await loop.create_connection(lambda: writer, host, int(port))
        await asyncio.sleep(seconds)
        delivered, puts = self.total(), len(writer.latencies)
        took_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        writer.stopping = True
        level = await self.until(
            lambda: writer.acknowledged == writer.sent == self.slowest(), SETTLE_TIMEOUT_S
        )
        if self.failure() or writer.lost.done() or not delivered:
            raise SystemExit(self.failure() or "the writer's connection was lost or gave nothing")
        watches = sum(len(each.delivered) for each in self.watchers)
        found = summary([x for each in self.watchers for x in each.latencies], writer.errors, 1.0)
        found |= {
            "done": delivered,
            "per_s": round(delivered / took_s, 1),
            "puts_per_s": round(puts / took_s, 1),
            "missing": 0 if level else watches * writer.sent - self.total(),
            "generator_cpu_us_per_call": round(1e6 * cpu_s / delivered, 2),
        }
        for each in self.watchers:
            each.close()
        writer.close()
        return found


async def generate(arguments: argparse.Namespace) -> dict[str, Any]:
    fan_out = FanOut(arguments.writers)
    endpoints = arguments.endpoints.split(",")
    await fan_out.watch(endpoints, arguments.watchers, arguments.connections_each)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return await fan_out.work(endpoints[0], arguments.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True, help="host:port, the leader first")
    parser.add_argument("--watchers", type=int, default=100)
    parser.add_argument("--connections-each", type=int, default=4, help="connections to a member")
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    print(json.dumps(fast_run(generate(parser.parse_args()))), flush=True)


if __name__ == "__main__":
    main()

"""A closed-loop load generator for unary gRPC calls, lean enough not to be the bottleneck.

It speaks HTTP/2 with prior knowledge and writes header blocks made once, so a request costs it a
few microseconds. It runs in a process of its own: ``python -m bench.load --help``. A call counts
as done when its stream ends after a message; trailers alone are an error.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import struct
import time
from collections.abc import Coroutine, Iterator
from functools import partial
from typing import Any, TypeVar, cast

from bench.wire import (
    ACK,
    BIG_WINDOW_BYTES,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    GOAWAY,
    HEADERS,
    METHODS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    header_block,
    opening,
    prefixed,
    rotating,
)

T = TypeVar("T")

LEAST_SEND_WINDOW_BYTES = 1024


class Connection(asyncio.Protocol):
    """``width`` calls in flight on one connection, each followed at once by the next."""

    def __init__(self, block: bytes, bodies: Iterator[bytes], width: int) -> None:
        self._block = block
        self._bodies = bodies
        self._width = width
        self._buffer = b""
        self._next_stream = 1
        self._started: dict[int, float] = {}
        self._answered: set[int] = set()
        self._send_window = 65_535
        self._owed = 0
        self._consumed = 0
        self._transport: asyncio.Transport | None = None
        self.recording = False
        self.stopping = False
        self.latencies: list[float] = []
        self.errors = 0
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._transport = transport
        transport.write(opening() + self._start(self._width))

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors += len(self._started)
        if not self.lost.done():
            self.lost.set_result(exc)

    def _start(self, count: int) -> bytes:
        """Return the frames of up to ``count`` new calls, as the send window allows."""
        out = []
        now = time.perf_counter()
        for done in range(count):
            if self._send_window < LEAST_SEND_WINDOW_BYTES:
                self._owed += count - done
                break
            body = next(self._bodies)
            stream = self._next_stream
            self._next_stream += 2
            message = prefixed(body)
            out.append(frame(HEADERS, END_HEADERS, stream, self._block))
            out.append(frame(DATA, END_STREAM, stream, message))
            self._send_window -= len(message)
            self._started[stream] = now
        return b"".join(out)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, size = 0, len(buffer)
        replies = []
        finished = 0
        while size - at >= FRAME_HEADER_BYTES:
            length = int.from_bytes(buffer[at : at + 3], "big")
            if size - at < 9 + length:
                break
            kind, flags = buffer[at + 3], buffer[at + 4]
            stream = int.from_bytes(buffer[at + 5 : at + 9], "big")
            if kind == DATA:
                self._answered.add(stream)
                self._consumed += length
            elif kind == HEADERS and not flags & END_STREAM:
                pass
            elif kind in (HEADERS, RST_STREAM):
                finished += self._finish(stream)
            else:
                replies.append(self._control(kind, flags, buffer[at + 9 : at + 9 + length], stream))
            at += 9 + length
        self._buffer = buffer[at:]
        if self._consumed > BIG_WINDOW_BYTES // 2:
            replies.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._consumed)))
            self._consumed = 0
        owed, self._owed = self._owed + finished, 0
        if owed and not self.stopping:
            replies.append(self._start(owed))
        out = b"".join(replies)
        if out and self._transport is not None:
            self._transport.write(out)

    def _finish(self, stream: int) -> int:
        started = self._started.pop(stream, None)
        if started is None:
            return 0
        if stream in self._answered:
            self._answered.discard(stream)
            if self.recording:
                self.latencies.append(time.perf_counter() - started)
        elif self.recording:
            self.errors += 1
        return 1

    def _control(self, kind: int, flags: int, payload: bytes, stream: int) -> bytes:
        if kind == SETTINGS and not flags & ACK:
            return frame(SETTINGS, ACK, 0, b"")
        if kind == PING and not flags & ACK:
            return frame(PING, ACK, 0, payload)
        if kind == WINDOW_UPDATE and stream == 0:
            self._send_window += int.from_bytes(payload, "big")
        if kind == GOAWAY:
            self.stopping = True
        return b""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def summary(
    latencies: list[float], errors: int, seconds: float, cpu_s: float | None = None
) -> dict[str, Any]:
    """Return rate and latency figures, times in milliseconds; no latency where nothing was done."""
    latencies.sort()

    def quantile_ms(share: float) -> float | None:
        if not latencies:
            return None
        return round(1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * share))], 3)

    found = {
        "done": len(latencies),
        "errors": errors,
        "per_s": round(len(latencies) / seconds, 1),
        "p50_ms": quantile_ms(0.5),
        "p99_ms": quantile_ms(0.99),
        "max_ms": quantile_ms(1.0),
    }
    if cpu_s is not None and latencies:
        found["generator_cpu_us_per_call"] = round(1e6 * cpu_s / len(latencies), 1)
    return found


async def generate(arguments: argparse.Namespace) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    endpoints = arguments.endpoints.split(",")
    connections: list[Connection] = []
    share, rest = divmod(arguments.concurrency, len(endpoints))
    for number, endpoint in enumerate(endpoints):
        width = share + (number < rest)
        if not width:
            continue
        host, port = endpoint.rsplit(":", 1)
        block = header_block(METHODS[arguments.kind], endpoint)
        bodies = rotating(arguments.kind, arguments.seed + number)
        make = partial(Connection, block, bodies, width)
        _, connection = await loop.create_connection(make, host, int(port))
        connections.append(connection)
    await asyncio.sleep(arguments.warmup)
    began, cpu_began = time.perf_counter(), time.process_time()
    for connection in connections:
        connection.recording = True
    await asyncio.sleep(arguments.seconds)
    for connection in connections:
        connection.errors += connection.stopping  # the server said GOAWAY
        connection.recording = False
        connection.stopping = True
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    for connection in connections:
        if connection.lost.done():
            connection.errors += 1
        connection.close()
    latencies = [latency for connection in connections for latency in connection.latencies]
    return summary(latencies, sum(c.errors for c in connections), seconds, cpu_s)


def fast_run(work: Coroutine[Any, Any, T]) -> T:
    """Run a generator's coroutine to its end: on uvloop where there is one, and without gc."""
    gc.disable()
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True, help="host:port, comma-separated")
    parser.add_argument("--kind", choices=sorted(METHODS), default="put")
    parser.add_argument("--concurrency", type=int, default=1, help="calls in flight, all together")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=0.0, help="seconds before recording")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    arguments = parser.parse_args()
    print(json.dumps(fast_run(generate(arguments))), flush=True)


if __name__ == "__main__":
    main()

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
import random
import struct
import time
from collections.abc import Callable, Iterator
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SETTING = 0x4
BIG_WINDOW_BYTES = 1 << 30
RANDOM_POOL_BYTES = 1 << 22
KEY_COUNT = 10_000
VALUE_BYTES = 256


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one HTTP/2 frame (RFC 9113 section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(path: str, authority: str) -> bytes:
    """Return request headers as HPACK that leaves the dynamic table alone (RFC 7541)."""

    def text(value: str) -> bytes:
        assert len(value) < 127
        return bytes([len(value)]) + value.encode()

    method_post, scheme_http = b"\x83", b"\x86"
    literal_path, literal_authority, literal_content_type = b"\x04", b"\x01", b"\x0f\x10"
    return b"".join(
        [
            method_post,
            scheme_http,
            literal_path + text(path),
            literal_authority + text(authority),
            literal_content_type + text("application/grpc"),
            b"\x00" + text("te") + text("trailers"),
        ]
    )


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def bytes_field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def messages(kind: str, seed: int) -> Iterator[bytes]:
    """Yield protobuf requests for ever: rotating keys, random values."""
    draw = random.Random(seed)
    pool = draw.randbytes(RANDOM_POOL_BYTES)
    key = draw.randrange(KEY_COUNT)
    while True:
        key = (key + 1) % KEY_COUNT
        message = bytes_field(1, b"bench/%08d" % key)
        if kind == "put":
            at = draw.randrange(RANDOM_POOL_BYTES - VALUE_BYTES)
            message += bytes_field(2, pool[at : at + VALUE_BYTES])
        elif kind == "serializable":
            message += b"\x38\x01"
        yield message


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
        settings = struct.pack(">HI", INITIAL_WINDOW_SETTING, BIG_WINDOW_BYTES)
        window = struct.pack(">I", BIG_WINDOW_BYTES)
        transport.write(
            PREFACE + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, window)
        )
        transport.write(self._start(self._width))

    def connection_lost(self, exc: Exception | None) -> None:
        self.errors += len(self._started)
        if not self.lost.done():
            self.lost.set_result(exc)

    def _start(self, count: int) -> bytes:
        """Return the frames of up to ``count`` new calls, as the send window allows."""
        out = []
        now = time.perf_counter()
        for done in range(count):
            if self._send_window < 1024:
                self._owed += count - done
                break
            body = next(self._bodies)
            stream = self._next_stream
            self._next_stream += 2
            message = b"\x00" + struct.pack(">I", len(body)) + body
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
        while size - at >= 9:
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


METHODS = {
    "put": "/etcdserverpb.KV/Put",
    "range": "/etcdserverpb.KV/Range",
    "serializable": "/etcdserverpb.KV/Range",
}


def summary(latencies: list[float], errors: int, seconds: float, cpu_s: float) -> dict[str, float]:
    """Return rate and latency figures, times in milliseconds."""
    latencies.sort()

    def quantile_ms(share: float) -> float:
        if not latencies:
            return 0.0
        return round(1e3 * latencies[min(len(latencies) - 1, int(len(latencies) * share))], 3)

    return {
        "done": len(latencies),
        "errors": errors,
        "per_s": round(len(latencies) / seconds, 1),
        "p50_ms": quantile_ms(0.5),
        "p99_ms": quantile_ms(0.99),
        "max_ms": quantile_ms(1.0),
        "generator_cpu_us_per_call": round(1e6 * cpu_s / max(1, len(latencies)), 1),
    }


async def generate(arguments: argparse.Namespace) -> dict[str, float]:
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
        bodies = messages(arguments.kind, arguments.seed + number)
        make: Callable[[], Connection] = lambda b=block, m=bodies, w=width: Connection(b, m, w)  # noqa: E731
        _, connection = await loop.create_connection(make, host, int(port))
        connections.append(connection)
    await asyncio.sleep(arguments.warmup)
    began, cpu_began = time.perf_counter(), time.process_time()
    for connection in connections:
        connection.recording = True
    print("recording", flush=True)
    await asyncio.sleep(arguments.seconds)
    for connection in connections:
        connection.recording = False
        connection.stopping = True
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
    for connection in connections:
        if connection.lost.done():
            connection.errors += 1
        connection.close()
    latencies = [latency for connection in connections for latency in connection.latencies]
    return summary(latencies, sum(c.errors for c in connections), seconds, cpu_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", required=True, help="host:port, comma-separated")
    parser.add_argument("--kind", choices=sorted(METHODS), default="put")
    parser.add_argument("--concurrency", type=int, default=1, help="calls in flight, all together")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--warmup", type=float, default=1.0, help="seconds before recording")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    arguments = parser.parse_args()
    try:
        import uvloop
    except ImportError:
        runner = asyncio.run
    else:
        runner = uvloop.run
    gc.disable()
    print(json.dumps(runner(generate(arguments))), flush=True)


if __name__ == "__main__":
    main()

"""``python -m bench.headers``: CPU per header block, our decoder beside the PyPI library hpack."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator

import hpack

from bench.wire import header_block
from dqlite_py.http.h2.header_decoder import HeaderDecoder

BLOCKS = 5000
ROUNDS = 7

Fields = list[tuple[bytes, bytes]]
Decode = Callable[[bytes], object]

# What etcdctl 3.5.1 was seen to send for a call with a deadline, in its order.
GO_BEFORE_TIMEOUT: Fields = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/etcdserverpb.KV/Put"),
    (b":authority", b"127.0.0.1:2379"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-go/1.38.0"),
    (b"te", b"trailers"),
]
GO_AFTER_TIMEOUT: Fields = [(b"client-api-version", b"3.5")]


def repeated() -> list[bytes]:
    """Return a connection's blocks when all calls are alike: after the first, indices only."""
    encoder = hpack.Encoder()
    fields = GO_BEFORE_TIMEOUT + GO_AFTER_TIMEOUT
    return [encoder.encode(fields) for _ in range(BLOCKS)]


def literals() -> list[bytes]:
    """Return the blocks of a client that uses no dynamic table."""
    return [header_block("/etcdserverpb.KV/Put", "127.0.0.1:2379")] * BLOCKS


def deadlines() -> list[bytes]:
    """Return a connection's blocks when every call has another grpc-timeout.

    Like grpc-go's encoder, the library's makes an entry of each, which renumbers the others and
    evicts the oldest once 4096 bytes are full.
    """
    encoder, draw = hpack.Encoder(), random.Random(1)
    timeouts = (b"%du" % draw.randrange(4_990_000, 5_000_000) for _ in range(BLOCKS))
    return [
        encoder.encode([*GO_BEFORE_TIMEOUT, (b"grpc-timeout", timeout), *GO_AFTER_TIMEOUT])
        for timeout in timeouts
    ]


def library() -> Decode:
    decoder = hpack.Decoder()
    return lambda block: decoder.decode(block, raw=True)


def cpu_us(decode: Decode, blocks: list[bytes]) -> float:
    """Return microseconds of CPU per block."""
    started = time.process_time()
    for block in blocks:
        decode(block)
    return (time.process_time() - started) / len(blocks) * 1e6


def rows() -> Iterator[str]:
    yield "| blocks of one connection | bytes a block | hpack us | ours us | ratio |"
    yield "|---|---|---|---|---|"
    for name, blocks in (
        ("all alike, indices only", repeated()),
        ("all alike, literals only", literals()),
        ("grpc-go, another grpc-timeout each", deadlines()),
    ):
        theirs, ours = [], []
        for _ in range(ROUNDS):
            theirs.append(cpu_us(library(), blocks))
            ours.append(cpu_us(HeaderDecoder().decode, blocks))
        their_us, our_us = statistics.median(theirs), statistics.median(ours)
        size_bytes, ratio = statistics.mean(map(len, blocks)), their_us / our_us
        yield f"| {name} | {size_bytes:.0f} | {their_us:.1f} | {our_us:.2f} | {ratio:.0f} |"


def main() -> None:
    print(f"CPU per block, medians of {ROUNDS} interleaved rounds of {BLOCKS} blocks\n")
    print("\n".join(rows()))


if __name__ == "__main__":
    main()

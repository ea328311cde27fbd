"""The watch generator's client: it counts what arrives, however the bytes are cut."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bench.load import Connection
from bench.watch_load import FanOut, PacedWriter, Watchers, fields_of, stamped
from bench.wire import DATA, END_STREAM, GOAWAY, HEADERS, PREFACE, frame, prefixed, rotating
from dqlite_py.pb import kv_pb2 as kv
from dqlite_py.pb import rpc_pb2 as rpc


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def count(self, kind: int) -> int:
        at, found = len(PREFACE), 0
        while at + 9 <= len(self.written):
            found += self.written[at + 3] == kind
            at += 9 + int.from_bytes(self.written[at : at + 3], "big")
        return found


def watchers(count: int = 2) -> Watchers:
    made = Watchers("host:1", count, lambda: None)
    made._transport = Transport()  # type: ignore[assignment]
    return made


def events(count: int, **fields: Any) -> bytes:
    event = kv.Event(kv=kv.KeyValue(key=b"bench/1", value=next(stamped(1))[-256:]))
    return bytes(rpc.WatchResponse(events=[event] * count, **fields).SerializeToString())


def created() -> bytes:
    return bytes(rpc.WatchResponse(created=True, watch_id=300).SerializeToString())


def test_a_responses_fields_are_told_apart() -> None:
    header = rpc.ResponseHeader(cluster_id=1 << 63, revision=7)
    message = rpc.WatchResponse(header=header, watch_id=300, events=[kv.Event()] * 3)
    assert fields_of(message.SerializeToString()) == [1, 2, 11, 11, 11]


def test_creations_and_events_are_counted_for_each_stream() -> None:
    client = watchers()
    for stream in (1, 3):
        client.data_received(frame(DATA, 0, stream, prefixed(created())))
    client.data_received(frame(DATA, 0, 1, prefixed(events(3)) + prefixed(events(2))))
    client.data_received(frame(DATA, 0, 3, prefixed(events(2))))
    assert client.created == 2
    assert client.delivered == {1: 5, 3: 2}
    assert len(client.latencies) == 2
    assert not client.failure


@pytest.mark.parametrize("size", [1, 7, 64])
def test_a_message_is_whole_however_the_bytes_are_cut(size: int) -> None:
    client = watchers()
    message = prefixed(events(2))
    data = b"".join(
        [
            frame(DATA, 0, 1, message[:100]),
            frame(DATA, 0, 3, message),
            frame(DATA, 0, 1, message[100:]),
        ]
    )
    for at in range(0, len(data), size):
        client.data_received(data[at : at + size])
    assert client.delivered == {1: 2, 3: 2}


@pytest.mark.parametrize(
    "data",
    [
        frame(HEADERS, END_STREAM, 1, b"\x88"),
        frame(GOAWAY, 0, 0, b"\0" * 8),
        frame(DATA, 0, 1, prefixed(events(0, canceled=True))),
    ],
    ids=["trailers", "goaway", "cancelled"],
)
def test_a_watch_that_the_server_ends_is_a_failure(data: bytes) -> None:
    client = watchers()
    client.data_received(data)
    assert client.failure


def answer(stream: int) -> bytes:
    return frame(DATA, 0, stream, prefixed(b"")) + frame(HEADERS, END_STREAM, stream, b"\x88")


def test_no_more_puts_are_under_way_than_have_reached_every_watcher() -> None:
    async def scene() -> list[int]:
        writer, transport = PacedWriter(b"", stamped(1), 4), Transport()
        writer.connection_made(transport)  # type: ignore[arg-type]
        seen = [writer.sent]
        writer.data_received(b"".join(answer(stream) for stream in (1, 3, 5)))
        seen.append(writer.sent)  # answered, yet not delivered
        writer.release(2)
        seen.append(writer.sent)
        writer.release(2)
        writer.release(3)
        seen.append(writer.sent)
        assert transport.count(HEADERS) == writer.sent
        return [*seen, writer.acknowledged]

    assert asyncio.run(scene()) == [4, 4, 6, 7, 3]


def test_the_slowest_watcher_decides() -> None:
    async def scene() -> int:
        fan_out = FanOut(4)
        fan_out.watchers = [watchers(1), watchers(2)]
        fan_out.watchers[0].delivered = {1: 9}
        fan_out.watchers[1].delivered = {1: 5, 3: 7}
        return fan_out.slowest()

    assert asyncio.run(scene()) == 5


def test_a_call_answered_by_trailers_alone_is_an_error() -> None:
    async def scene() -> tuple[int, int]:
        load, transport = Connection(b"", rotating("put", 1), 2), Transport()
        load.recording = True
        load.connection_made(transport)  # type: ignore[arg-type]
        load.data_received(answer(1) + frame(HEADERS, END_STREAM, 3, b"\x88"))
        return len(load.latencies), load.errors

    assert asyncio.run(scene()) == (1, 1)

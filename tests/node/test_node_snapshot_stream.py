"""A snapshot's messages and an entry's bytes: every byte of them changed, cut, or too new."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from hashlib import sha256
from random import Random
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import msgpack
import pytest

from dqlite_py.errors import (
    DqliteError,
    InvariantBroken,
    NewerFormat,
    PeerFailed,
    SnapshotDamaged,
)
from dqlite_py.node import catalog, entries
from dqlite_py.node.catalog import Catalog
from dqlite_py.node.contract import Member
from dqlite_py.node.snapshot_format import (
    SnapshotChunk,
    SnapshotFile,
    SnapshotHead,
    decode_chunk,
    decode_head,
    decode_place,
    encode_chunk,
    encode_head,
    encode_place,
)
from dqlite_py.node.snapshot_sink import SnapshotSink
from dqlite_py.raft import ConfState
from dqlite_py.storage.datadir import DataDir
from tests.kit.disk import SimulatedDisk

IMAGES = {"etcd": Random(1).randbytes(300), "app": Random(2).randbytes(90)}
CHUNK_BYTES = 128
MEMBERS = (Member(1, "one", ("http://a:1",), ("http://a:2",), is_learner=False),)
HEAD = SnapshotHead(
    70,
    4,
    ConfState((1, 2), (1,), (5,)),
    catalog.encode(Catalog(9, MEMBERS)),
    tuple(
        SnapshotFile(name, number, 512, 60 + number, len(image), sha256(image).digest())
        for number, (name, image) in enumerate(IMAGES.items())
    ),
)


def stream() -> list[tuple[str, bytes]]:
    """Return the calls of one snapshot, in order."""
    calls = [("begin", encode_head(HEAD))]
    for number, image in enumerate(IMAGES.values()):
        for at in range(0, len(image), CHUNK_BYTES):
            chunk = SnapshotChunk(70, 4, number, at, image[at : at + CHUNK_BYTES])
            calls.append(("chunk", encode_chunk(chunk)))
    return [*calls, ("finish", encode_place(70, 4))]


class InlineWorker:
    async def run(self, job: Callable[[], Any]) -> Any:
        return job()


def new_sink(disk: SimulatedDisk) -> SnapshotSink:
    paths = DataDir.open(disk, "/d")
    databases: Any = SimpleNamespace(
        generation=1,
        directory=paths.generation_path,
        file_path=paths.database_path,
        base_path=paths.base_path,
    )
    worker: Any = InlineWorker()
    return SnapshotSink(databases, disk, disk, worker)


def receive(calls: list[tuple[str, bytes]]) -> tuple[bool, dict[str, bytes]]:
    """Play ``calls`` into a fresh sink; return whether the snapshot may be used, and the files."""
    disk = SimulatedDisk(Random(0))
    sink = new_sink(disk)
    for method, payload in calls:
        asyncio.run(getattr(sink, method)(payload))
    incoming = sink._incoming
    return incoming is not None and incoming.complete and incoming.head == HEAD, disk.files()


def test_a_whole_stream_arrives_as_it_was_sent() -> None:
    usable, files = receive(stream())
    assert usable
    assert {name: files[f"/d/db/2/{name}.sqlite"] for name in IMAGES} == IMAGES


@pytest.mark.parametrize("damaged", range(len(stream())))
def test_a_message_with_any_bit_changed_is_refused(damaged: int) -> None:
    method, payload = stream()[damaged]
    decode: Callable[[bytes], object] = {
        "begin": decode_head,
        "chunk": decode_chunk,
        "finish": decode_place,
    }[method]
    for offset in range(len(payload)):
        for bit in range(8):
            changed = bytearray(payload)
            changed[offset] ^= 1 << bit
            with pytest.raises(SnapshotDamaged):
                decode(bytes(changed))
        with pytest.raises(SnapshotDamaged):
            decode(payload[:offset])


@pytest.mark.parametrize("damaged", range(len(stream())))
def test_the_same_call_again_goes_on_where_the_damaged_one_stopped(damaged: int) -> None:
    calls = stream()
    sink = new_sink(SimulatedDisk(Random(0)))

    async def play() -> None:
        for number, (method, payload) in enumerate(calls):
            if number == damaged:
                with pytest.raises(SnapshotDamaged):
                    await getattr(sink, method)(payload[:-1] + bytes([payload[-1] ^ 4]))
            await getattr(sink, method)(payload)

    asyncio.run(play())
    assert sink._incoming is not None
    assert sink._incoming.complete


def test_an_image_that_differs_from_its_digest_is_refused_and_forgotten() -> None:
    image = bytearray(IMAGES["etcd"])
    image[200] ^= 1  # as a disk would that changed the staged copy
    calls = stream()
    calls[2] = ("chunk", encode_chunk(SnapshotChunk(70, 4, 0, 128, bytes(image[128:256]))))
    sink = new_sink(SimulatedDisk(Random(0)))

    async def play() -> None:
        for method, payload in calls[:3]:
            await getattr(sink, method)(payload)
        with pytest.raises(SnapshotDamaged, match="etcd"):
            await sink.chunk(calls[3][1])
        with pytest.raises(PeerFailed, match="no such snapshot"):
            await sink.chunk(calls[4][1])

    asyncio.run(play())


@pytest.mark.parametrize("left_out", range(1, len(stream()) - 1))
def test_a_missing_chunk_is_refused(left_out: int) -> None:
    calls = stream()
    del calls[left_out]
    with pytest.raises(PeerFailed, match=r"out of order|not complete"):
        receive(calls)


def test_a_chunk_behind_the_last_file_is_refused() -> None:
    extra = SnapshotChunk(70, 4, len(IMAGES), 0, b"more")
    with pytest.raises(PeerFailed, match="out of order"):
        receive([*stream()[:-1], ("chunk", encode_chunk(extra))])


def test_a_newer_snapshot_is_refused_before_anything_is_written() -> None:
    body = msgpack.packb(["something", "else"])
    newer = bytes([2]) + crc32(body, 2).to_bytes(4, "big") + body
    disk = SimulatedDisk(Random(0))
    sink = new_sink(disk)
    before = disk.files()
    with pytest.raises(NewerFormat, match="found=2, supported=1"):
        asyncio.run(sink.begin(newer))
    assert disk.files() == before


def test_a_newer_catalogue_is_refused() -> None:
    fields = msgpack.unpackb(catalog.encode(Catalog(9, MEMBERS)))
    with pytest.raises(NewerFormat, match="found=2, supported=1"):
        catalog.decode(msgpack.packb([2, *fields[1:], "more"]))


FRAMES = entries.encode_frames(3, 2, 9, b"note", b"compressed pages")
CREATE = entries.encode_create("etcd", 512, b"page")


@pytest.mark.parametrize("whole", [FRAMES, CREATE])
def test_an_entry_of_a_newer_version_is_refused(whole: bytes) -> None:
    with pytest.raises(NewerFormat, match="found=2, supported=1"):
        entries.decode(whole[:1] + b"\2" + whole[2:])


@pytest.mark.parametrize("whole", [FRAMES, CREATE])
def test_an_entry_of_any_other_bytes_means_something_else_or_is_an_error_of_ours(
    whole: bytes,
) -> None:
    """The log's checksum is what tells damage; here nothing may escape that stops us unnamed."""
    meant = entries.decode(whole)
    for offset in range(len(whole)):
        for mask in (1, 0x80, 0xFF):
            changed = whole[:offset] + bytes([whole[offset] ^ mask]) + whole[offset + 1 :]
            try:
                assert entries.decode(changed) != meant
            except DqliteError as error:
                assert isinstance(error, NewerFormat | InvariantBroken)
    for length in range(1, 6):
        with pytest.raises(InvariantBroken):
            entries.decode(whole[:length])

"""What a snapshot is on its way from one member to another.

Every message is ``u8 version | u32 crc32 of the body, seeded with the version | msgpack array``,
big endian: head and places decide what the receiver's log and configuration become, so they are
checked like the pages.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import msgpack

from dqlite_py.errors import NewerFormat, SnapshotDamaged
from dqlite_py.raft import ConfState

_VERSION = 1
_SEAL = struct.Struct(">BI")


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """One database's image as of the snapshot's index."""

    name: str
    creation_index: int
    page_size: int
    last_frames: int
    size_bytes: int
    sha256: bytes


@dataclass(frozen=True, slots=True)
class SnapshotHead:
    """Everything of a snapshot but the pages; ``catalog`` is an encoded Catalog."""

    index: int
    term: int
    conf_state: ConfState
    catalog: bytes
    files: tuple[SnapshotFile, ...]


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Bytes of one file of the snapshot at (index, term), from ``offset`` on."""

    index: int
    term: int
    file_number: int
    offset: int
    data: bytes


def encode_head(head: SnapshotHead) -> bytes:
    """Return the payload of a ``snapshot.begin`` call."""
    conf = head.conf_state
    return _seal(
        [
            head.index,
            head.term,
            [
                list(conf.voters),
                list(conf.voters_outgoing),
                list(conf.learners),
                list(conf.learners_next),
                conf.auto_leave,
            ],
            head.catalog,
            [
                [f.name, f.creation_index, f.page_size, f.last_frames, f.size_bytes, f.sha256]
                for f in head.files
            ],
        ]
    )


def decode_head(data: bytes) -> SnapshotHead:
    """Inverse of ``encode_head``; raises SnapshotDamaged or NewerFormat."""
    index, term, conf, catalog, files = _unseal(data)
    voters, outgoing, learners, learners_next, auto_leave = conf
    conf_state = ConfState(
        voters=tuple(voters),
        voters_outgoing=tuple(outgoing),
        learners=tuple(learners),
        learners_next=tuple(learners_next),
        auto_leave=auto_leave,
    )
    return SnapshotHead(index, term, conf_state, catalog, tuple(SnapshotFile(*f) for f in files))


def encode_chunk(chunk: SnapshotChunk) -> bytes:
    """Return the payload of a ``snapshot.chunk`` call."""
    return _seal([chunk.index, chunk.term, chunk.file_number, chunk.offset, chunk.data])


def decode_chunk(data: bytes) -> SnapshotChunk:
    """Inverse of ``encode_chunk``; raises SnapshotDamaged or NewerFormat."""
    return SnapshotChunk(*_unseal(data))


def encode_place(first: int, second: int) -> bytes:
    """Return two numbers as a payload: (index, term) to finish, (file number, offset) to go on."""
    return _seal([first, second])


def decode_place(data: bytes) -> tuple[int, int]:
    """Inverse of ``encode_place``; raises SnapshotDamaged or NewerFormat."""
    first, second = _unseal(data)
    return first, second


def _seal(fields: list[Any]) -> bytes:
    body: bytes = msgpack.packb(fields)
    return _SEAL.pack(_VERSION, crc32(body, _VERSION)) + body


def _unseal(data: bytes) -> list[Any]:
    """Return the fields; whatever passes the checksum was written by ``_seal``."""
    if len(data) < _SEAL.size:
        raise SnapshotDamaged(detail="a message is too short")
    version, checksum = _SEAL.unpack_from(data)
    body = data[_SEAL.size :]
    if crc32(body, version) != checksum:
        raise SnapshotDamaged(detail="a message's checksum is wrong")
    if version != _VERSION:
        raise NewerFormat(path="snapshot stream", found=version, supported=_VERSION)
    fields: list[Any] = msgpack.unpackb(body)
    return fields

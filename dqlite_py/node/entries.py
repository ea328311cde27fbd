"""What the data of a Raft entry means: nothing, a transaction's frames, or a new database.

Layout (big endian), version 1::

    frames:  u8 kind=1 | u8 version | u64 database | u64 term | u64 previous | u16 note length |
             note | encoded frame batch (see vfs.frames)
    create:  u8 kind=2 | u8 version | u32 page size | u8 name length | name | genesis page

``database`` is the index of the entry that created the database. ``term`` and ``previous`` tie the
page images to the exact log prefix they were made on (design rule 1): a page image applied after
any other prefix would corrupt the database.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dqlite_py.errors import InvariantBroken, NewerFormat

_FRAMES_KIND = 1
_CREATE_KIND = 2
_VERSION = 1
_FRAMES_HEAD = struct.Struct(">BBQQQH")
_CREATE_HEAD = struct.Struct(">BBIB")


@dataclass(frozen=True, slots=True)
class FramesEntry:
    """One committed SQLite transaction of one database."""

    database: int
    term: int
    previous: int
    note: bytes
    frames: bytes


@dataclass(frozen=True, slots=True)
class CreateEntry:
    """A database comes into being, with its first page."""

    name: str
    page_size: int
    genesis: bytes


def encode_frames(database: int, term: int, previous: int, note: bytes, frames: bytes) -> bytes:
    """Return the entry data for a transaction; ``frames`` is an encoded FrameBatch."""
    head = _FRAMES_HEAD.pack(_FRAMES_KIND, _VERSION, database, term, previous, len(note))
    return b"".join((head, note, frames))


def encode_create(name: str, page_size: int, genesis: bytes) -> bytes:
    """Return the entry data that creates a database."""
    encoded_name = name.encode()
    head = _CREATE_HEAD.pack(_CREATE_KIND, _VERSION, page_size, len(encoded_name))
    return b"".join((head, encoded_name, genesis))


def decode(data: bytes) -> FramesEntry | CreateEntry | None:
    """Return what an entry means; None for the empty entry of a new leader.

    Raises NewerFormat for a version this program does not know and InvariantBroken for anything
    else: the log's checksum held, so the bytes are what some member meant to write.
    """
    if not data:
        return None
    try:
        return _decode(data)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise InvariantBroken(detail=f"raft entry that is not whole: {error}") from error


def _decode(data: bytes) -> FramesEntry | CreateEntry:
    kind, version = data[0], data[1]
    if version != _VERSION:
        raise NewerFormat(path="raft entry", found=version, supported=_VERSION)
    if kind == _FRAMES_KIND:
        _, _, database, term, previous, note_length = _FRAMES_HEAD.unpack_from(data)
        start = _FRAMES_HEAD.size
        body = start + note_length
        return FramesEntry(database, term, previous, data[start:body], data[body:])
    if kind == _CREATE_KIND:
        _, _, page_size, name_length = _CREATE_HEAD.unpack_from(data)
        start = _CREATE_HEAD.size
        body = start + name_length
        return CreateEntry(data[start:body].decode(), page_size, data[body:])
    raise InvariantBroken(detail=f"raft entry of unknown kind {kind}")

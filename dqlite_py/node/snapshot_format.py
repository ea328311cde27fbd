"""What a snapshot is on its way from one member to another."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack

from dqlite_py.errors import NewerFormat
from dqlite_py.raft import ConfState

_VERSION = 1


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


def encode_head(head: SnapshotHead) -> bytes:
    """Return the payload of a ``snapshot.begin`` call."""
    conf = head.conf_state
    data: bytes = msgpack.packb(
        [
            _VERSION,
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
    return data


def decode_head(data: bytes) -> SnapshotHead:
    """Inverse of ``encode_head``; raises NewerFormat for a version unknown here."""
    version, index, term, conf, catalog, files = msgpack.unpackb(data)
    if version != _VERSION:
        raise NewerFormat(path="snapshot stream", found=version, supported=_VERSION)
    voters, outgoing, learners, learners_next, auto_leave = conf
    conf_state = ConfState(
        voters=tuple(voters),
        voters_outgoing=tuple(outgoing),
        learners=tuple(learners),
        learners_next=tuple(learners_next),
        auto_leave=auto_leave,
    )
    return SnapshotHead(index, term, conf_state, catalog, tuple(SnapshotFile(*f) for f in files))

"""What every member needs to know about an applied batch, packed small."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dqlite_py.kv.alarms import Alarms

VERSION = 1
MOST_LEASES = 40  # above this members read the lease table instead
REVOKED = -1  # in place of a TTL

_HEAD = struct.Struct(">BqqqBBB")  # version, revisions, lease count, all leases?, alarm count
_LEASE = struct.Struct(">qq")
_ALARM = struct.Struct(">QB")
_NO_ALARMS = 0xFF  # alarms did not change


@dataclass(frozen=True, slots=True)
class Note:
    """Counters after a batch, and what else it changed.

    ``leases`` lists (id, ttl_s or REVOKED) in order, and is None when too many changed to list;
    ``alarms`` is the full set if it changed, else None.
    """

    revision: int
    compact_revision: int
    compact_finished: int
    leases: tuple[tuple[int, int], ...] | None = ()
    alarms: Alarms | None = None


def encode(note: Note) -> bytes:
    """Pack a note into at most 1 KiB."""
    listed = note.leases or ()
    alarms = sorted(note.alarms or ())
    parts = [
        _HEAD.pack(
            VERSION,
            note.revision,
            note.compact_revision,
            note.compact_finished,
            len(listed),
            note.leases is None,
            _NO_ALARMS if note.alarms is None else len(alarms),
        )
    ]
    parts += [_LEASE.pack(*lease) for lease in listed]
    parts += [_ALARM.pack(*alarm) for alarm in alarms]
    return b"".join(parts)


def decode(data: bytes) -> Note:
    """Inverse of ``encode``; raises ValueError for another version."""
    version, revision, compact, finished, leases, every_lease, alarms = _HEAD.unpack_from(data)
    if version != VERSION:
        raise ValueError(f"note of version {version}")
    middle = _HEAD.size + leases * _LEASE.size
    changed = tuple(_LEASE.iter_unpack(data[_HEAD.size : middle]))
    raised = None if alarms == _NO_ALARMS else frozenset(_ALARM.iter_unpack(data[middle:]))
    return Note(revision, compact, finished, None if every_lease else changed, raised)

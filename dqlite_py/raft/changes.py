"""Membership changes as they are proposed, and their encoding inside an entry.

Layout (big endian)::

    CONF_CHANGE     u8 kind | u64 node id | context
    CONF_CHANGE_V2  u8 transition | u8 count | count x (u8 kind | u64 node id) | context

An empty CONF_CHANGE_V2 entry leaves a joint configuration.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from dqlite_py.raft.errors import InvalidConfChange
from dqlite_py.raft.messages import Entry, EntryKind

_CHANGE: Final = struct.Struct(">BQ")
_HEAD: Final = struct.Struct(">BB")
_MAX_CHANGES: Final = 255


class ConfChangeKind(IntEnum):
    """What happens to one member."""

    ADD_NODE = 0
    REMOVE_NODE = 1
    UPDATE_NODE = 2
    ADD_LEARNER_NODE = 3


class ConfChangeTransition(IntEnum):
    """How a change passes through a joint configuration (dissertation section 4.3).

    AUTO uses one only if the change needs it and leaves it by itself; JOINT_IMPLICIT always uses
    one and leaves it by itself; JOINT_EXPLICIT stays until an empty change is proposed.
    """

    AUTO = 0
    JOINT_IMPLICIT = 1
    JOINT_EXPLICIT = 2


@dataclass(frozen=True, slots=True)
class ConfChangeSingle:
    """One step of a membership change; ``node_id`` 0 is ignored."""

    kind: ConfChangeKind
    node_id: int


@dataclass(frozen=True, slots=True)
class ConfChangeV2:
    """A membership change of any number of steps; without steps it leaves a joint configuration.

    ``context`` is the application's and is applied with the change.
    """

    transition: ConfChangeTransition = ConfChangeTransition.AUTO
    changes: tuple[ConfChangeSingle, ...] = ()
    context: bytes = b""

    @property
    def leaves_joint(self) -> bool:
        """Whether this ends a joint configuration."""
        return self.transition is ConfChangeTransition.AUTO and not self.changes

    @property
    def enters_joint(self) -> bool:
        """Whether this goes through a joint configuration."""
        return self.transition is not ConfChangeTransition.AUTO or len(self.changes) > 1

    @property
    def auto_leave(self) -> bool:
        """Whether the joint configuration is left without being asked."""
        return self.transition is not ConfChangeTransition.JOINT_EXPLICIT


@dataclass(frozen=True, slots=True)
class ConfChange:
    """A membership change of one step that never uses a joint configuration."""

    kind: ConfChangeKind
    node_id: int
    context: bytes = b""

    def as_v2(self) -> ConfChangeV2:
        """Return the same change in the general form."""
        step = ConfChangeSingle(self.kind, self.node_id)
        return ConfChangeV2(changes=(step,), context=self.context)


def encode_conf_change(change: ConfChange | ConfChangeV2) -> tuple[EntryKind, bytes]:
    """Return the kind and data of an entry that proposes ``change``.

    Raises InvalidConfChange when it has more than 255 steps.
    """
    if isinstance(change, ConfChange):
        return EntryKind.CONF_CHANGE, _CHANGE.pack(change.kind, change.node_id) + change.context
    if change.leaves_joint and not change.context:
        return EntryKind.CONF_CHANGE_V2, b""
    if len(change.changes) > _MAX_CHANGES:
        raise InvalidConfChange(f"{len(change.changes)} steps in one membership change")
    parts = [_HEAD.pack(change.transition, len(change.changes))]
    parts += [_CHANGE.pack(step.kind, step.node_id) for step in change.changes]
    parts.append(change.context)
    return EntryKind.CONF_CHANGE_V2, b"".join(parts)


def decode_conf_change(entry: Entry) -> ConfChange | ConfChangeV2:
    """Return the change that a membership entry carries.

    Raises InvalidConfChange if the entry is of another kind or damaged.
    """
    try:
        if entry.kind is EntryKind.CONF_CHANGE:
            kind, node_id = _CHANGE.unpack_from(entry.data)
            return ConfChange(ConfChangeKind(kind), node_id, entry.data[_CHANGE.size :])
        if entry.kind is EntryKind.CONF_CHANGE_V2:
            return _decode_v2(entry.data)
    except (struct.error, ValueError) as error:
        raise InvalidConfChange(f"entry {entry.index} is no membership change: {error}") from error
    raise InvalidConfChange(f"entry {entry.index} is not a membership change")


def _decode_v2(data: bytes) -> ConfChangeV2:
    if not data:
        return ConfChangeV2()
    transition, count = _HEAD.unpack_from(data)
    end = _HEAD.size + count * _CHANGE.size
    steps = tuple(
        ConfChangeSingle(ConfChangeKind(kind), node_id)
        for kind, node_id in _CHANGE.iter_unpack(data[_HEAD.size : end])
    )
    if len(steps) != count:
        raise ValueError("membership steps are cut short")
    return ConfChangeV2(ConfChangeTransition(transition), steps, data[end:])


def as_v2(change: ConfChange | ConfChangeV2) -> ConfChangeV2:
    """Return ``change`` in the general form."""
    return change.as_v2() if isinstance(change, ConfChange) else change

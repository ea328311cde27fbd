"""The values that Raft members exchange and store.

All of them are immutable: a message may sit in several queues at once and an entry is shared by
the log, the network and the state machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeVar, dataclass_transform

LOCAL_APPEND_THREAD: Final = (1 << 64) - 1
"""Pseudo member id: messages to it are written to the log by whoever owns the storage."""

LOCAL_APPLY_THREAD: Final = (1 << 64) - 2
"""Pseudo member id: messages to it carry committed entries for the state machine."""

NO_LIMIT: Final = (1 << 62) - 1
"""A size in bytes that no log reaches."""

ENTRY_OVERHEAD_BYTES: Final = 16
"""What an entry counts besides its data where sizes are limited."""

_C = TypeVar("_C")


@dataclass_transform(frozen_default=True)
def _value(cls: type[_C]) -> type[_C]:
    """Make a value class whose immutability the type checker enforces.

    A dataclass frozen at run time assigns every field through ``object.__setattr__``, which makes
    a message three times as expensive; the core creates several for each proposal.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)


class EntryKind(IntEnum):
    """How the state machine must read an entry's data."""

    NORMAL = 0
    CONF_CHANGE = 1
    CONF_CHANGE_V2 = 2


@_value
class Entry:
    """One position of the replicated log."""

    term: int
    index: int
    kind: EntryKind = EntryKind.NORMAL
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class HardState:
    """What must survive a crash besides the entries (dissertation figure 3.1).

    ``commit`` may lag behind on disk; ``term`` and ``vote`` may not.
    """

    term: int = 0
    vote: int = 0
    commit: int = 0


class Role(IntEnum):
    """What a member currently is."""

    FOLLOWER = 0
    CANDIDATE = 1
    LEADER = 2
    PRE_CANDIDATE = 3


@dataclass(frozen=True, slots=True)
class SoftState:
    """State that is worth telling the application but need not be stored."""

    leader_id: int = 0
    role: Role = Role.FOLLOWER


@dataclass(frozen=True, slots=True)
class ConfState:
    """A membership configuration (dissertation chapter 4), every tuple ascending.

    ``voters_outgoing`` is the old half of a joint configuration and empty otherwise.
    ``learners_next`` are outgoing voters that become learners when the joint configuration ends.
    """

    voters: tuple[int, ...] = ()
    voters_outgoing: tuple[int, ...] = ()
    learners: tuple[int, ...] = ()
    learners_next: tuple[int, ...] = ()
    auto_leave: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state after applying the entry at ``index``; ``data`` belongs to the application."""

    index: int
    term: int
    conf_state: ConfState
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ReadState:
    """A confirmed ReadIndex request (dissertation section 6.4).

    A read that follows the request named by ``context`` is linearizable once this member has
    applied ``index``.
    """

    index: int
    context: bytes


class MessageKind(IntEnum):
    """What a message asks or answers. The numbers are stable: they go over the wire."""

    HUP = 0
    BEAT = 1
    PROP = 2
    APP = 3
    APP_RESP = 4
    VOTE = 5
    VOTE_RESP = 6
    SNAP = 7
    HEARTBEAT = 8
    HEARTBEAT_RESP = 9
    UNREACHABLE = 10
    SNAP_STATUS = 11
    CHECK_QUORUM = 12
    TRANSFER_LEADER = 13
    TIMEOUT_NOW = 14
    READ_INDEX = 15
    READ_INDEX_RESP = 16
    PRE_VOTE = 17
    PRE_VOTE_RESP = 18
    STORAGE_APPEND = 19
    STORAGE_APPEND_RESP = 20
    STORAGE_APPLY = 21
    STORAGE_APPLY_RESP = 22
    FORGET_LEADER = 23


LOCAL_KINDS: Final = frozenset(
    {
        MessageKind.HUP,
        MessageKind.BEAT,
        MessageKind.UNREACHABLE,
        MessageKind.SNAP_STATUS,
        MessageKind.CHECK_QUORUM,
        MessageKind.STORAGE_APPEND,
        MessageKind.STORAGE_APPEND_RESP,
        MessageKind.STORAGE_APPLY,
        MessageKind.STORAGE_APPLY_RESP,
    }
)
"""Kinds that never cross the network."""

RESPONSE_KINDS: Final = frozenset(
    {
        MessageKind.APP_RESP,
        MessageKind.VOTE_RESP,
        MessageKind.HEARTBEAT_RESP,
        MessageKind.UNREACHABLE,
        MessageKind.READ_INDEX_RESP,
        MessageKind.PRE_VOTE_RESP,
        MessageKind.STORAGE_APPEND_RESP,
        MessageKind.STORAGE_APPLY_RESP,
    }
)
"""Kinds that are ignored when they come from outside the configuration."""


TERMED_KINDS: Final = frozenset(
    {
        MessageKind.APP,
        MessageKind.APP_RESP,
        MessageKind.VOTE,
        MessageKind.VOTE_RESP,
        MessageKind.SNAP,
        MessageKind.HEARTBEAT,
        MessageKind.HEARTBEAT_RESP,
        MessageKind.TIMEOUT_NOW,
        MessageKind.READ_INDEX_RESP,
        MessageKind.PRE_VOTE,
    }
)
"""Kinds that mean nothing without their sender's term; term 0 would pass every check of terms."""


@_value
class Message:
    """Everything members, and the core and its storage, say to each other.

    Every message between members carries its sender's ``term``, except forwarded PROP and
    READ_INDEX, which have 0 and are judged by the leader's current term. ``log_term`` and
    ``index`` name the log position the message is about. A STORAGE_APPEND with ``term`` 0 carries
    no hard state; otherwise ``term``, ``vote`` and ``commit`` are the hard state to store.
    ``responses`` of a storage message are to be delivered (to this or to other members) only
    once its content is durable, respectively applied.
    """

    kind: MessageKind
    to: int = 0
    from_: int = 0
    term: int = 0
    log_term: int = 0
    index: int = 0
    entries: tuple[Entry, ...] = ()
    commit: int = 0
    vote: int = 0
    snapshot: Snapshot | None = None
    reject: bool = False
    reject_hint: int = 0
    context: bytes = b""
    responses: tuple[Message, ...] = ()

    @property
    def hard_state(self) -> HardState | None:
        """The hard state that a STORAGE_APPEND asks to store, None if it brings none."""
        return HardState(self.term, self.vote, self.commit) if self.term else None


def payload_bytes(entries: tuple[Entry, ...] | list[Entry]) -> int:
    """Return the length of all entries' data."""
    total = 0
    for entry in entries:
        total += len(entry.data)
    return total


def size_bytes(entries: tuple[Entry, ...] | list[Entry]) -> int:
    """Return what the entries count where sizes are limited."""
    return payload_bytes(entries) + ENTRY_OVERHEAD_BYTES * len(entries)

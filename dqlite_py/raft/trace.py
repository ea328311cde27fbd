"""What the core can tell an observer, as typed events.

Events are built only while a trace callable is set. They record decisions, never drive them. A
``progress`` string is the follower's replication state at that instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from dqlite_py.raft.changes import ConfChange, ConfChangeV2
from dqlite_py.raft.messages import Message, MessageKind, Role
from dqlite_py.raft.trace_log import (
    AppendRejected,
    ConflictFound,
    FollowerUnreachable,
    ProgressDecreased,
    RejectionReceived,
    ReplicationPaused,
    RestoreStarted,
    SnapshotAnswered,
    SnapshotCaughtUp,
    SnapshotFastForwarded,
    SnapshotNotSent,
    SnapshotRefused,
    SnapshotReported,
    SnapshotRestored,
    SnapshotSent,
    StableIgnored,
    UnstableReplaced,
    UnstableTruncated,
)


@dataclass(frozen=True, slots=True)
class MemberStarted:
    """A core was created from storage."""

    node: int
    peers: tuple[int, ...]
    term: int
    commit: int
    applied: int
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """A member took a role."""

    node: int
    role: Role
    term: int


@dataclass(frozen=True, slots=True)
class ConfigurationSwitched:
    """A member uses another configuration; the text shows its halves and learners."""

    node: int
    configuration: str


@dataclass(frozen=True, slots=True)
class LeavingJoint:
    """A leader proposes by itself to end a joint configuration."""

    configuration: str


@dataclass(frozen=True, slots=True)
class LeavingJointDelayed:
    """A leader could not propose the end of a joint configuration and will try again."""

    configuration: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConfChangeRefused:
    """A proposed membership change was replaced by an empty entry."""

    node: int
    change: ConfChange | ConfChangeV2
    configuration: str
    reason: str


@dataclass(frozen=True, slots=True)
class ElectionStarted:
    """A member starts an election."""

    node: int
    term: int


@dataclass(frozen=True, slots=True)
class ElectionIgnored:
    """A leader was told to campaign."""

    node: int


@dataclass(frozen=True, slots=True)
class CannotCampaign:
    """A member that is no voter, or is restoring a snapshot, was told to campaign."""

    node: int


@dataclass(frozen=True, slots=True)
class CampaignDelayed:
    """A member with a committed, unapplied membership change was told to campaign."""

    node: int
    term: int


@dataclass(frozen=True, slots=True)
class VoteRequested:
    """A candidate asks for a vote, or before that whether it would get one."""

    node: int
    log_term: int
    index: int
    kind: MessageKind
    to: int
    term: int


@dataclass(frozen=True, slots=True)
class VoteAnswered:
    """A member granted or refused a vote."""

    node: int
    log_term: int
    index: int
    vote: int
    granted: bool
    request: Message
    term: int


@dataclass(frozen=True, slots=True)
class VoteIgnored:
    """A member has heard from a leader too recently to take part in an election."""

    node: int
    log_term: int
    index: int
    vote: int
    request: Message
    term: int
    remaining_ticks: int


@dataclass(frozen=True, slots=True)
class VoteReceived:
    """A candidate received an answer."""

    node: int
    kind: MessageKind
    granted: bool
    voter: int
    term: int


@dataclass(frozen=True, slots=True)
class VotesCounted:
    """A candidate counted the answers it has."""

    node: int
    kind: MessageKind
    granted: int
    rejected: int


@dataclass(frozen=True, slots=True)
class HigherTermReceived:
    """A message of a later term makes the member a follower."""

    node: int
    term: int
    message: Message


@dataclass(frozen=True, slots=True)
class LowerTermIgnored:
    """A message of an earlier term was dropped."""

    node: int
    term: int
    message: Message


@dataclass(frozen=True, slots=True)
class QuorumLost:
    """A leader steps down because a quorum has been silent for an election timeout."""

    node: int


@dataclass(frozen=True, slots=True)
class ProposalIgnored:
    """A proposal was dropped."""

    node: int
    term: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReadIgnored:
    """A ReadIndex request was dropped."""

    node: int
    term: int
    reason: str


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A leader starts to hand over its leadership."""

    node: int
    term: int
    to: int


@dataclass(frozen=True, slots=True)
class TransferIgnored:
    """A request to hand over leadership has no effect."""

    node: int
    term: int
    to: int
    reason: str


@dataclass(frozen=True, slots=True)
class TransferAborted:
    """A transfer gives way to one to another member."""

    node: int
    term: int
    to: int


@dataclass(frozen=True, slots=True)
class TimeoutNowSent:
    """The chosen successor is told to campaign; ``at_once`` if it was caught up from the start."""

    node: int
    to: int
    at_once: bool


@dataclass(frozen=True, slots=True)
class TimeoutNowReceived:
    """A member campaigns because the leader asked it to, unless its role forbids that."""

    node: int
    term: int
    from_: int
    obeyed: bool


@dataclass(frozen=True, slots=True)
class LeaderForgotten:
    """A follower forgets its leader to let others win an election."""

    node: int
    leader: int
    term: int


@dataclass(frozen=True, slots=True)
class ForgetLeaderRefused:
    """Forgetting the leader would make lease-based reads stale."""


TraceEvent: TypeAlias = (
    MemberStarted
    | RoleChanged
    | ConfigurationSwitched
    | LeavingJoint
    | LeavingJointDelayed
    | ConfChangeRefused
    | ElectionStarted
    | ElectionIgnored
    | CannotCampaign
    | CampaignDelayed
    | VoteRequested
    | VoteAnswered
    | VoteIgnored
    | VoteReceived
    | VotesCounted
    | HigherTermReceived
    | LowerTermIgnored
    | QuorumLost
    | ProposalIgnored
    | ReadIgnored
    | AppendRejected
    | RejectionReceived
    | ProgressDecreased
    | SnapshotNotSent
    | SnapshotSent
    | ReplicationPaused
    | SnapshotCaughtUp
    | SnapshotReported
    | FollowerUnreachable
    | TransferStarted
    | TransferIgnored
    | TransferAborted
    | TimeoutNowSent
    | TimeoutNowReceived
    | LeaderForgotten
    | ForgetLeaderRefused
    | ConflictFound
    | UnstableReplaced
    | UnstableTruncated
    | StableIgnored
    | RestoreStarted
    | SnapshotRestored
    | SnapshotFastForwarded
    | SnapshotAnswered
    | SnapshotRefused
)

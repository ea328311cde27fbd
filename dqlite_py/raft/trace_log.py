"""Trace events of replication: appends, snapshots and the unstable log (see ``trace``)."""

from __future__ import annotations

from dataclasses import dataclass

from dqlite_py.raft.messages import Message


@dataclass(frozen=True, slots=True)
class AppendRejected:
    """A follower's log does not contain the position that an append builds on."""

    node: int
    log_term: int
    message: Message


@dataclass(frozen=True, slots=True)
class RejectionReceived:
    """A leader learns that a follower's log does not match."""

    node: int
    message: Message


@dataclass(frozen=True, slots=True)
class ProgressDecreased:
    """A leader will probe a follower further back."""

    node: int
    follower: int
    progress: str


@dataclass(frozen=True, slots=True)
class SnapshotNotSent:
    """A follower needs a snapshot but gets none now."""

    node: int
    follower: int
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotSent:
    """A leader sends a snapshot."""

    node: int
    first_index: int
    commit: int
    index: int
    term: int
    follower: int
    progress: str


@dataclass(frozen=True, slots=True)
class ReplicationPaused:
    """A leader sends a follower nothing until its snapshot is settled."""

    node: int
    follower: int
    progress: str


@dataclass(frozen=True, slots=True)
class SnapshotCaughtUp:
    """A follower's acknowledgement shows that it no longer needs a snapshot."""

    node: int
    follower: int
    progress: str


@dataclass(frozen=True, slots=True)
class SnapshotReported:
    """The application told how sending a snapshot ended."""

    node: int
    follower: int
    ok: bool
    progress: str


@dataclass(frozen=True, slots=True)
class FollowerUnreachable:
    """The application told that messages to a follower were lost."""

    node: int
    follower: int
    progress: str


@dataclass(frozen=True, slots=True)
class ConflictFound:
    """An append disagrees with the log."""

    index: int
    existing_term: int
    new_term: int


@dataclass(frozen=True, slots=True)
class UnstableReplaced:
    """All unstable entries give way to an append."""

    index: int


@dataclass(frozen=True, slots=True)
class UnstableTruncated:
    """Unstable entries at and after ``index`` give way to an append."""

    index: int


@dataclass(frozen=True, slots=True)
class StableIgnored:
    """A write report is out of date: the unstable log has moved on.

    ``unstable_term`` is 0 if the entry is no longer there.
    """

    index: int
    term: int
    unstable_term: int


@dataclass(frozen=True, slots=True)
class RestoreStarted:
    """A log is about to be replaced by a snapshot."""

    committed: int
    applied: int
    applying: int
    offset: int
    offset_in_progress: int
    unstable_entries: int
    index: int
    term: int


@dataclass(frozen=True, slots=True)
class SnapshotRestored:
    """A log was replaced by a snapshot."""

    node: int
    commit: int
    last_index: int
    last_term: int
    index: int
    term: int


@dataclass(frozen=True, slots=True)
class SnapshotFastForwarded:
    """The log already contains the snapshot's position, so only the commit index moved."""

    node: int
    commit: int
    last_index: int
    last_term: int
    index: int
    term: int


@dataclass(frozen=True, slots=True)
class SnapshotAnswered:
    """A follower acknowledges a snapshot message, whether it was used or not."""

    node: int
    commit: int
    restored: bool
    index: int
    term: int


@dataclass(frozen=True, slots=True)
class SnapshotRefused:
    """A snapshot was ignored because this member must not use it."""

    node: int
    reason: str

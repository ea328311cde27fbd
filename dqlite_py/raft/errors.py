"""What the Raft core raises; it imports nothing, so these stand apart from the package's tree."""

from __future__ import annotations


class RaftError(Exception):
    """Base of everything the Raft core raises on purpose."""


class ProposalDropped(RaftError):
    """The proposal was not appended and never will be; the caller may try again elsewhere.

    Raised when no leader is known, leadership is being transferred, this member may not forward,
    or the uncommitted part of the log is too large.
    """


class PeerNotFound(RaftError):
    """A response came from a member that the current configuration does not contain."""


class LocalMessage(RaftError):
    """A message that only this process may produce arrived from another member."""


class Compacted(RaftError):
    """The requested log position lies before the first index that storage still holds."""


class Unavailable(RaftError):
    """The requested log position lies after the last index that storage holds."""


class SnapshotOutOfDate(RaftError):
    """The snapshot is older than the one that storage already has."""


class SnapshotTemporarilyUnavailable(RaftError):
    """No snapshot is ready now; the leader asks again at the follower's next heartbeat."""


class InvalidConfChange(RaftError):
    """A membership change cannot be applied to the current configuration."""


class InvariantBroken(RaftError):
    """Continuing would break a safety property of Raft: the member must stop."""

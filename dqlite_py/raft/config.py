"""Settings of one Raft member."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from dqlite_py.raft.messages import NO_LIMIT
from dqlite_py.raft.storage import LogReader
from dqlite_py.raft.trace import TraceEvent


class ReadOnlyMode(IntEnum):
    """How a leader makes sure that it still leads before it answers a ReadIndex request.

    SAFE asks a quorum; LEASE_BASED trusts its clock and needs ``check_quorum``.
    """

    SAFE = 0
    LEASE_BASED = 1


class Random(Protocol):
    """The randomness that the core needs, for election timeouts only."""

    def randrange(self, start: int, stop: int) -> int:
        """Return an int in [start, stop)."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one Raft member; ``check`` raises ValueError when they contradict each other.

    ``election_tick`` and ``heartbeat_tick`` count calls of ``tick``; the election timeout is drawn
    from [election_tick, 2 * election_tick). ``applied`` is the last index the application has
    already applied. All sizes are in bytes; ``max_inflight_bytes`` 0 means no limit by size.
    ``max_pending_reads`` bounds ReadIndex requests that wait for a quorum or a first commit;
    further ones are dropped.
    """

    id: int
    storage: LogReader
    random: Random
    election_tick: int = 10
    heartbeat_tick: int = 1
    applied: int = 0
    async_storage_writes: bool = False
    max_size_per_message_bytes: int = 1 << 20
    max_committed_bytes_per_ready: int = NO_LIMIT
    max_uncommitted_bytes: int = NO_LIMIT
    max_inflight_messages: int = 256
    max_inflight_bytes: int = 0
    max_pending_reads: int = 4096
    check_quorum: bool = False
    pre_vote: bool = False
    read_only: ReadOnlyMode = ReadOnlyMode.SAFE
    disable_proposal_forwarding: bool = False
    disable_conf_change_validation: bool = False
    step_down_on_removal: bool = False
    trace: Callable[[TraceEvent], None] | None = None

    def check(self) -> None:
        """Raise ValueError if a member with these settings could not work."""
        if self.id <= 0 or self.id >= (1 << 64) - 2:
            raise ValueError("a member id must be positive and not a storage pseudo id")
        if self.heartbeat_tick <= 0 or self.election_tick <= self.heartbeat_tick:
            raise ValueError("election_tick must be greater than heartbeat_tick, both positive")
        if self.max_inflight_messages <= 0 or self.max_pending_reads <= 0:
            raise ValueError("limits on messages and reads must be positive")
        if 0 < self.max_inflight_bytes < self.max_size_per_message_bytes:
            raise ValueError("max_inflight_bytes must hold at least one whole message")
        if self.max_committed_bytes_per_ready <= 0 or self.max_uncommitted_bytes <= 0:
            raise ValueError("limits on committed and uncommitted bytes must be positive")
        if self.read_only is ReadOnlyMode.LEASE_BASED and not self.check_quorum:
            raise ValueError("lease-based reads need check_quorum")

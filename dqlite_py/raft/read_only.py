"""ReadIndex requests that wait for a quorum to confirm the leader (dissertation section 6.4)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from dqlite_py.raft.messages import Message


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A request, the commit index when it arrived, and its number among this term's requests."""

    request: Message
    index: int
    sequence: int


class PendingReads:
    """Requests of the current term in order of arrival.

    Every heartbeat carries the number of the latest request. A follower that echoes number n
    still followed this leader after requests up to n had arrived, so it confirms all of them. The
    numbers need to be unique only within a term because echoes of other terms are dropped.
    """

    def __init__(self) -> None:
        self._queue: deque[PendingRead] = deque()
        self._last = 0
        self._confirmed: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, request: Message, index: int) -> None:
        """Queue ``request``; a read at ``index`` or later will answer it."""
        self._last += 1
        self._queue.append(PendingRead(request, index, self._last))

    def heartbeat_context(self) -> bytes:
        """Return what heartbeats must carry now; empty when nothing waits."""
        return self._last.to_bytes(8, "big") if self._queue else b""

    def acknowledged(self, member: int, context: bytes) -> None:
        """Note that ``member`` echoed ``context``."""
        sequence = int.from_bytes(context, "big")
        if sequence > self._confirmed.get(member, 0):
            self._confirmed[member] = sequence

    def confirmed(self) -> dict[int, int]:
        """Return the highest number that each member has echoed."""
        return self._confirmed

    def release(self, sequence: int) -> list[PendingRead]:
        """Remove and return the requests up to number ``sequence``."""
        released = []
        while self._queue and self._queue[0].sequence <= sequence:
            released.append(self._queue.popleft())
        return released

"""The leader's book of lease deadlines: pure, told the time, touching nothing else.

Deadlines exist only while this member leads. A TTL is a lower bound: a lease never ends early, and
once it has expired no renewal brings it back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

MOST_PER_SECOND = 750  # after a change of leader, deadlines are spread to about this rate
_HEAP_SLACK = 64
RETRY_S = 3.0  # a revoke that failed is tried again after this long


@dataclass(slots=True)
class _Lease:
    ttl_s: int
    deadline_s: float
    queued: bool = False  # its revoke is under way: no renewal any more


class Renewal(Enum):
    """Why a lease was not renewed."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"  # its revoke is not applied yet: wait for it


class Lessor:
    """Deadlines of all leases, on one leader's monotonic clock (seconds)."""

    def __init__(self, *, grace_s: float) -> None:
        """``grace_s`` (an election timeout) is added when leading begins: nobody could renew."""
        self._grace_s = grace_s
        self._leases: dict[int, _Lease] = {}
        # One entry a lease. A renewal leaves it where it is; it is put back when it comes up.
        self._heap: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._leases)

    def promote(self, leases: Iterable[tuple[int, int]], now_s: float) -> None:
        """Begin to lead with ``leases`` as (id, ttl_s): each gets its full TTL and the grace.

        Where more than ``MOST_PER_SECOND`` would expire within a second, the rest is put off.
        """
        self.demote()
        window_s, used = 0.0, 0
        for lease, ttl_s in sorted(leases, key=lambda item: item[1]):
            deadline_s = now_s + ttl_s + self._grace_s
            if deadline_s >= window_s + 1.0:
                window_s, used = deadline_s, 0
            elif used >= MOST_PER_SECOND:
                window_s, used = window_s + 1.0, 0
            used += 1
            self._add(lease, ttl_s, max(deadline_s, window_s))

    def demote(self) -> None:
        """Stop leading: forget all deadlines."""
        self._leases.clear()
        self._heap.clear()

    def reconcile(self, leases: Iterable[tuple[int, int]], now_s: float) -> None:
        """Take ``leases`` as all there are: add the missing with full TTL, drop the others."""
        current = dict(leases)
        for lease in [lease for lease in self._leases if lease not in current]:
            self.revoked(lease)
        for lease, ttl_s in current.items():
            if lease not in self._leases:
                self.granted(lease, ttl_s, now_s)

    def granted(self, lease: int, ttl_s: int, now_s: float) -> None:
        """A grant has been committed: its time starts now, unless the lease is known already."""
        if lease not in self._leases:
            self._add(lease, ttl_s, now_s + ttl_s)

    def revoked(self, lease: int) -> None:
        """A revoke has been committed; an unknown lease is ignored."""
        self._leases.pop(lease, None)
        if len(self._heap) > 2 * len(self._leases) + _HEAP_SLACK:
            # Entries of leases long gone must not outlive them by their whole TTL.
            kept = ((found.deadline_s, lease) for lease, found in self._leases.items())
            self._heap = list(kept)
            heapq.heapify(self._heap)

    def renew(self, lease: int, now_s: float) -> int | Renewal:
        """Give a lease its full TTL again and return it, or say why not."""
        found = self._leases.get(lease)
        if found is None:
            return Renewal.UNKNOWN
        if found.queued or now_s >= found.deadline_s:
            return Renewal.EXPIRED
        found.deadline_s = now_s + found.ttl_s
        return found.ttl_s

    def remaining_s(self, lease: int, now_s: float) -> tuple[float, int] | None:
        """Return (remaining, granted TTL) in seconds, None for an unknown lease."""
        found = self._leases.get(lease)
        if found is None:
            return None
        remaining_s = 0.0 if found.queued else max(0.0, found.deadline_s - now_s)
        return remaining_s, found.ttl_s

    def due(self, now_s: float, limit: int) -> list[int]:
        """Return up to ``limit`` expired leases, oldest first; their revokes count as queued."""
        result: list[int] = []
        while self._heap and len(result) < limit and self._heap[0][0] <= now_s:
            _, lease = heapq.heappop(self._heap)
            found = self._leases.get(lease)
            if found is None:
                continue
            if found.deadline_s > now_s:
                heapq.heappush(self._heap, (found.deadline_s, lease))
                continue
            if not found.queued:
                found.queued = True
                result.append(lease)
        return result

    def is_queued(self, lease: int) -> bool:
        """Tell whether a revoke handed out by ``due`` is still wanted."""
        found = self._leases.get(lease)
        return found is not None and found.queued

    def revoke_failed(self, lease: int, now_s: float) -> None:
        """Hand the lease out again after ``RETRY_S``; it stays expired all the while."""
        found = self._leases.get(lease)
        if found is not None and found.queued:
            found.queued = False
            heapq.heappush(self._heap, (now_s + RETRY_S, lease))

    def _add(self, lease: int, ttl_s: int, deadline_s: float) -> None:
        self._leases[lease] = _Lease(ttl_s, deadline_s)
        heapq.heappush(self._heap, (deadline_s, lease))

"""What a run reached: a simulation that never meets a fault proves nothing about it."""

from __future__ import annotations

from collections import Counter

# In the order in which they are shown; every one must be reached by a run of some length.
REACHED = (
    "operations",
    "operations with unknown outcome",
    "linearizable reads",
    "serializable reads",
    "stale-read attempts",
    "watch events",
    "watch resumes",
    "elections",
    "leader changes",
    "transfers",
    "speculation rollbacks",
    "snapshots installed",
    "membership changes",
    "joint changes",
    "compactions",
    "leases granted",
    "lease expiries",
    "crashes",
    "lost unsynced writes",
    "torn log tails",
    "torn checkpoints",
    "power cuts mid-write",
    "full disks",
    "read errors",
    "flipped bits",
    "flipped bits refused",
    "slow disks",
    "partitions",
    "one-way partitions",
    "pauses",
    "connections dropped",
    "messages duplicated",
    "messages reordered",
)


class Coverage(Counter[str]):
    """Counts by name; counting a name that is not listed is a mistake."""

    def hit(self, name: str, times: int = 1) -> None:
        assert name in REACHED, name
        self[name] += times

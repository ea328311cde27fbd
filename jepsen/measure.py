"""What a run amounted to: counts, availability under faults, and the time to recover."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jepsen.history import NEMESIS, Event, Operation

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Window:
    """One fault, from its start to its end, in nanoseconds of the run."""

    start_ns: int
    stop_ns: int


def windows(events: Iterable[Event]) -> list[Window]:
    """Return when faults were on."""
    found = []
    began: int | None = None
    for event in events:
        if event.process != NEMESIS:
            continue
        if event.f == "start" and began is None:
            began = event.time_ns
        elif event.f == "stop" and began is not None:
            found.append(Window(began, event.time_ns))
            began = None
    return found


def counts(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return how many operations there were, by outcome and by kind."""
    outcomes = Counter(operation.type for operation in operations)
    kinds: dict[str, Counter[str]] = {}
    for operation in operations:
        kinds.setdefault(operation.f, Counter())[operation.type] += 1
    return {
        "total": len(operations),
        "ok": outcomes["ok"],
        "fail": outcomes["fail"],
        "info": outcomes["info"],
        "by_kind": {kind: dict(counted) for kind, counted in sorted(kinds.items())},
    }


def availability(events: Sequence[Event], operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the shares of operations that were answered, and the times to recover.

    Recovery is from the end of a fault to the first answer to something asked after it.
    """
    faults = windows(events)
    during: Counter[bool] = Counter()
    calm: Counter[bool] = Counter()
    for operation in operations:
        asked = operation.invocation.time_ns
        faulty = any(fault.start_ns <= asked < fault.stop_ns for fault in faults)
        (during if faulty else calm)[operation.is_ok] += 1
    recovery = recoveries_s(faults, operations)
    return {
        "faults": len(faults),
        "ok_share_during_faults": _share(during),
        "ok_share_otherwise": _share(calm),
        "recovery_median_s": round(statistics.median(recovery), 3) if recovery else None,
        "recovery_max_s": round(max(recovery), 3) if recovery else None,
    }


def recoveries_s(faults: Iterable[Window], operations: Sequence[Operation]) -> list[float]:
    """Return the time to recover from each fault after which anything was answered."""
    times = [_recovery_s(fault.stop_ns, operations) for fault in faults]
    return [time for time in times if time is not None]


def _share(counted: Counter[bool]) -> float | None:
    total = counted[True] + counted[False]
    return round(counted[True] / total, 4) if total else None


def _recovery_s(stop_ns: int, operations: Sequence[Operation]) -> float | None:
    answered = [
        operation.completion.time_ns
        for operation in operations
        if operation.is_ok
        and operation.completion is not None
        and operation.invocation.time_ns >= stop_ns
    ]
    return (min(answered) - stop_ns) / SECOND_NS if answered else None

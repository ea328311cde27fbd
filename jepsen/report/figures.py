"""The numbers of a run: latencies, and what each fault did to the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from jepsen.history import NEMESIS, Event, Operation
from jepsen.measure import SECOND_NS, windows

QUANTILES = (0.5, 0.95, 0.99, 1.0)


@dataclass(frozen=True, slots=True)
class FaultWindow:
    """What clients met between the start and the end of one fault.

    ``recovery_s`` is from the end of the fault to the first answer to something asked after it;
    None if there was none.
    """

    nemesis: str
    start_s: float
    stop_s: float
    operations: int
    ok_share: float | None
    longest_gap_s: float
    recovery_s: float | None


def fault_windows(events: Sequence[Event], operations: Sequence[Operation]) -> list[FaultWindow]:
    """Return the figures of every fault of a history."""
    names = [
        str((event.value or {}).get("nemesis", ""))
        for event in events
        if event.process == NEMESIS and event.f == "start"
    ]
    answers_ns = sorted(
        each.completion.time_ns for each in operations if each.is_ok and each.completion
    )
    found = []
    for name, window in zip(names, windows(events), strict=False):
        asked = [
            each
            for each in operations
            if window.start_ns <= each.invocation.time_ns < window.stop_ns
        ]
        found.append(
            FaultWindow(
                nemesis=name,
                start_s=_seconds(window.start_ns),
                stop_s=_seconds(window.stop_ns),
                operations=len(asked),
                ok_share=round(sum(each.is_ok for each in asked) / len(asked), 4)
                if asked
                else None,
                longest_gap_s=_longest_gap_s(answers_ns, window.start_ns, window.stop_ns),
                recovery_s=_recovery_s(operations, window.stop_ns),
            )
        )
    return found


def latencies_ms(operations: Sequence[Operation]) -> dict[str, dict[str, float]]:
    """Return quantiles of the latency of answered operations by kind, in milliseconds."""
    kinds: dict[str, list[float]] = {}
    for each in operations:
        if each.is_ok and each.completion is not None:
            taken_ns = each.completion.time_ns - each.invocation.time_ns
            kinds.setdefault(each.f, []).append(taken_ns / 1e6)
    return {
        kind: {
            f"p{quantile * 100:g}": round(quantile_of(sorted(values), quantile), 3)
            for quantile in QUANTILES
        }
        for kind, values in sorted(kinds.items())
    }


def quantile_of(ordered: Sequence[float], quantile: float) -> float:
    """Return a quantile of values in ascending order: the least value that reaches it."""
    place = min(len(ordered) - 1, max(0, round(quantile * len(ordered) + 0.4999) - 1))
    return ordered[place]


def figures(events: Sequence[Event], operations: Sequence[Operation]) -> dict[str, Any]:
    """Return all numbers as a JSON object."""
    return {
        "latency_ms": latencies_ms(operations),
        "faults": [asdict(window) for window in fault_windows(events, operations)],
    }


def _longest_gap_s(answers_ns: Sequence[int], start_ns: int, stop_ns: int) -> float:
    """Return the longest time without any answer within a window."""
    moments = [start_ns, *(each for each in answers_ns if start_ns < each < stop_ns), stop_ns]
    return _seconds(max(after - before for before, after in pairwise(moments)))


def _recovery_s(operations: Sequence[Operation], stop_ns: int) -> float | None:
    answered = [
        each.completion.time_ns
        for each in operations
        if each.is_ok and each.completion is not None and each.invocation.time_ns >= stop_ns
    ]
    return _seconds(min(answered) - stop_ns) if answered else None


def _seconds(nanoseconds: int) -> float:
    return round(nanoseconds / SECOND_NS, 3)

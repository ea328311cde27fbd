"""What a checker says about a history."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jepsen.history import NEVER, Operation

SHOWN_OF_A_KIND = 8
"""A checker keeps this many violations of each kind and counts the others."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: its name, what is wrong in words, and the events that prove it."""

    kind: str
    message: str
    indexes: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the violation as a JSON object."""
        return {"kind": self.kind, "message": self.message, "indexes": list(self.indexes)}


@dataclass(slots=True)
class Result:
    """The verdict of one checker; ``undecided`` says why it has none, and then it is a failure."""

    checker: str
    operations: int = 0
    violations: list[Violation] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    undecided: str | None = None
    stats: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def violation_count(self) -> int:
        """How many violations were found, kept or not."""
        return sum(self.counts.values())

    @property
    def valid(self) -> bool | str:
        """True, False or "unknown"; a violation found stands even if the rest is undecided."""
        if self.counts:
            return False
        return "unknown" if self.undecided else True

    def add(
        self, kind: str, message: str, *involved: Operation, indexes: Iterable[int] = ()
    ) -> None:
        """Add a violation, proved by operations and by events."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] <= SHOWN_OF_A_KIND:
            found = events_of(involved) | set(indexes)
            self.violations.append(Violation(kind, message, tuple(sorted(found))))

    def kinds(self) -> set[str]:
        """Return the names of the violations."""
        return set(self.counts)

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {
            "checker": self.checker,
            "valid": self.valid,
            "operations": self.operations,
            "violations": [violation.to_json() for violation in self.violations],
            "violation_count": self.violation_count,
            "counts": dict(self.counts),
            "undecided": self.undecided,
            "stats": dict(self.stats),
            "seconds": round(self.seconds, 3),
        }


class Deadline:
    """The end of the time that a checker may take."""

    def __init__(self, time_limit_s: float) -> None:
        self.time_limit_s = time_limit_s
        self._end_s = time.monotonic() + time_limit_s

    def passed(self) -> bool:
        """Return whether the time is over."""
        return time.monotonic() > self._end_s


def events_of(operations: Iterable[Operation]) -> set[int]:
    """Return the indexes of the events of some operations."""
    indexes: set[int] = set()
    for operation in operations:
        indexes.add(operation.start)
        if operation.completion is not None:
            indexes.add(operation.completion.index)
    return indexes


def describe(operation: Operation) -> str:
    """Return one line that tells a reader what an operation was and what it was told."""
    answer = operation.type if operation.answer is None else f"{operation.type} {operation.answer}"
    revision = "" if operation.revision is None else f" at revision {operation.revision}"
    key = "" if operation.key is None else f" {operation.key}"
    return f"[{operation.start}] {operation.f}{key} {operation.request} -> {answer}{revision}"


def brief(value: Any, limit: int = 160) -> str:
    """Return a value as text of bounded length."""
    text = str(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def overlap(one: Operation, other: Operation) -> bool:
    """Return whether neither operation ended before the other began."""
    return one.start < other.end and other.start < one.end


def by_key(operations: Iterable[Operation]) -> Mapping[str, list[Operation]]:
    """Group operations by key, in the order of invocation."""
    groups: dict[str, list[Operation]] = {}
    for operation in operations:
        groups.setdefault(operation.key or "", []).append(operation)
    return groups


def ended_before(one: Operation, other: Operation) -> bool:
    """Return whether one operation was over when the other began."""
    return one.end != NEVER and one.end < other.start

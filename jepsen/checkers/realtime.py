"""The order of revisions against the order of time."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from jepsen.checkers.result import Result, describe
from jepsen.history import NEVER, Operation


def position(operation: Operation, *, writes: bool) -> int:
    """Return the place of an answered operation in the only order that its revision allows."""
    assert operation.revision is not None
    return 2 * operation.revision + (0 if writes else 1)


class Floor:
    """The newest revision that anybody had been told, as a function of time."""

    def __init__(self, told: Iterable[tuple[int, int, Operation]]) -> None:
        """Take (index of the completion, position, operation) of the answered operations."""
        self._ends: list[int] = []
        self._highest: list[tuple[int, Operation]] = []
        for end, place, operation in sorted(told, key=lambda each: each[0]):
            if not self._highest or place > self._highest[-1][0]:
                self._ends.append(end)
                self._highest.append((place, operation))

    def before(self, index: int) -> tuple[int, Operation | None]:
        """Return the highest position told before an event, and the operation that told it."""
        count = bisect_right(self._ends, index)
        return self._highest[count - 1] if count else (0, None)


def told_revisions(operations: Iterable[Operation]) -> Iterator[Operation]:
    """Yield the linearizable operations that were answered with a revision."""
    for each in operations:
        if each.revision is not None and not each.serializable:
            yield each


def check_order(
    result: Result, answered: Iterable[tuple[Operation, bool]], *, kind: str = "real-time order"
) -> Floor:
    """Add a violation for each operation that took effect before one that had ended already.

    Takes linearizable operations with a revision, and whether each made its revision. Two
    writes of one revision are a violation too.
    """
    placed = [(each, position(each, writes=writes), writes) for each, writes in answered]
    floor = Floor((each.end, place, each) for each, place, _ in placed if each.end != NEVER)
    writers: dict[int, Operation] = {}
    for operation, place, writes in placed:
        least, earlier = floor.before(operation.start)
        if earlier is not None and (place < least or (writes and place == least)):
            result.add(
                kind,
                f"{describe(operation)} took effect before {describe(earlier)}, "
                "which had ended before it began",
                earlier,
                operation,
            )
        if writes:
            other = writers.setdefault(place, operation)
            if other is not operation:
                result.add(
                    "two writes at one revision",
                    f"{describe(other)} and {describe(operation)}",
                    other,
                    operation,
                )
    return floor

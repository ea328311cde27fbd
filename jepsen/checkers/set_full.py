"""Sets that only grow: what became of every element, after Jepsen's set-full.

An element is known from the moment at which its addition was acknowledged, or at which a read
that saw it ended. A linearizable read that begins later must contain it. If some read lacks a
known element and a later read has it, the first was **stale**; if no later read has it, the
element is **lost**. An element that was acknowledged but that no read could have seen is
**never read**: it proves nothing, and is only counted.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from jepsen.checkers.realtime import check_order, told_revisions
from jepsen.checkers.result import Result, by_key, describe
from jepsen.checkers.stale_reads import check_sets_at_revisions
from jepsen.history import FAIL, OK, Operation


def check_sets(operations: Sequence[Operation]) -> Result:
    """Check every set of a history; reads that may be stale must not invent elements."""
    result = Result("set-full")
    began_s = time.monotonic()
    counts: Counter[str] = Counter()
    for name, group in by_key(operations).items():
        _OneSet(name, group, result, counts).check()
    check_sets_at_revisions(result, operations)
    check_order(result, ((each, each.f == "add") for each in told_revisions(operations)))
    result.stats.update(counts)
    result.operations = sum(1 for each in operations if each.is_ok)
    result.seconds = time.monotonic() - began_s
    return result


class _OneSet:
    def __init__(
        self, name: str, operations: Sequence[Operation], result: Result, counts: Counter[str]
    ) -> None:
        self._name = name
        self._result = result
        self._counts = counts
        self._adds = {each.request: each for each in operations if each.f == "add"}
        self._reads = [each for each in operations if each.f == "read" and each.is_ok]

    def check(self) -> None:
        """Judge every read, then every element that was missing from one."""
        for read in self._reads:
            self._check_contents(read)
        missing = self._missing()
        for element, reads in missing.items():
            self._judge(element, reads)
        self._counts["elements"] += len(self._adds)
        acknowledged = {each for each, add in self._adds.items() if add.type == OK}
        self._counts["acknowledged"] += len(acknowledged)
        last = max((read.start for read in self._reads if not read.serializable), default=-1)
        self._counts["never_read"] += sum(
            1 for element in acknowledged if self._adds[element].end > last
        )

    def _check_contents(self, read: Operation) -> None:
        elements: list[Any] = read.answer
        for element, count in Counter(elements).items():
            add = self._adds.get(element)
            if count > 1:
                self._report("duplicated", element, f"{count} times in one read", read)
            if add is None or add.start > read.end:
                self._report("phantom", element, "read before anybody added it", read)
            elif add.type == FAIL:
                self._report("aborted", element, "read though its addition was refused", add, read)

    def _missing(self) -> dict[Any, list[Operation]]:
        """Return, for each element, the linearizable reads that lack it but began too late to."""
        moments: list[tuple[int, int, Operation]] = [
            (add.end, 0, add) for add in self._adds.values() if add.type == OK
        ]
        for read in self._reads:
            moments.append((read.end, 1, read))
            if not read.serializable:
                moments.append((read.start, 2, read))
        known: set[Any] = set()
        missing: dict[Any, list[Operation]] = {}
        for _, kind, operation in sorted(moments, key=lambda moment: moment[:2]):
            if kind == 0:
                known.add(operation.request)
            elif kind == 1:
                known.update(operation.answer)
            else:
                for element in known.difference(operation.answer):
                    missing.setdefault(element, []).append(operation)
        return missing

    def _judge(self, element: Any, lacking: Sequence[Operation]) -> None:
        last = max(read.start for read in lacking)
        seen = [read for read in self._reads if element in read.answer]
        after = [read for read in seen if read.end > last]
        add = [self._adds[element]] if element in self._adds else []
        if after:
            text = f"{len(lacking)} reads lack it, later ones have it"
            self._report("stale", element, text, *add, lacking[0], after[-1])
        else:
            text = f"{len(lacking)} reads lack it, and none has it afterwards"
            self._report("lost", element, text, *add, *seen[-1:], lacking[0])

    def _report(self, kind: str, element: Any, text: str, *involved: Operation) -> None:
        self._counts[kind] += 1
        shown = "" if not involved else f"; see {describe(involved[0])[:120]}"
        self._result.add(kind, f"{element} of set {self._name!r}: {text}{shown}", *involved)

"""Transactions that read and write unique values: revisions show the order of the writes."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from jepsen.checkers.cycles import RW, WR, WW, Graph, report_cycles
from jepsen.checkers.list_append import micro_operations
from jepsen.checkers.realtime import check_order, told_revisions
from jepsen.checkers.result import Result, brief, describe
from jepsen.history import FAIL, Operation


def check_read_write(operations: Sequence[Operation]) -> Result:
    """Check that the transactions of a wr workload are strictly serializable."""
    began_s = time.monotonic()
    result = Result("rw-register")
    history = _Registers([each for each in operations if each.f == "txn"], result)
    history.check_reads()
    history.check_revisions()
    graph = history.graph()
    report_cycles(result, graph, history.nodes)
    result.operations = sum(1 for each in history.nodes if each.is_ok)
    result.stats["edges"] = sum(map(len, graph.after))
    result.stats["keys"] = len(history.versions)
    result.seconds = time.monotonic() - began_s
    return result


@dataclass(frozen=True, slots=True)
class Read:
    """What a transaction saw of a key before it wrote it; ``revision`` 0 if there was nothing."""

    key: str
    value: Any
    revision: int


class _Registers:
    def __init__(self, operations: Sequence[Operation], result: Result) -> None:
        self._result = result
        self.writer: dict[tuple[str, Any], Operation] = {}
        self.versions: dict[str, dict[int, Operation]] = {}
        self._answered = [each for each in operations if each.is_ok]
        for operation in operations:
            for name, key, value in operation.request:
                if name != "w":
                    continue
                self.writer[key, value] = operation
        for operation in self._answered:
            self._add_writes(operation)
        for operation in self._answered:
            for read in self._reads(operation):
                self._add_version(operation, read)
        seen = {each.start for versions in self.versions.values() for each in versions.values()}
        self.nodes = [
            each for each in operations if each.is_ok or (each.type != FAIL and each.start in seen)
        ]

    def _add_writes(self, operation: Operation) -> None:
        written = writes(operation)
        if operation.revision is None:
            if written:
                self._result.add("no revision", describe(operation), operation)
            return
        for key in written:
            versions = self.versions.setdefault(key, {})
            other = versions.setdefault(operation.revision, operation)
            if other is not operation:
                text = f"{key}: {describe(other)} and {describe(operation)}"
                self._result.add("two writes at one revision", text, other, operation)

    def _add_version(self, operation: Operation, read: Read) -> None:
        """Learn from a read who wrote a version; the writer may never have had an answer."""
        writer = self.writer.get((read.key, read.value))
        if writer is None or writer.type == FAIL or not read.revision:
            return
        known = self.versions.setdefault(read.key, {}).setdefault(read.revision, writer)
        if writer.revision is None and known is writer:
            # It happened, so all of it did, at this revision.
            for key in writes(writer):
                self.versions.setdefault(key, {}).setdefault(read.revision, writer)
        wrong = writer.revision is not None and writer.revision != read.revision
        if known is not writer or wrong:
            text = f"{describe(operation)} saw {read}, which {describe(writer)} wrote"
            self._result.add("incompatible order", text, operation, writer, known)

    def _reads(self, operation: Operation) -> Iterator[Read]:
        touched: set[str] = set()
        revisions = operation.extra.get("mod_revisions")
        for place, (name, key, value) in enumerate(micro_operations(operation)):
            if key in touched:
                continue
            touched.add(key)
            if name == "r":
                revision = revisions[place] if revisions else self._revision_of(key, value)
                yield Read(key, value, revision or 0)

    def _revision_of(self, key: str, value: Any) -> int:
        writer = self.writer.get((key, value))
        return 0 if writer is None or writer.revision is None else writer.revision

    def check_reads(self) -> None:
        """Find what is wrong with single reads and with pairs of updates."""
        updates: dict[tuple[str, int], Operation] = {}
        for operation in self._answered:
            self._check_internal(operation)
            written = writes(operation)
            for read in self._reads(operation):
                self._check_read(operation, read)
                if read.key not in written:
                    continue
                other = updates.setdefault((read.key, read.revision), operation)
                if other is not operation:
                    text = f"{describe(other)} and {describe(operation)} both updated {read.key}"
                    self._result.add("lost update", text, other, operation)

    def _check_internal(self, operation: Operation) -> None:
        expected: dict[str, Any] = {}
        for name, key, value in micro_operations(operation):
            if name == "r" and key in expected and expected[key] != value:
                self._result.add(
                    "internal", f"contradicts itself: {describe(operation)}", operation
                )
            expected[key] = value

    def _check_read(self, operation: Operation, read: Read) -> None:
        if (read.value is None) != (read.revision == 0):
            self._result.add("incompatible order", f"{describe(operation)} saw {read}", operation)
        if read.value is None:
            return
        writer = self.writer.get((read.key, read.value))
        if writer is None or writer.start > operation.end:
            text = f"{read} was not written yet: {describe(operation)}"
            self._result.add("phantom", text, operation)
        elif writer.type == FAIL:
            self._result.add("G1a", f"{read} was aborted: {describe(operation)}", operation, writer)
        elif writer is not operation and writes(writer)[read.key] != read.value:
            text = f"{read} is in the middle of {describe(writer)}"
            self._result.add("G1b", text, operation, writer)

    def check_revisions(self) -> None:
        """Hold revisions to real time, and every read to the newest version at its revision."""
        told = [(each, bool(writes(each))) for each in told_revisions(self._answered)]
        check_order(self._result, told)
        orders = {key: sorted(versions) for key, versions in self.versions.items()}
        for operation, wrote in told:
            assert operation.revision is not None
            newest = operation.revision - wrote
            for read in self._reads(operation):
                order = orders.get(read.key, [])
                place = bisect_right(order, newest)
                if read.revision != (order[place - 1] if place else 0):
                    text = (
                        f"{describe(operation)} saw {read}; versions {order[max(0, place - 2) :]}"
                    )
                    self._result.add("wrong at its revision", brief(text, 600), operation)

    def graph(self) -> Graph:
        """Return the graph over ``nodes``."""
        graph = Graph(len(self.nodes))
        place = {operation.start: node for node, operation in enumerate(self.nodes)}
        following: dict[tuple[str, int], int] = {}
        for key, versions in self.versions.items():
            order = [(0, -1)] + [(each, place[versions[each].start]) for each in sorted(versions)]
            for (before, one), (_, other) in pairwise(order):
                following[key, before] = other
                if one >= 0:
                    graph.add(one, other, WW)
        for node, operation in enumerate(self.nodes):
            if not operation.is_ok:
                continue
            for read in self._reads(operation):
                writer = self.versions.get(read.key, {}).get(read.revision)
                if writer is not None:
                    graph.add(place[writer.start], node, WR)
                if (read.key, read.revision) in following:
                    graph.add(node, following[read.key, read.revision], RW)
        graph.add_processes(self.nodes)
        graph.add_time(self.nodes)
        return graph


def writes(operation: Operation) -> dict[str, Any]:
    """Return the last value that a transaction writes to each key."""
    return {key: value for name, key, value in operation.request if name == "w"}

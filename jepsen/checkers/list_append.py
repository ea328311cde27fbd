"""Transactions over lists that only grow: each list read shows the order of its writes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from jepsen.checkers.cycles import RW, WR, WW, Graph, report_cycles
from jepsen.checkers.result import Result, describe
from jepsen.history import FAIL, Operation


def check_list_append(operations: Sequence[Operation]) -> Result:
    """Check that the transactions of an append workload are strictly serializable."""
    began_s = time.monotonic()
    result = Result("list-append")
    history = _Lists([each for each in operations if each.f == "txn"], result)
    history.check_reads()
    graph = history.graph()
    report_cycles(result, graph, history.nodes)
    result.operations = sum(1 for each in history.nodes if each.is_ok)
    result.stats["edges"] = sum(map(len, graph.after))
    result.stats["keys"] = len(history.orders)
    result.seconds = time.monotonic() - began_s
    return result


def micro_operations(operation: Operation) -> Sequence[Sequence[Any]]:
    """Return the micro-operations as answered, or as asked for."""
    answer: Sequence[Sequence[Any]] = operation.answer if operation.is_ok else operation.request
    return answer


def external_reads(operation: Operation, writes: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the reads that come before any write of their key."""
    touched: set[str] = set()
    for name, key, value in micro_operations(operation):
        if name == writes:
            touched.add(key)
        elif key not in touched:
            touched.add(key)
            yield key, value


class _Lists:
    def __init__(self, operations: Sequence[Operation], result: Result) -> None:
        self._result = result
        self.appender: dict[tuple[str, Any], Operation] = {}
        self.orders: dict[str, list[Any]] = {}
        self._longest: dict[str, Operation] = {}
        for operation in operations:
            for name, key, value in operation.request:
                if name == "append":
                    self.appender[key, value] = operation
        self._answered = [each for each in operations if each.is_ok]
        for operation in self._answered:
            for key, values in self._reads(operation):
                if len(values) > len(self.orders.get(key, ())):
                    self.orders[key] = values
                    self._longest[key] = operation
        seen = {
            self.appender[key, value].start
            for key, values in self.orders.items()
            for value in values
            if (key, value) in self.appender
        }
        self.nodes = [
            each for each in operations if each.is_ok or (each.type != FAIL and each.start in seen)
        ]

    def _reads(self, operation: Operation) -> Iterator[tuple[str, list[Any]]]:
        """Yield what a transaction read from outside: own appends are taken off the end."""
        own: dict[str, list[Any]] = {}
        for name, key, value in micro_operations(operation):
            if name == "append":
                own.setdefault(key, []).append(value)
                continue
            mine = own.get(key, [])
            kept = len(value) - len(mine)
            if value[kept:] == mine if kept >= 0 else False:
                yield key, value[:kept]

    def check_reads(self) -> None:
        """Find what is wrong with single reads."""
        for operation in self._answered:
            self._check_internal(operation)
            for key, values in self._reads(operation):
                self._check_read(operation, key, values)
        for key, order in self.orders.items():
            self._check_dirty_update(key, order)
            self._check_own_order(key, order)
        self._check_lost_updates()

    def _check_internal(self, operation: Operation) -> None:
        expected: dict[str, list[Any]] = {}
        own: dict[str, list[Any]] = {}
        for name, key, value in micro_operations(operation):
            if name == "append":
                own.setdefault(key, []).append(value)
                if key in expected:
                    expected[key] = [*expected[key], value]
                continue
            mine = own.get(key, [])
            wrong = key in expected and value != expected[key]
            if wrong or (mine and value[-len(mine) :] != mine):
                self._result.add(
                    "internal", f"contradicts itself: {describe(operation)}", operation
                )
            expected[key] = value

    def _check_read(self, operation: Operation, key: str, values: list[Any]) -> None:
        if len(set(values)) != len(values):
            text = f"{key} has an element twice: {describe(operation)}"
            self._result.add("duplicate elements", text, operation)
        order = self.orders[key] if values else []
        if values != order[: len(values)]:
            text = f"{key} read as {values} and as {order}"
            self._result.add("incompatible order", text, operation, self._longest[key])
        for value in values:
            writer = self.appender.get((key, value))
            if writer is None or writer.start > operation.end:
                text = f"{value} in {key} was not written yet: {describe(operation)}"
                self._result.add("phantom", text, operation)
            elif writer.type == FAIL:
                text = f"{value} in {key} was aborted: {describe(operation)}"
                self._result.add("G1a", text, operation, writer)
        if values:
            self._check_intermediate(operation, key, values[-1])

    def _check_intermediate(self, operation: Operation, key: str, last: Any) -> None:
        writer = self.appender.get((key, last))
        if writer is None or writer is operation:
            return
        appended = [value for name, k, value in writer.request if name == "append" and k == key]
        if appended[-1] != last:
            text = f"{key} ends with {last}, in the middle of {describe(writer)}"
            self._result.add("G1b", text, operation, writer)

    def _check_dirty_update(self, key: str, order: Sequence[Any]) -> None:
        aborted: Operation | None = None
        for value in order:
            writer = self.appender.get((key, value))
            if writer is None:
                continue
            if writer.type == FAIL:
                aborted = writer
            elif aborted is not None and writer.is_ok:
                text = f"{describe(writer)} built on {describe(aborted)}"
                self._result.add("dirty update", text, writer, aborted)
                return

    def _check_own_order(self, key: str, order: Sequence[Any]) -> None:
        """The appends of one transaction to a key stand in the order in which it made them."""
        seen: dict[int, list[Any]] = {}
        for value in dict.fromkeys(order):
            writer = self.appender.get((key, value))
            if writer is not None:
                seen.setdefault(writer.start, []).append(value)
        for values in seen.values():
            writer = self.appender[key, values[0]]
            made = [value for name, k, value in writer.request if name == "append" and k == key]
            if values != made[: len(values)]:
                text = f"{key} shows {values} of {describe(writer)}"
                self._result.add("incompatible order", text, writer, self._longest[key])

    def _check_lost_updates(self) -> None:
        """Two transactions that read one version of a key and both wrote it cannot both count."""
        updates: dict[tuple[str, Any], Operation] = {}
        for operation in self._answered:
            written = {key for name, key, _ in operation.request if name == "append"}
            for key, values in external_reads(operation, "append"):
                if key not in written:
                    continue
                version = values[-1] if values else None
                other = updates.setdefault((key, version), operation)
                if other is not operation:
                    text = f"{describe(other)} and {describe(operation)} both updated {key}"
                    self._result.add("lost update", text, other, operation)

    def graph(self) -> Graph:
        """Return the graph over ``nodes``."""
        graph = Graph(len(self.nodes))
        place = {operation.start: node for node, operation in enumerate(self.nodes)}
        writers: dict[tuple[str, Any], int] = {}
        for appended, operation in self.appender.items():
            if operation.start in place:
                writers[appended] = place[operation.start]
        following: dict[tuple[str, Any], list[int]] = {}
        for key, order in self.orders.items():
            ordered = [writers.get((key, value)) for value in order]
            for one, other in pairwise(ordered):
                if one is not None and other is not None:
                    graph.add(one, other, WW)
            for before, writer in zip([None, *order], ordered, strict=False):
                if writer is not None:
                    following.setdefault((key, before), []).append(writer)
        self._add_unseen(graph, writers, following)
        for node, operation in enumerate(self.nodes):
            if operation.is_ok:
                self._add_reads(graph, node, writers, following)
        graph.add_processes(self.nodes)
        graph.add_time(self.nodes)
        return graph

    def _add_unseen(
        self,
        graph: Graph,
        writers: dict[tuple[str, Any], int],
        following: dict[tuple[str, Any], list[int]],
    ) -> None:
        """Acknowledged appends that no read shows come after everything that reads show."""
        seen = {key: set(order) for key, order in self.orders.items()}
        for (key, value), writer in writers.items():
            if not self.nodes[writer].is_ok or value in seen.get(key, ()):
                continue
            order = self.orders.get(key, [])
            last = order[-1] if order else None
            following.setdefault((key, last), []).append(writer)
            if (key, last) in writers:
                graph.add(writers[key, last], writer, WW)

    def _add_reads(
        self,
        graph: Graph,
        node: int,
        writers: dict[tuple[str, Any], int],
        following: dict[tuple[str, Any], list[int]],
    ) -> None:
        for key, values in external_reads(self.nodes[node], "append"):
            last = values[-1] if values else None
            if (key, last) in writers:
                graph.add(writers[key, last], node, WR)
            for writer in following.get((key, last), ()):
                graph.add(node, writer, RW)

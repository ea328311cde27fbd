"""Dependency graphs of transactions, and the anomalies that their cycles are.

Edges say that one transaction comes before another: ``ww`` overwrote its version, ``wr`` read
it, ``rw`` overwrote what it read; ``process`` and ``realtime`` come from who did what when. A
store is strictly serializable only if there is no cycle. Names are Adya's, as Elle uses them:
G0 is a cycle of writes, G1c of writes and reads of them, G-single has one ``rw`` edge, G2-item
several; a suffix tells that the order of a process or of time is needed to close it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from jepsen.checkers.result import Result, describe
from jepsen.history import NEVER, Operation

WW = 1
WR = 2
RW = 4
PROCESS = 8
REALTIME = 16
EDGE_NAMES = {WW: "ww", WR: "wr", RW: "rw", PROCESS: "process", REALTIME: "realtime"}
LEVELS = ((0, ""), (PROCESS, "-process"), (PROCESS | REALTIME, "-realtime"))


@dataclass(frozen=True, slots=True)
class Cycle:
    """A cycle: the nodes in order, and the kind of the edge that leaves each."""

    name: str
    nodes: tuple[int, ...]
    kinds: tuple[int, ...]


class Graph:
    """A graph over the places of transactions in a list; an edge has a set of kinds."""

    def __init__(self, size: int) -> None:
        self.after: list[dict[int, int]] = [{} for _ in range(size)]

    def add(self, one: int, other: int, kind: int) -> None:
        """Say that ``one`` comes before ``other``."""
        if one != other:
            edges = self.after[one]
            edges[other] = edges.get(other, 0) | kind

    def add_time(self, operations: Sequence[Operation]) -> None:
        """Add who came before whom in real time, without what follows from other edges."""
        moments: list[tuple[int, bool, int]] = []
        for node, operation in enumerate(operations):
            moments.append((operation.start, False, node))
            if operation.end != NEVER:
                moments.append((operation.end, True, node))
        newest: set[int] = set()
        for _, ended, node in sorted(moments):
            if not ended:
                for earlier in newest:
                    self.add(earlier, node, REALTIME)
                continue
            start = operations[node].start
            newest = {each for each in newest if operations[each].end > start}
            newest.add(node)

    def add_processes(self, operations: Sequence[Operation]) -> None:
        """Add the order of the operations of each process."""
        last: dict[int, int] = {}
        for node, operation in enumerate(operations):
            before = last.get(operation.process)
            if before is not None:
                self.add(before, node, PROCESS)
            last[operation.process] = node

    def components(self, kinds: int, nodes: Iterable[int] | None = None) -> list[list[int]]:
        """Return the strongly connected components with more than one node, by Tarjan."""
        among = None if nodes is None else set(nodes)
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        stacked: set[int] = set()
        found: list[list[int]] = []
        for root in range(len(self.after)) if among is None else sorted(among):
            if root in index:
                continue
            work: list[tuple[int, Iterator[int]]] = []
            entered: int | None = root
            while entered is not None or work:
                if entered is not None:
                    index[entered] = low[entered] = len(index)
                    stack.append(entered)
                    stacked.add(entered)
                    work.append((entered, self._next(entered, kinds, among)))
                node, successors = work[-1]
                entered = None
                for successor in successors:
                    if successor not in index:
                        entered = successor
                        break
                    if successor in stacked:
                        low[node] = min(low[node], index[successor])
                if entered is not None:
                    continue
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[node])
                if low[node] == index[node]:
                    component = _unstack(stack, stacked, node)
                    if len(component) > 1:
                        found.append(component)
        return found

    def path(self, start: int, end: int, kinds: int, among: set[int]) -> list[int] | None:
        """Return the shortest path between two nodes, both included."""
        came: dict[int, int] = {start: start}
        queue = deque([start])
        while queue:
            node = queue.popleft()
            for successor in self._next(node, kinds, among):
                if successor in came:
                    continue
                came[successor] = node
                if successor == end:
                    steps = [end]
                    while steps[-1] != start:
                        steps.append(came[steps[-1]])
                    return steps[::-1]
                queue.append(successor)
        return None

    def _next(self, node: int, kinds: int, among: set[int] | None) -> Iterator[int]:
        for successor, kind in self.after[node].items():
            if kind & kinds and (among is None or successor in among):
                yield successor


def _unstack(stack: list[int], stacked: set[int], node: int) -> list[int]:
    component: list[int] = []
    while True:
        member = stack.pop()
        stacked.discard(member)
        component.append(member)
        if member == node:
            return component


def find_cycles(graph: Graph) -> list[Cycle]:
    """Return one cycle of each anomaly for each component that has a cycle at all.

    Weaker orders are tried first, so the name says the least that is needed.
    """
    cycles: list[Cycle] = []
    for component in graph.components(WW | WR | RW | PROCESS | REALTIME):
        named: set[str] = set()
        for extra, suffix in LEVELS:
            for cycle in list(_anomalies(graph, component, extra)):
                if cycle.name not in named:
                    named.add(cycle.name)
                    cycles.append(replace(cycle, name=cycle.name + suffix))
    return cycles


def _anomalies(graph: Graph, nodes: list[int], extra: int) -> Iterator[Cycle]:
    """Yield at most one G0, G1c, and G-single (or else G2-item) within some nodes."""
    for kinds, needed, name in ((WW, WW, "G0"), (WW | WR, WR, "G1c")):
        for part in graph.components(kinds | extra, nodes):
            cycle = _through(graph, part, needed, kinds | extra)
            if cycle is not None:
                yield _named(graph, name, cycle, kinds | extra, needed)
                break
    for part in graph.components(WW | WR | RW | extra, nodes):
        single = _through(graph, part, RW, WW | WR | extra)
        if single is not None:
            yield _named(graph, "G-single", single, WW | WR | extra, RW)
            break
        double = _through(graph, part, RW, WW | WR | RW | extra)
        if double is not None:
            yield _named(graph, "G2-item", double, WW | WR | RW | extra, RW)
            break


def _through(graph: Graph, part: list[int], needed: int, kinds: int) -> list[int] | None:
    """Return a cycle that begins with an edge of a kind and goes on by edges of some kinds."""
    among = set(part)
    for node in sorted(part):
        for successor, kind in graph.after[node].items():
            if kind & needed and successor in among:
                back = graph.path(successor, node, kinds, among)
                if back is not None:
                    return [node, *back[:-1]]
    return None


def _named(graph: Graph, name: str, nodes: list[int], kinds: int, first: int) -> Cycle:
    chosen = []
    for place, node in enumerate(nodes):
        kind = graph.after[node][nodes[(place + 1) % len(nodes)]]
        usable = kind & (first if place == 0 else kinds)
        chosen.append(usable & -usable)
    return Cycle(name, tuple(nodes), tuple(chosen))


def report_cycles(result: Result, graph: Graph, operations: Sequence[Operation]) -> None:
    """Add a violation for each anomaly that the cycles of a graph are."""
    for cycle in find_cycles(graph):
        members = [operations[node] for node in cycle.nodes]
        steps = " ".join(
            f"{describe(member)} --{EDGE_NAMES[kind]}-->"
            for member, kind in zip(members, cycle.kinds, strict=True)
        )
        result.add(cycle.name, f"{steps} back to the first", *members)

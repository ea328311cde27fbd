"""What the tests leave out of a source, named so that the name survives edits elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

NEVER: Final = "never runs"
MODULE: Final = "the module"
_DECISIONS: Final = {
    ast.If: ("true", "false"),
    ast.While: ("true", "false"),
    ast.For: ("an element", "the end"),
    ast.AsyncFor: ("an element", "the end"),
}


@dataclass(frozen=True, slots=True, order=True)
class Gap:
    """One way out of a line that no test takes, or a block that none enters.

    ``line`` is the text of the source; of a block, whose ``way`` is ``NEVER``, that of its first
    line. Two gaps of one function with the same text are one.
    """

    file: str
    function: str
    line: str
    way: str

    @property
    def place(self) -> str:
        """The line and the way, as they are written in the table of reasons."""
        return f"{self.line} -> {self.way}"


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over sources."""

    branches: int = 0
    branches_taken: int = 0
    statements: int = 0
    statements_run: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.branches + other.branches,
            self.branches_taken + other.branches_taken,
            self.statements + other.statements,
            self.statements_run + other.statements_run,
        )


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """What coverage.py measured of one source; a negative end of a branch leaves the function."""

    file: str
    text: str
    run: frozenset[int]
    missing: frozenset[int]
    branches_taken: frozenset[tuple[int, int]]
    branches_missing: frozenset[tuple[int, int]]

    @property
    def totals(self) -> Totals:
        """The sums of this source."""
        return Totals(
            len(self.branches_taken) + len(self.branches_missing),
            len(self.branches_taken),
            len(self.run) + len(self.missing),
            len(self.run),
        )


def measured(file: str, text: str, report: Mapping[str, Any]) -> FileCoverage:
    """Return what the JSON report of coverage.py says of ``file``, whose source is ``text``."""

    def arcs(name: str) -> frozenset[tuple[int, int]]:
        return frozenset((start, end) for start, end in report[name])

    return FileCoverage(
        file,
        text,
        frozenset(report["executed_lines"]),
        frozenset(report["missing_lines"]),
        arcs("executed_branches"),
        arcs("missing_branches"),
    )


class Source:
    """The text of a module, and what its lines belong to."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()
        self._functions = [MODULE] * (len(self._lines) + 1)
        self._decisions: dict[int, ast.stmt] = {}
        self._visit(ast.parse(text), "")

    def _visit(self, node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            name = prefix
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{prefix}.{child.name}".lstrip(".")
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                assert child.end_lineno is not None
                # The line of the definition itself runs in what is around it.
                for number in range(child.body[0].lineno, child.end_lineno + 1):
                    self._functions[number] = name
            if isinstance(child, tuple(_DECISIONS)):
                assert isinstance(child, ast.stmt)
                self._decisions[child.lineno] = child
            self._visit(child, name)

    def line(self, number: int) -> str:
        """Return the text of a line without its indentation."""
        return self._lines[number - 1].strip()

    def function(self, number: int) -> str:
        """Return the qualified name of the function around a line."""
        return self._functions[number]

    def way(self, start: int, end: int) -> str:
        """Say which way out of line ``start`` leads to ``end``."""
        decision = self._decisions.get(start)
        if decision is not None:
            assert isinstance(decision, ast.If | ast.While | ast.For | ast.AsyncFor)
            into = decision.body[0].lineno <= end <= (decision.body[0].end_lineno or end)
            return _DECISIONS[type(decision)][0 if into else 1]
        return f"to: {self.line(end)}" if end > 0 else "leaves the function"


def gaps(measured_file: FileCoverage) -> list[Gap]:
    """Return the gaps of one source in the order of its lines.

    A block that is the far end of a gap already named is not named again, and neither is anything
    inside a block.
    """
    source = Source(measured_file.text)
    found: dict[int, list[str]] = {}
    entered_by_branch = set()
    for start, end in sorted(measured_file.branches_missing):
        if start in measured_file.run:
            found.setdefault(start, []).append(source.way(start, end))
            entered_by_branch.add(end)
    for first in _blocks(measured_file, source):
        if first not in entered_by_branch:
            found.setdefault(first, []).append(NEVER)
    named = [
        Gap(measured_file.file, source.function(number), source.line(number), way)
        for number in sorted(found)
        for way in found[number]
    ]
    return list(dict.fromkeys(named))


def _blocks(measured_file: FileCoverage, source: Source) -> Iterable[int]:
    """Yield the first lines of runs of statements, within one function, that never ran."""
    previous_missing = False
    previous_function = ""
    for number in sorted(measured_file.run | measured_file.missing):
        missing = number in measured_file.missing
        function = source.function(number)
        if missing and not (previous_missing and previous_function == function):
            yield number
        previous_missing, previous_function = missing, function

"""docs/coverage.md: the totals, and every gap with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from tests.branches.gaps import NEVER, Gap, Totals

PATH: Final = "docs/coverage.md"
_HEAD: Final = """# Branch coverage

`make coverage` runs the quick tests of `raft/`, `storage/`, `vfs/`, `db/` and `node/` and {seeds}
short seeds of the simulation, in one process each, and records every branch taken in the four
packages below. Nothing is left out: no pragma, no excluded file or line. etcd-io/raft's transcripts
are not counted, because they are not part of the project, and neither are tests that start server
processes.

Every way out of a line that no test takes is listed with the reason; so is every block of
statements that is never entered and is not the far end of such a branch. What lies inside such a
block is not listed again. The command fails if one has no reason, or if a reason is left for what
is covered or gone; those that begin with "now and then" hang on how threads meet, and some runs
take them. The reasons are in `tests/branches/reasons.toml`. Generated: do not edit.

| package | branches taken | of | | statements run | of | listed below |
|---|---:|---:|---:|---:|---:|---:|
"""

_COLUMNS: Final = "| in | line | which way | why no test takes it |\n|---|---|---|---|\n"


def page(totals: Mapping[str, Totals], explained: Sequence[tuple[Gap, str]], *, seeds: int) -> str:
    """Return the page."""
    rows = [_row(name, part, _listed(name, explained)) for name, part in totals.items()]
    rows.append(_row("all", sum(totals.values(), Totals()), len(explained)))
    text = _HEAD.format(seeds=seeds) + "\n".join(rows) + "\n"
    for file, found in groupby(explained, key=lambda one: one[0].file):
        text += (
            f"\n## {file}\n\n| in | line | which way | why no test takes it |\n|---|---|---|---|\n"
        )
        text += "".join(
            f"| `{gap.function}` | {_code(gap.line)} | {_way(gap.way)} | {reason} |\n"
            for gap, reason in found
        )
    return text


def _listed(package: str, explained: Sequence[tuple[Gap, str]]) -> int:
    return sum(gap.file.startswith(f"{package}/") for gap, _ in explained)


def _row(name: str, part: Totals, listed: int) -> str:
    share = 100 * part.branches_taken / part.branches if part.branches else 100.0
    return (
        f"| {name} | {part.branches_taken} | {part.branches} | {share:.1f} % "
        f"| {part.statements_run} | {part.statements} | {listed} |"
    )


def _way(way: str) -> str:
    lead, colon, line = way.partition(": ")
    return f"{lead} {_code(line)}" if way != NEVER and colon else way


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"

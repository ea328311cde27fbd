"""The table of mutants and killers, generated into docs/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.mutants.gate import Verdict

PATH = "docs/mutants.md"
_HEAD = """# The mutation gate

`make mutants` breaks the code in {count} places, one at a time, and runs the tests against each.
Every breakage is a mistake that somebody could make, written by hand; those marked *design* were
chosen from the design alone, before any test was read. All must be noticed. The last column names
the test that noticed, which passes without the breakage. Rules and decisions are numbered as in the
comments of the code. Generated: do not edit.

| mutant | in | chosen from | the slip | breaks | killed by |
|---|---|---|---|---|---|
"""


def write(root: Path, verdicts: Sequence[Verdict]) -> None:
    """Write the table of ``verdicts`` into the tree at ``root``."""
    rows = [_row(verdict) for verdict in verdicts]
    text = _HEAD.format(count=len(rows)) + "\n".join(rows) + "\n"
    (root / PATH).write_text(text)


def _row(verdict: Verdict) -> str:
    mutant = verdict.mutant
    if verdict.killed and verdict.killer is not None:
        killer = f"`{verdict.killer.removeprefix('tests/').replace('|', ' ')}`"
    else:
        killer = f"**survives** {verdict.trouble}".strip()
    cells = (mutant.name, f"`{mutant.file}`", mutant.chosen_from, mutant.slip, mutant.breaks)
    return f"| {' | '.join((*cells, killer))} |"

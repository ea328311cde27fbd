"""The matrix of workloads and nemeses: every pair that makes sense, resumable, with a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jepsen.nemesis import all_nemeses
from jepsen.run import CannotRun, Options, commit, execute, results_directory
from jepsen.workloads import all_workloads

SENSELESS = {
    ("membership", "member"): "the nemesis changes the very list whose changes are counted",
    ("membership", "corrupt"): "a damaged member is replaced, which changes the list",
}
"""Pairs that are left out, and why."""

CORE = (
    *(("register", "partition-leader"), ("set", "kill-all"), ("kv", "mixed")),
    *(("append", "partition-one-way"), ("wr", "pause-leader"), ("watch", "kill-one")),
    *(("lease", "kill-one"), ("membership", "partition-leader"), ("set", "lost-writes")),
    *(("append", "lossy"), ("kv", "snapshot")),
)
"""The pairs of the ten-minute run: every workload, and the faults that found most elsewhere."""


@dataclass(frozen=True)
class Cell:
    """One pair of the matrix; ``reason`` says why it is left out."""

    workload: str
    nemesis: str
    reason: str | None = None

    @property
    def name(self) -> str:
        """The name of the cell's file."""
        return f"{self.workload}.{self.nemesis}"


def cells(only: Iterable[tuple[str, str]] | None = None) -> list[Cell]:
    """Return all pairs, or those asked for."""
    pairs = only or [(w, n) for n in all_nemeses() for w in all_workloads()]
    known = set(all_workloads())
    return [Cell(w, n, SENSELESS.get((w, n))) for w, n in pairs if w in known]


def run_matrix(
    options: Options,
    chosen: Iterable[Cell],
    *,
    resume: bool,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Run the cells one after the other; with ``resume`` those of this commit are not repeated.

    Each outcome is one JSON file in a folder named for the product and the commit.
    """
    folder = results_directory() / "matrix" / f"{options.product}-{commit()}"
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = []
    todo = list(chosen)
    for number, cell in enumerate(todo, 1):
        file = folder / f"{cell.name}.json"
        if resume and file.exists():
            outcome = json.loads(file.read_text())
            if outcome.get("time_limit_s", 0) >= options.time_limit_s or "skipped" in outcome:
                outcomes.append(outcome)
                continue
        outcome = _run_cell(options, cell, folder)
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(outcome, indent=1) + "\n")
        fresh.replace(file)
        outcomes.append(outcome)
        say(f"[{number:3}/{len(todo)}] {bar(number, len(todo))} {line(outcome)}")
    (folder / "summary.md").write_text(summary(outcomes))
    say(f"results: {folder}")
    return outcomes


def _run_cell(options: Options, cell: Cell, folder: Path) -> dict[str, Any]:
    fields = {"workload": cell.workload, "nemesis": cell.nemesis}
    if cell.reason is not None:
        return {**fields, "skipped": cell.reason}
    directory = folder / "runs" / cell.name
    try:
        return execute(replace(options, **fields, directory=directory))
    except CannotRun as reason:
        return {**fields, "skipped": str(reason)}


def bar(done: int, total: int, width: int = 20) -> str:
    """Return a bar of characters that shows how far it has come."""
    full = width * done // total
    return "#" * full + "." * (width - full)


def line(outcome: Mapping[str, Any]) -> str:
    """Return one line about a cell."""
    title = f"{outcome['workload']} under {outcome['nemesis']}"
    if "skipped" in outcome:
        return f"{title}: left out, {outcome['skipped']}"
    counted = outcome["operations"]
    return (
        f"{title}: {outcome['verdict']}, {counted['total']} operations "
        f"({counted['ok']} ok, {counted['fail']} fail, {counted['info']} info)"
    )


def passed(outcomes: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether every cell that ran is valid."""
    return all("skipped" in each or each["verdict"] == "valid" for each in outcomes)


def summary(outcomes: Iterable[Mapping[str, Any]]) -> str:
    """Return the matrix as a table in Markdown, with totals and what was left out."""
    ran = [each for each in outcomes if "skipped" not in each]
    left_out = [each for each in outcomes if "skipped" in each]
    titles = ["workload", "nemesis", "verdict", "operations", "ok", "fail", "info"]
    titles += ["ok during faults", "recovery median s", "max s"]
    rows = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for each in ran:
        counted, available = each["operations"], each["availability"]
        cells_of_row = [
            *(each["workload"], each["nemesis"], each["verdict"], counted["total"]),
            *(counted["ok"], counted["fail"], counted["info"]),
            *(available["ok_share_during_faults"], available["recovery_median_s"]),
            available["recovery_max_s"],
        ]
        rows.append("| " + " | ".join("" if c is None else str(c) for c in cells_of_row) + " |")
    total = sum(each["operations"]["total"] for each in ran)
    bad = sum(each["verdict"] != "valid" for each in ran)
    rows += ["", f"{len(ran)} cells, {total} operations, {bad} cells not valid.", ""]
    rows += [f"- {line(each)}" for each in left_out]
    return "\n".join(rows) + "\n"

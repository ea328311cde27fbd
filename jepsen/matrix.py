"""The matrix of workloads and nemeses: every pair that makes sense, resumable, with a table."""

from __future__ import annotations

import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from jepsen.cell import Cells
from jepsen.nemesis import all_nemeses
from jepsen.run import Options, commit, results_directory
from jepsen.workloads import all_workloads

SENSELESS = {
    ("membership", "member"): "the nemesis changes the very list whose changes are counted",
    ("membership", "corrupt"): "a damaged member is replaced, which changes the list",
}
"""Pairs that are left out, and why."""
NO_PROMISE = {
    "corrupt-db": "SQLite's pages have no checksums, so nothing is promised (docs/limits.md)",
}
"""Nemeses that are no part of the matrix, and why; `run` takes them."""
PARALLEL = min(8, 2 * (os.cpu_count() or 1))
"""Cells at a time: one with the default clients and rate keeps somewhat less than half a core."""
CORE = tuple(
    (workload, nemesis)
    for workload, nemeses in {
        "append": ("lossy", "partition-one-way", "kill-all", "clock-jump"),
        "kv": ("mixed", "snapshot", "partition-ring", "lost-writes"),
        "lease": ("kill-one", "clock-drift", "leader", "pause-leader"),
        "membership": ("none", "partition-leader", "kill-minority", "slow"),
        "register": ("partition-leader", "partition-bridge", "pause", "slow-fsync"),
        "set": ("lost-writes", "disk-full", "corrupt", "kill-all"),
        "watch": ("kill-one", "compact", "partition-halves", "member"),
        "wr": ("pause-leader", "kill-majority", "mixed", "partition-leader"),
    }.items()
    for nemesis in nemeses
)
"""The pairs of the ten-minute run: every workload four times, and every nemesis."""


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

    def seed(self, of_matrix: int) -> int:
        """Return the seed of the cell's run: cells of a matrix do not meet the same faults."""
        return zlib.crc32(f"{of_matrix}.{self.name}".encode())


def cells(only: Iterable[tuple[str, str]] | None = None) -> list[Cell]:
    """Return all pairs, or those asked for."""
    pairs = only or [(w, n) for n in all_nemeses() for w in all_workloads()]
    known = set(all_workloads())
    return [Cell(w, n, NO_PROMISE.get(n) or SENSELESS.get((w, n))) for w, n in pairs if w in known]


@dataclass
class Matrix:
    """The cells of one product and commit: where their outcomes are, and which are to be run.

    Each outcome is one JSON file in a folder named for the product and the commit. An outcome is
    never replaced by that of a second try: with ``again_failed`` the cells that are not valid are
    run once more, and the earlier outcome goes on being told of as ``earlier`` in the new one.
    """

    options: Options
    parallel: int
    resume: bool
    again_failed: bool
    say: Callable[[str], None]
    commit: str = field(default_factory=commit)

    @property
    def folder(self) -> Path:
        """Where the outcomes are."""
        return results_directory() / "matrix" / f"{self.options.product}-{self.commit}"

    def run(self, chosen: Iterable[Cell]) -> list[dict[str, Any]]:
        """Run the cells, ``parallel`` at a time; return all outcomes in the order of the cells.

        Cells start in an order that the seed draws, so that those which run side by side differ.
        """
        (self.folder / "runs").mkdir(parents=True, exist_ok=True)
        wanted = list(chosen)
        known = {cell: outcome for cell in wanted if (outcome := self._known(cell)) is not None}
        todo = [cell for cell in wanted if cell not in known]
        Random(self.options.seed).shuffle(todo)
        progress = Progress(len(wanted), known.values(), self.parallel)
        self.say(f"{len(known)} of {len(wanted)} cells known, {len(todo)} to run: {self.folder}")
        with ThreadPoolExecutor(self.parallel) as pool, Cells() as children:
            runs = {pool.submit(self._run, children, cell): cell for cell in todo}
            try:
                for ended in as_completed(runs):
                    known[runs[ended]] = ended.result()
                    self.say(progress.next(ended.result()))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        outcomes = [known[cell] for cell in wanted]
        (self.folder / "summary.md").write_text(summary(outcomes))
        return outcomes

    def _known(self, cell: Cell) -> dict[str, Any] | None:
        if cell.reason is not None:
            fields = {"workload": cell.workload, "nemesis": cell.nemesis}
            return {**fields, "skipped": cell.reason}
        file = self.folder / f"{cell.name}.json"
        if not self.resume or not file.exists():
            return None
        outcome: dict[str, Any] = json.loads(file.read_text())
        if "skipped" in outcome or outcome["time_limit_s"] < self.options.time_limit_s:
            return None
        again = self.again_failed and outcome["verdict"] != "valid"
        return None if again else outcome

    def _run(self, children: Cells, cell: Cell) -> dict[str, Any]:
        options = replace(
            self.options,
            workload=cell.workload,
            nemesis=cell.nemesis,
            seed=cell.seed(self.options.seed),
        )
        file = self.folder / f"{cell.name}.json"
        earlier = self._put_aside(cell, file)
        outcome = children.run(options, self.folder / "runs" / cell.name)
        if earlier:
            outcome["earlier"] = earlier
        if outcome.get("commit", self.commit) != self.commit:
            outcome["errors"].append(f"the server was changed during the matrix of {self.commit}")
            outcome["verdict"] = "failed"
        fresh = file.with_suffix(".new")
        fresh.write_text(json.dumps(outcome, indent=1) + "\n")
        fresh.replace(file)
        return outcome

    def _put_aside(self, cell: Cell, file: Path) -> list[dict[str, Any]]:
        """Keep what an outcome that is not valid says and what its run left; return all such."""
        if not file.exists():
            return []
        old = json.loads(file.read_text())
        earlier: list[dict[str, Any]] = old.get("earlier", [])
        if old.get("verdict", "valid") == "valid":
            return earlier
        number = len(earlier) + 1
        kept = self.folder / "runs" / f"{cell.name}.earlier-{number}"
        left = self.folder / "runs" / cell.name
        if left.exists():
            left.rename(kept)
        told = {name: old.get(name) for name in ("verdict", "errors", "crashes", "operations")}
        return [*earlier, {**told, "kept": str(kept)}]


class Progress:
    """One line after each cell: how far all of it has come, and what the cell found."""

    def __init__(self, total: int, known: Iterable[Mapping[str, Any]], parallel: int) -> None:
        self._total = total
        self._parallel = parallel
        self._began_s = time.monotonic()
        self._fresh = 0
        self._outcomes = list(known)

    def next(self, outcome: Mapping[str, Any]) -> str:
        """Count an outcome and return the line about it."""
        self._outcomes.append(outcome)
        self._fresh += 1
        done = len(self._outcomes)
        ran = [each for each in self._outcomes if "skipped" not in each]
        operations = sum(each["operations"]["total"] for each in ran)
        bad = sum(each["verdict"] != "valid" for each in ran)
        each_s = (time.monotonic() - self._began_s) / self._fresh
        left_min = math.ceil(each_s * (self._total - done) / 60)
        return (
            f"[{done:3}/{self._total}] {bar(done, self._total)} {operations:,} operations, "
            f"{bad} not valid, {left_min} min left | {line(outcome)}"
        )


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
            *(available.get("ok_share_during_faults"), available.get("recovery_median_s")),
            available.get("recovery_max_s"),
        ]
        rows.append("| " + " | ".join("" if c is None else str(c) for c in cells_of_row) + " |")
    total = sum(each["operations"]["total"] for each in ran)
    bad = sum(each["verdict"] != "valid" for each in ran)
    rows += ["", f"{len(ran)} cells, {total} operations, {bad} cells not valid.", ""]
    rows += [f"- {line(each)}" for each in left_out]
    return "\n".join(rows) + "\n"

"""The page about a whole matrix: what ran, what it found, and how the service fared."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jepsen.history import INFO, Operation, pair, read_history
from jepsen.matrix import Cell, cells, line
from jepsen.measure import recoveries_s, windows
from jepsen.nodes.machine import described
from jepsen.workloads import all_workloads

NO_SERVICE = ("UNAVAILABLE:", "DEADLINE_EXCEEDED:", "CANCELLED:", "UNKNOWN:", "INTERNAL:")
"""Errors that are no answer; every other one is a refusal with a reason that the client caused."""

NOT_RUN = "not run yet"
GRID_TEXT = """\
Operations / those that were refused, not sent or of unknown outcome. A refusal is often the right
answer: a guard that did not hold, a lease that was gone.
"""
AVAILABILITY_TEXT = """\
Shares of the operations asked for while a fault was on, and at other times. Answered: ok, or
refused for a reason of the request's own. Recovery: from the end of a fault, when links are whole
and processes started (one that was killed is not ready yet), to the first answer to something asked
after it.
"""
AVAILABILITY_COLUMNS = (
    *("nemesis", "cells", "operations", "faults", "ok in faults", "answered in faults"),
    *("ok otherwise", "recovery, median s", "95 % s", "worst s"),
)


@dataclass
class Service:
    """How clients fared, over any number of runs."""

    cells: int = 0
    operations: int = 0
    faults: int = 0
    during: Counter[str] = field(default_factory=Counter)
    otherwise: Counter[str] = field(default_factory=Counter)
    recoveries_s: list[float] = field(default_factory=list)

    def count(self, history: str) -> None:
        """Add the operations of a history."""
        events = read_history(history)
        operations = pair(events)
        faults = windows(events)
        self.cells += 1
        self.operations += len(operations)
        self.faults += len(faults)
        self.recoveries_s += recoveries_s(faults, operations)
        for operation in operations:
            asked = operation.invocation.time_ns
            faulty = any(fault.start_ns <= asked < fault.stop_ns for fault in faults)
            counted = self.during if faulty else self.otherwise
            counted["all"] += 1
            counted["ok"] += operation.is_ok
            counted["answered"] += answered(operation)


def answered(operation: Operation) -> bool:
    """Tell whether the client was told what became of its request, refusals included."""
    if operation.completion is None or operation.type == INFO:
        return False
    if operation.is_ok:
        return True
    error = operation.completion.error
    return error is None or not any(code in error for code in NO_SERVICE)


def page(outcomes: Sequence[Mapping[str, Any]]) -> str:
    """Return the page in Markdown; reads the history of every cell that ran."""
    ran = [each for each in outcomes if "skipped" not in each]
    parts = ["# Results of the Jepsen matrix", "", _about(ran), ""]
    parts += ["## Operations of each cell", "", *_grid(ran), ""]
    parts += ["## Availability under each nemesis", "", *_availability(ran), ""]
    parts += ["## Not valid, checked again or run again", "", *_exceptions(ran), ""]
    parts += ["## Left out", "", *_left_out(outcomes), ""]
    return "\n".join(parts)


def read_outcomes(folder: Path) -> list[dict[str, Any]]:
    """Return the outcomes of a matrix in the order of its cells, with those that are left out."""
    found = []
    for cell in cells():
        file = folder / f"{cell.name}.json"
        if cell.reason is not None:
            found.append(_without(cell, cell.reason))
        elif file.exists():
            found.append(json.loads(file.read_text()))
        else:
            found.append(_without(cell, NOT_RUN))
    return found


def _without(cell: Cell, reason: str) -> dict[str, Any]:
    return {"workload": cell.workload, "nemesis": cell.nemesis, "skipped": reason}


def _values(ran: Iterable[Mapping[str, Any]], name: str) -> str:
    values = {each[name] for each in ran if name in each}
    return ", ".join(
        f"{each:g}" if isinstance(each, float) else f"{each}" for each in sorted(values)
    )


def _about(ran: Sequence[Mapping[str, Any]]) -> str:
    total = Counter[str]()
    verdicts = Counter(each["verdict"] for each in ran)
    for each in ran:
        total.update({kind: each["operations"][kind] for kind in ("total", "ok", "fail", "info")})
    dates = sorted(each["date"] for each in ran if "date" in each)
    when = f"{dates[0]} to {dates[-1]}" if dates else "at an unknown date"
    violations = sum(r["violation_count"] for each in ran for r in each["results"])
    return f"""\
- **{len(ran)} cells** of {_values(ran, "time_limit_s")} seconds, **{total["total"]:,} operations**:
  {total["ok"]:,} ok, {total["fail"]:,} refused or not sent, {total["info"]:,} of unknown outcome.
- Verdicts: {", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())};
  {violations} violations, {verdicts["unknown"]} undecided.
- Server at commit {_values(ran, "commit")}, tester at {_values(ran, "tester_commit")}; {when}.
- {described()}; network: {_values(ran, "network")}; {_values(ran, "clients")} clients, of whom
  {_values(ran, "rate_per_s")} operations a second together were wanted in each cell.
- {_load(ran)}
- Made by `python -m jepsen summary`."""


def _load(ran: Iterable[Mapping[str, Any]]) -> str:
    """Say how busy the machine was: what waits for a processor answers late."""
    loads = sorted(each["load_average"] for each in ran if "load_average" in each)
    if not loads:
        return "How busy the machine was is not known."
    middle, most = statistics.median(loads), loads[-1]
    return f"Load average at the end of the cells: median {middle:.1f}, most {most:.1f}."


def _grid(ran: Sequence[Mapping[str, Any]]) -> list[str]:
    by_pair = {(each["workload"], each["nemesis"]): each for each in ran}
    workloads = sorted({workload for workload, _ in by_pair})
    rows = [
        GRID_TEXT,
        f"| nemesis | {' | '.join(f'`{each}`' for each in workloads)} | all |",
        "|---" + "|---:" * (len(workloads) + 1) + "|",
    ]
    for nemesis in sorted({nemesis for _, nemesis in by_pair}):
        row = [by_pair.get((workload, nemesis)) for workload in workloads]
        whole = sum(each["operations"]["total"] for each in row if each is not None)
        shown = " | ".join(_cell(each) for each in row)
        rows.append(f"| `{nemesis}` | {shown} | {whole:,} |")
    sums = [
        sum(each["operations"]["total"] for each in ran if each["workload"] == workload)
        for workload in workloads
    ]
    rows.append(f"| all | {' | '.join(f'{each:,}' for each in sums)} | {sum(sums):,} |")
    return rows


def _cell(outcome: Mapping[str, Any] | None) -> str:
    if outcome is None:
        return "–"
    counted = outcome["operations"]
    text = f"{counted['total']:,} / {counted['fail'] + counted['info']:,}"
    return text if outcome["verdict"] == "valid" else f"**{outcome['verdict']}** {text}"


def _availability(ran: Sequence[Mapping[str, Any]]) -> list[str]:
    services: dict[str, Service] = {}
    for each in ran:
        if Path(each.get("history", "")).is_file():
            services.setdefault(each["nemesis"], Service()).count(each["history"])
    rows = [AVAILABILITY_TEXT, f"| {' | '.join(AVAILABILITY_COLUMNS)} |"]
    rows.append("|---" + "|---:" * (len(AVAILABILITY_COLUMNS) - 1) + "|")
    for nemesis, service in sorted(services.items()):
        rows.append(
            f"| `{nemesis}` | {service.cells} | {service.operations:,} | {service.faults} "
            f"| {_share(service.during, 'ok')} | {_share(service.during, 'answered')} "
            f"| {_share(service.otherwise, 'ok')} | {_recovery(service.recoveries_s)} |"
        )
    return rows


def _share(counted: Counter[str], kind: str) -> str:
    return f"{100 * counted[kind] / counted['all']:.1f} %" if counted["all"] else ""


def _recovery(times_s: Sequence[float]) -> str:
    if not times_s:
        return " | | "
    ordered = sorted(times_s)
    late = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{statistics.median(ordered):.2f} | {late:.2f} | {ordered[-1]:.2f}"


def _exceptions(ran: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for each in ran:
        told = [f"first {old['verdict']}, run again" for old in each.get("earlier", ())]
        for old in each.get("checked_before", ()):
            if old["verdict"] == each["verdict"] == "valid":
                continue
            why = "; ".join(map(str, old["undecided"])) or f"{old['violations']} violations"
            told.append(f"first {old['verdict']} ({why}), the same history checked again")
        if told or each["verdict"] != "valid":
            rows.append(f"- {line(each)}{''.join(f'; {text}' for text in told)}")
    return rows or ["None."]


def _left_out(outcomes: Iterable[Mapping[str, Any]]) -> list[str]:
    reasons: dict[str, dict[str, list[str]]] = {}
    for each in outcomes:
        if "skipped" in each:
            nemeses = reasons.setdefault(each["skipped"], {})
            nemeses.setdefault(each["nemesis"], []).append(f"`{each['workload']}`")
    rows = []
    for reason, nemeses in reasons.items():
        named = [
            f"{'everything' if len(found) == len(all_workloads()) else ', '.join(found)} "
            f"under `{nemesis}`"
            for nemesis, found in nemeses.items()
        ]
        rows.append(f"- {'; '.join(named)}: {reason}.")
    return rows or ["Nothing."]

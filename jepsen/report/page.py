"""The report of a run: one HTML page, two plots, the numbers, and the history as EDN."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from jepsen.checkers.result import brief
from jepsen.edn import write_edn
from jepsen.history import Event, Operation, pair
from jepsen.report.figures import figures
from jepsen.report.plots import AVAILABILITY_FILE, LATENCY_FILE, can_plot, write_plots
from jepsen.report.timeline import draw, nearby

REPORT_FILE = "report.html"
FIGURES_FILE = "figures.json"
EDN_FILE = "history.edn"
SHOWN_TIMELINES = 12
LAST_OPERATIONS = 40

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
td, th { border: 1px solid #ccc; padding: 3px 9px; text-align: left; }
.scroll { overflow-x: auto; border: 1px solid #ddd; margin: .6em 0 1.6em; }
svg text { font: 10.5px ui-monospace, monospace; }
svg line { stroke: #e4e4e4; }
svg .ok rect { fill: #cfe3f3; stroke: #8fb4d2; }
svg .fail rect { fill: #f6e3bd; stroke: #cfae6b; }
svg .info rect { fill: #f3d3cf; stroke: #cf9890; stroke-dasharray: 4 3; }
svg .marked rect { stroke: #d00000; stroke-width: 2.5; }
svg .marked text { font-weight: bold; }
svg .fault line { stroke: #d9534f; stroke-dasharray: 2 3; }
svg .fault text { fill: #b03a36; }
.true { color: #1b7a2f; } .false { color: #c00000; } .unknown { color: #a86a00; }
img { max-width: 100%; }
"""


def write_report(
    directory: str | Path, events: Sequence[Event], summary: Mapping[str, Any]
) -> Path:
    """Write the report of a run into a directory and return the path of its page.

    ``summary`` is any JSON object; its ``results`` are the verdicts of the checkers (see
    Result.to_json), and the operations around each of their violations are drawn. Plots are left
    out if matplotlib is not installed.
    """
    folder = Path(directory)
    operations = pair(events)
    numbers = figures(events, operations)
    (folder / FIGURES_FILE).write_text(json.dumps(numbers, indent=2) + "\n")
    write_edn(events, str(folder / EDN_FILE))
    plotted = can_plot()
    if plotted:
        write_plots(folder, events, operations)
    page = folder / REPORT_FILE
    page.write_text(_page(events, operations, summary, numbers, plotted), encoding="utf-8")
    return page


def _page(
    events: Sequence[Event],
    operations: Sequence[Operation],
    summary: Mapping[str, Any],
    numbers: Mapping[str, Any],
    plotted: bool,
) -> str:
    title = f"{summary.get('workload', 'run')} under {summary.get('nemesis', 'no fault')}"
    plain = {name: value for name, value in summary.items() if not isinstance(value, list | dict)}
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        f"</title><style>{STYLE}</style></head><body><h1>{escape(title)}</h1>"
    )
    parts = [
        head,
        _table([("", "")], list(plain.items())),
        "<h2>Verdicts</h2>",
        _verdicts(summary.get("results", ())),
        *_violations(events, operations, summary.get("results", ())),
        "<h2>Faults</h2>",
        _records(numbers["faults"]),
        "<h2>Latency of answered operations, ms</h2>",
        _records([{"operation": kind, **each} for kind, each in numbers["latency_ms"].items()]),
    ]
    if plotted:
        parts += [f'<p><img src="{name}" alt=""></p>' for name in (LATENCY_FILE, AVAILABILITY_FILE)]
    else:
        parts.append("<p>No plots: the optional extra <code>jepsen</code> is not installed.</p>")
    last = operations[-LAST_OPERATIONS:]
    parts += ["<h2>The end of the run</h2>", _picture(last, events, ())]
    return "\n".join([*parts, "</body></html>\n"])


def _verdicts(results: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for each in results:
        valid = str(each["valid"]).lower()
        counts = ", ".join(f"{kind}: {count}" for kind, count in each.get("counts", {}).items())
        note = each.get("undecided") or counts
        rows.append((each["checker"], valid, each["operations"], note, each.get("stats", {})))
    return _table(
        [("checker", ""), ("valid", "mark"), ("operations", ""), ("found", ""), ("stats", "")],
        rows,
    )


def _violations(
    events: Sequence[Event],
    operations: Sequence[Operation],
    results: Sequence[Mapping[str, Any]],
) -> list[str]:
    found = [(each["checker"], violation) for each in results for violation in each["violations"]]
    parts = [f"<h2>Violations</h2><p>{len(found)} shown.</p>"] if found else []
    for number, (checker, violation) in enumerate(found):
        kind = escape(f"{checker}: {violation['kind']}")
        parts.append(f"<h3>{kind}</h3><p>{escape(brief(violation['message'], 4000))}</p>")
        if number < SHOWN_TIMELINES:
            indexes = violation["indexes"]
            parts.append(_picture(nearby(operations, indexes), events, indexes))
    return parts


def _picture(
    operations: Sequence[Operation], events: Sequence[Event], indexes: Sequence[int]
) -> str:
    return f'<div class="scroll">{draw(operations, events, indexes)}</div>'


def _records(records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return "<p>none</p>"
    return _table([(name, "") for name in records[0]], [tuple(each.values()) for each in records])


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name, _ in columns if name)
    body = []
    for row in rows:
        cells = []
        for place, value in enumerate(row):
            marked = place < len(columns) and columns[place][1] == "mark"
            css = f' class="{escape(str(value))}"' if marked else ""
            cells.append(f"<td{css}>{escape(brief(value, 600))}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"

from __future__ import annotations

import json
import random
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jepsen.checkers.linearizable import check_registers
from jepsen.history import INFO, NEMESIS, OK, Event, pair
from jepsen.report import page, plots
from jepsen.report.figures import fault_windows, latencies_ms, quantile_of
from jepsen.report.page import write_report
from tests.kit.jepsen_world import Weather, registers, renumber, simulate

SECOND_NS = 1_000_000_000


def run_with_a_violation() -> list[Event]:
    rng = random.Random(3)
    weather = Weather(unknown=0.1)
    events = simulate(rng, registers(rng, 300, keys=3, unique=True), weather=weather)
    events = [replace(event, time_ns=event.time_ns * 100) for event in events]
    place = next(i for i, e in enumerate(events) if i > 300 and e.type == OK and e.f == "read")
    events[place] = replace(events[place], value=987_654)
    marks = [(100, "start"), (200, "stop")]
    for index, f in marks:
        at_ns = events[index].time_ns
        value = {"nemesis": "<kill>", "detail": None}
        events.insert(index, Event(index, at_ns, INFO, NEMESIS, f, value=value))
    return renumber(events)


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.marked = 0
        self.depth: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "marked" in (dict(attrs).get("class") or ""):
            self.marked += 1
        if tag not in {"img", "meta", "line", "rect"}:
            self.depth.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in {"line", "rect"}:
            assert self.depth.pop() == tag


def test_the_page_draws_the_operations_around_a_violation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "can_plot", lambda: False)
    events = run_with_a_violation()
    result = check_registers(pair(events))
    assert result.valid is False
    summary = {"workload": "register", "nemesis": "<kill>", "results": [result.to_json()]}
    text = write_report(tmp_path, events, summary).read_text()
    tags = Tags(text)
    assert tags.marked >= 1
    assert not tags.depth
    assert "987654" in text
    assert "<kill>" not in text
    assert "not linearizable" in text
    numbers = json.loads((tmp_path / "figures.json").read_text())
    assert numbers["faults"][0]["nemesis"] == "<kill>"
    assert (tmp_path / "history.edn").read_text().count("\n") == len(events)


def test_plots_are_png_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    events = run_with_a_violation()
    plots.write_plots(tmp_path, events, pair(events))
    for name in (plots.LATENCY_FILE, plots.AVAILABILITY_FILE):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_figures_of_a_fault() -> None:
    def operation(index: int, asked_s: float, told_s: float, kind: str) -> list[Event]:
        times = ((index, asked_s, "invoke"), (index + 1, told_s, kind))
        return [Event(i, int(t * SECOND_NS), k, i // 2, "read") for i, t, k in times]

    def nemesis(index: int, at_s: float, f: str) -> Event:
        value = {"nemesis": "kill"}
        return Event(index, int(at_s * SECOND_NS), INFO, NEMESIS, f, value=value)

    events = [
        *operation(0, 0.0, 0.5, OK),
        nemesis(2, 1.0, "start"),
        *operation(4, 1.5, 2.0, OK),
        *operation(6, 2.0, 4.5, INFO),
        nemesis(8, 5.0, "stop"),
        *operation(10, 5.5, 5.75, OK),
    ]
    (window,) = fault_windows(events, pair(events))
    assert window.nemesis == "kill"
    assert window.operations == 2
    assert window.ok_share == 0.5
    assert window.longest_gap_s == 3.0
    assert window.recovery_s == 0.75
    assert latencies_ms(pair(events))["read"]["p50"] == 500.0


def test_quantiles_are_values_that_occurred() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    assert [quantile_of(values, q) for q in (0.5, 0.75, 0.99, 1.0)] == [2.0, 3.0, 4.0, 4.0]

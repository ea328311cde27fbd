"""Latency and availability over time, as PNG files. Needs the optional extra ``jepsen``."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jepsen.history import FAIL, INFO, OK, Event, Operation
from jepsen.measure import SECOND_NS, windows

LATENCY_FILE = "latency.png"
AVAILABILITY_FILE = "availability.png"
COLOURS = {OK: "#2a78b5", FAIL: "#e0a030", INFO: "#c0392b"}
FAULT_COLOUR = "#d9534f"
BINS = 120
LEAST_LATENCY_MS = 0.05


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def write_plots(directory: Path, events: Sequence[Event], operations: Sequence[Operation]) -> None:
    """Write both plots into a directory; raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    _plot_latency(directory / LATENCY_FILE, events, operations)
    _plot_availability(directory / AVAILABILITY_FILE, events, operations)


def _plot_latency(path: Path, events: Sequence[Event], operations: Sequence[Operation]) -> None:
    axes = _axes(events, "latency of each operation, ms")
    for kind, colour in COLOURS.items():
        points = [
            (
                each.invocation.time_ns / SECOND_NS,
                max(LEAST_LATENCY_MS, (each.completion.time_ns - each.invocation.time_ns) / 1e6),
            )
            for each in operations
            if each.type == kind and each.completion is not None
        ]
        if points:
            times, taken = zip(*points, strict=True)
            axes.scatter(times, taken, s=3, color=colour, label=f"{kind} ({len(points)})")
    axes.set_yscale("log")
    _save(axes, path)


def _plot_availability(
    path: Path, events: Sequence[Event], operations: Sequence[Operation]
) -> None:
    axes = _axes(events, "operations per second, by outcome")
    end_s = max((event.time_ns for event in events), default=SECOND_NS) / SECOND_NS
    width_s = max(end_s / BINS, 0.1)
    moments = [step * width_s for step in range(int(end_s / width_s) + 1)]
    base = [0.0] * len(moments)
    for kind, colour in COLOURS.items():
        counted = Counter(
            int(each.invocation.time_ns / SECOND_NS / width_s)
            for each in operations
            if each.type == kind
        )
        heights = [counted[step] / width_s for step in range(len(moments))]
        axes.bar(
            moments, heights, width=width_s, bottom=base, align="edge", color=colour, label=kind
        )
        base = [low + height for low, height in zip(base, heights, strict=True)]
    _save(axes, path)


def _axes(events: Sequence[Event], title: str) -> Any:
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(11, 4), dpi=110)
    for place, fault in enumerate(windows(events)):
        start_s, stop_s = fault.start_ns / SECOND_NS, fault.stop_ns / SECOND_NS
        label = "fault" if place == 0 else None
        axes.axvspan(start_s, stop_s, color=FAULT_COLOUR, alpha=0.15, label=label)
    axes.set_title(title)
    axes.set_xlabel("seconds since the start")
    return axes


def _save(axes: Any, path: Path) -> None:
    from matplotlib import pyplot

    axes.legend(loc="upper right", fontsize="small")
    axes.figure.tight_layout()
    axes.figure.savefig(path)
    pyplot.close(axes.figure)

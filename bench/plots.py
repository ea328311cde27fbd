"""The figures of a run as PNG files. Needs matplotlib (the optional extra ``bench``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from statistics import median
from typing import Any

from bench.report import (
    GENERATOR_TITLES,
    KIND_TITLES,
    TITLES,
    Result,
    by_round,
    figure,
    in_point,
    labels_of,
)

COLOURS = {"dqlite": "#2a78b5", "etcd": "#e0a030", "earlier": "#9a9a9a"}
# Name of the file, of the figure in the results, axis, logarithmic, kinds.
ALL = tuple(KIND_TITLES)
PLOTS = (
    ("rate", "per_s", "calls/s", False, ALL),
    ("p99", "p99_ms", "p99, ms", True, ALL),
    ("cpu", "cpu_s_per_1000", "CPU s per 1,000 calls, all members", True, ALL),
    ("peers", "peer_bytes_per_call", "bytes between peers a put", False, ("put",)),
    ("disk", "disk_bytes_per_call", "bytes to disk a put, all members", True, ("put",)),
)
PANEL_INCHES = (4.6, 3.2)
DPI = 110


def can_plot() -> bool:
    """Return whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def write_plots(results: Result, folder: Path, stem: str) -> list[str]:
    """Write a PNG for each figure; return the names; raises ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    groups = list(dict.fromkeys((kind, generator) for kind, generator, _ in labels_of(results)))
    names = []
    for suffix, figure_name, axis, logarithmic, kinds in PLOTS:
        panels = [group for group in groups if group[0] in kinds]
        if panels:
            names.append(f"{stem}-{suffix}.png")
            _plot(results, folder / names[-1], panels, (figure_name, axis, logarithmic))
    return names


def _plot(
    results: Result, path: Path, panels: list[tuple[str, str]], what: tuple[str, str, bool]
) -> None:
    """Draw one panel for each kind of call and generator, bars side by side at each width."""
    from matplotlib import pyplot

    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows)
    drawing, axes = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (kind, generator) in zip(axes.flat, panels, strict=False):
        _draw(results, axis, kind, generator, what)
    drawing.tight_layout()
    drawing.savefig(path, dpi=DPI)
    pyplot.close(drawing)


def _draw(
    results: Result, axis: Any, kind: str, generator: str, what: tuple[str, str, bool]
) -> None:
    name, label, logarithmic = what
    widths = [width for k, g, width in labels_of(results) if (k, g) == (kind, generator)]
    products = results["products"]
    bar = 0.8 / len(products)
    for number, product in enumerate(products):
        found = _medians(results, product, (kind, generator), name)
        if not found:  # what failed is not drawn; the report says why
            continue
        places = [widths.index(width) for width in found]
        middle = [each[1] for each in found.values()]
        spread = [
            [each[1] - each[0] for each in found.values()],
            [each[2] - each[1] for each in found.values()],
        ]
        style = {"color": COLOURS[product], "label": TITLES[product]}
        if logarithmic:  # the foot of a bar would mean nothing
            axis.errorbar(places, middle, spread, marker="o", capsize=3, linewidth=1, **style)
        else:
            at = [place + (number - (len(products) - 1) / 2) * bar for place in places]
            axis.bar(at, middle, bar * 0.95, yerr=spread, error_kw={"linewidth": 0.8}, **style)
    if logarithmic:
        axis.set_yscale("log")
    axis.set_xticks(range(len(widths)), [f"c={width}" for width in widths])
    axis.set_ylabel(label, fontsize=8)
    axis.set_title(f"{KIND_TITLES[kind]}\n{GENERATOR_TITLES[generator]}", fontsize=8)
    axis.legend(fontsize=7)


def _medians(
    results: Result, product: str, group: tuple[str, str], name: str
) -> dict[int, tuple[float, float, float]]:
    """Return the least, the median and the greatest of the rounds for each width measured."""
    kind, generator = group
    found = {}
    for width in dict.fromkeys(w for k, g, w in labels_of(results) if (k, g) == group):
        where = {"kind": kind, "generator": generator, "concurrency": width}
        values = by_round(results, product, in_point(where, figure(name)))
        known = [value for value in values if value is not None]
        if known:
            found[width] = min(known), median(known), max(known)
    return found

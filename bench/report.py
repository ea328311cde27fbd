"""Turns raw results into medians, ratios to etcd, and a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

Result = dict[str, Any]

OURS, PEER = "dqlite", "etcd"


def _by_product(rounds: Iterable[Result], product: str) -> list[Result]:
    return [found for found in rounds if found["product"] == product]


def _row(label: str, rounds: list[Result], pick: Callable[[Result], Any], digits: int = 1) -> str:
    """Return a table row of the medians; the ratio is the median of each round's ratio."""
    values = {
        product: [pick(found) for found in _by_product(rounds, product)] for product in (OURS, PEER)
    }
    shown = [f"{median(found):,.{digits}f}" if found else "-" for found in values.values()]
    pairs = list(zip(values[OURS], values[PEER], strict=False))
    ratios = [ours / peer for ours, peer in pairs if peer]
    ratio = f"{median(ratios):.2f}" if ratios else "-"
    return f"| {label} | {shown[0]} | {shown[1]} | {ratio} |"


def _largest(name: str) -> Callable[[Result], float]:
    return lambda found: max(found[name])


def _throughput_rows(rounds: list[Result]) -> list[str]:
    rows = []
    for width in rounds[0]["put"]:
        for label, name, digits in (
            ("put/s", "per_s", 0),
            ("put p50 ms", "p50_ms", 2),
            ("put p99 ms", "p99_ms", 2),
            ("CPU s per 1,000 puts, all members", "cpu_s_per_1000", 3),
        ):
            rows.append(
                _row(
                    f"{label}, c={width}",
                    rounds,
                    lambda found, width=width, name=name: found["put"][width][name],
                    digits,
                )
            )
    for kind, label in (("range", "linearizable"), ("serializable", "serializable")):
        width = rounds[0]["range"][kind]["concurrency"]
        rows.append(
            _row(
                f"{label} range/s, c={width}, over three members",
                rounds,
                lambda found, kind=kind: found["range"][kind]["per_s"],
                0,
            )
        )
    rows.append(_row("RSS after start, MB, largest member", rounds, _largest("rss_start_mb")))
    rows.append(_row("RSS after load, MB, largest member", rounds, _largest("rss_loaded_mb")))
    rows.append(_row("three members serving, s", rounds, lambda found: found["cluster_start_s"], 2))
    resting = [found for found in rounds if "idle_cpu_percent" in found]
    if resting:
        rows.append(
            _row("idle CPU, % of a core, largest member", resting, _largest("idle_cpu_percent"), 2)
        )
    return rows


def _series_rows(label: str, series: dict[str, list[float]]) -> list[str]:
    rows = []
    for name, pick in (("median", median), ("max", max)):
        values = {product: pick(found) for product, found in series.items() if found}
        shown = [f"{values[product]:.2f}" if product in values else "-" for product in (OURS, PEER)]
        ratio = f"{values[OURS] / values[PEER]:.2f}" if len(values) == 2 else "-"
        rows.append(f"| {label}, {name} | {shown[0]} | {shown[1]} | {ratio} |")
    return rows


def markdown(results: Result) -> str:
    """Return the report: one table side by side with etcd, then what has no counterpart."""
    lines = [
        f"# Bench of {results['when']}",
        "",
        f"{results['machine']}. {results['settings']}.",
        "Medians; a ratio is the median of the ratios of each interleaved round.",
        "",
        "| | dqlite_py | etcd 3.5.1 | ratio |",
        "|---|---|---|---|",
    ]
    if results["rounds"]:
        lines += _throughput_rows(results["rounds"])
    for name, label in (
        ("cold_start_s", "cold start of one server to the ready line, s"),
        ("restart_s", "the same with data there, s"),
        ("failover_s", "leader kill -9 to the next acknowledged put, s"),
    ):
        if any(results[name].values()):
            lines += _series_rows(label, results[name])
    for found in results["check_perf"]:
        verdicts = "; ".join(found["verdicts"])
        lines += ["", f"`etcdctl check perf --load=s`, {found['product']}: {verdicts}"]
    if results["pysyncobj"]:
        lines += ["", "pysyncobj, three processes, no fsync, client inside the leader:", ""]
        lines += ["| c | put/s | p99 ms |", "|---|---|---|"]
        for width, found in results["pysyncobj"].items():
            lines.append(f"| {width} | {found['per_s']:,.0f} | {found['p99_ms']:.2f} |")
    return "\n".join(lines) + "\n"

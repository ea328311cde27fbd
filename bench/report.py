"""Turns raw results into medians, ratios to etcd, and Markdown tables.

A load that failed, or of which calls failed, gives no figure: its cell says so, and the reason is
listed at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

Result = dict[str, Any]
Pick = Callable[[Result], float | None]

PEER = "etcd"
TITLES = {"dqlite": "dqlite_py", "etcd": "etcd 3.5.1", "earlier": "dqlite_py, earlier"}
KIND_TITLES = {
    "put": "Put, at the leader",
    "range": "Linearizable Range, spread over the three members",
    "serializable": "Serializable Range, spread over the three members",
}
GENERATOR_TITLES = {
    "rotating": "10,000 rotating keys, random values",
    "h2load": "h2load, one key",
}
# Label, name in the results, digits, only for puts.
METRICS = (
    ("calls/s", "per_s", 0, False),
    ("p50 ms", "p50_ms", 2, False),
    ("p99 ms", "p99_ms", 2, False),
    ("CPU s per 1,000, all members", "cpu_s_per_1000", 3, False),
    ("bytes to disk a put, all members", "disk_bytes_per_call", 0, True),
    ("bytes between peers a put, all directions", "peer_bytes_per_call", 0, True),
    ("of these sent by the leader", "peer_bytes_of_leader_per_call", 0, True),
    ("RSS MB, largest member", "rss_mb", 0, False),
)
LIMIT_OF_OTHERS_PERCENT = 5.0


def sound(point: Result) -> bool:
    """Return whether a load's figures may be used: it ran, and no call of it failed."""
    return "failed" not in point and not point["errors"] and not point.get("missing")


def figure(name: str) -> Pick:
    """Return what reads a figure from a point; of one figure for each member, the largest."""

    def pick(point: Result) -> float | None:
        value = point.get(name) if sound(point) else None
        return max(value, default=None) if isinstance(value, list) else value

    return pick


def by_round(results: Result, product: str, pick: Pick) -> list[float | None]:
    """Return a figure of each round in which a product was measured, None where it failed."""
    return [pick(found) for found in results["rounds"] if found["product"] == product]


def in_point(labels: Result, pick: Pick) -> Pick:
    """Return what reads a figure from the point with these labels within a round."""

    def find(found: Result) -> float | None:
        for point in found["points"]:
            if labels.items() <= point.items():
                return pick(point)
        return None

    return find


def ratio_to_peer(ours: Sequence[float | None], peers: Sequence[float | None]) -> float | None:
    """Return the median of the ratios of those rounds in which both were measured."""
    ratios = [a / b for a, b in zip(ours, peers, strict=False) if a is not None and b]
    return median(ratios) if ratios else None


def cell(values: Sequence[float | None], digits: int) -> str:
    known = [value for value in values if value is not None]
    if not values or not known:
        return "failed" if values else "-"
    failed = len(values) - len(known)
    note = f" ({failed} of {len(values)} failed)" if failed else ""
    return f"{median(known):,.{digits}f}{note}"


def row(label: str, series: dict[str, list[float | None]], digits: int) -> str:
    """Return a table row: the median for each product, then the others' ratios to etcd."""
    cells = [cell(values, digits) for values in series.values()]
    for name, values in series.items():
        if name != PEER:
            ratio = ratio_to_peer(values, series.get(PEER, []))
            cells.append("-" if ratio is None else f"{ratio:.2f}")
    return f"| {label} | {' | '.join(cells)} |"


def header(label: str, names: Sequence[str]) -> list[str]:
    ratios = [f"{TITLES[name]} : etcd" for name in names if name != PEER]
    if len(ratios) == 1:
        ratios = ["ratio"]
    titles = [label, *(TITLES[name] for name in names), *ratios]
    return [f"| {' | '.join(titles)} |", "|" + "---|" * len(titles)]


def labels_of(results: Result) -> list[tuple[str, str, int]]:
    """Return kind, generator and width of all loads, in the order of their first appearance."""
    found: dict[tuple[str, str, int], None] = {}
    for one in results["rounds"]:
        for point in one["points"]:
            found[point["kind"], point["generator"], point["concurrency"]] = None
    return list(found)


def load_tables(results: Result) -> Iterable[str]:
    names = results["products"]
    labels = labels_of(results)
    for kind, generator in dict.fromkeys((kind, generator) for kind, generator, _ in labels):
        yield f"## {KIND_TITLES[kind]}: {GENERATOR_TITLES[generator]}"
        yield ""
        yield from header("", names)
        widths = [width for k, g, width in labels if (k, g) == (kind, generator)]
        for label, name, digits, only_puts in METRICS:
            if only_puts and kind != "put":
                continue
            for width in widths:
                where = {"kind": kind, "generator": generator, "concurrency": width}
                pick = in_point(where, figure(name))
                series = {product: by_round(results, product, pick) for product in names}
                yield row(f"{label}, c={width}", series, digits)
        yield ""


def cluster_rows(results: Result) -> Iterable[str]:
    """Yield rows of what is measured once a round: watches, memory, start, rest."""

    def of_watch(name: str) -> Pick:
        return lambda found: figure(name)(found["watch"]) if "watch" in found else None

    def of_round(name: str) -> Pick:
        def pick(found: Result) -> float | None:
            value = found.get(name)
            return max(value, default=None) if isinstance(value, list) else value

        return pick

    for label, pick, digits in (
        ("watch: events/s delivered to 100 watchers", of_watch("per_s"), 0),
        ("watch: put to its event, p50 ms", of_watch("p50_ms"), 1),
        ("watch: put to its event, p99 ms", of_watch("p99_ms"), 1),
        ("watch: CPU s per 1,000 events, all members", of_watch("cpu_s_per_1000"), 4),
        ("RSS after start, MB, largest member", of_round("rss_start_mb"), 0),
        ("RSS after all loads, MB, largest member", of_round("rss_loaded_mb"), 0),
        ("three members serving, s", of_round("cluster_start_s"), 2),
        ("idle CPU, % of a core, largest member", of_round("idle_cpu_percent"), 2),
    ):
        series = {product: by_round(results, product, pick) for product in results["products"]}
        if label.startswith("idle"):  # measured in the first round only
            series = {name: [v for v in values if v is not None] for name, values in series.items()}
        measured = any(value is not None for values in series.values() for value in values)
        failed = label.startswith("watch") and any("watch" in found for found in results["rounds"])
        if measured or failed:
            yield row(label, series, digits)


def series_rows(results: Result) -> Iterable[str]:
    for name, label in (
        ("cold_start_s", "cold start of one server to the ready line, s"),
        ("restart_s", "the same with data there, s"),
        ("failover_s", "leader kill -9 to the next acknowledged put, s"),
    ):
        if any(results[name].values()):
            for word, pick in (("median", median), ("max", max)):
                series: dict[str, list[float | None]] = {
                    product: [pick(found)] if (found := results[name].get(product)) else []
                    for product in results["products"]
                }
                yield row(f"{label}, {word}", series, 2)


def check_perf_rows(results: Result) -> Iterable[str]:
    found = results["check_perf"]
    if found:
        size = next((one["load"] for one in found.values() if "load" in one), "?")
        for label, name, digits in (("writes/s", "per_s", 0), ("slowest, s", "slowest_s", 2)):
            series: dict[str, list[float | None]] = {
                product: [found[product].get(name)] if product in found else []
                for product in results["products"]
            }
            yield row(f"etcdctl check perf --load={size}: {label}", series, digits)


def brief(text: str) -> str:
    """Return the first and the last line of a text; the JSON keeps the whole of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return text if len(lines) < 2 else f"{lines[0]} ... {lines[-1]}"


def failures(results: Result) -> list[str]:
    """Return a line for everything that was not measured, and for every load with errors."""
    lines = list(results["failed"])
    for found in results["rounds"]:
        place = f"{found['product']}, round {found['round']}"
        loads = [
            (f"{point['generator']} {point['kind']} c={point['concurrency']}", point)
            for point in found["points"]
        ]
        for what, point in [*loads, *([("watch", found["watch"])] if "watch" in found else [])]:
            if "failed" in point:
                lines.append(f"{place}: {what}: {point['failed']}")
            elif not sound(point):
                lines.append(
                    f"{place}: {what}: {point['errors']} calls failed of {point['done']},"
                    f" {point.get('missing', 0)} events missing"
                )
    for product, found in results["check_perf"].items():
        if "failed" in found:
            lines.append(f"{product}: check perf: {found['failed']}")
    return lines


def doubts(results: Result) -> list[str]:
    """Return what makes some figures less certain: a busy machine, uncounted peer bytes."""
    points = [point for found in results["rounds"] for point in found["points"] if sound(point)]
    if not points:
        return []
    shares = [point["others_cpu_percent"] for point in points]
    busy = sum(share > LIMIT_OF_OTHERS_PERCENT for share in shares)
    lines = [
        (
            f"Other processes took {median(shares):.1f} % of the machine's processor in the median"
            f" load, {max(shares):.1f} % in the worst; {busy} of {len(shares)} loads saw more than"
            f" {LIMIT_OF_OTHERS_PERCENT:g} %."
        )
    ]
    gone = [point for point in points if point["kind"] == "put" and point["peer_sockets_gone"]]
    if gone:
        lines.append(
            f"In {len(gone)} loads of puts a connection between peers was closed; what it had"
            " carried since the load began is not counted."
        )
    if any(p["disk_bytes_per_call"] is None for p in points):
        lines.append("The data directories' device has no line in /proc/diskstats: no disk bytes.")
    return lines


def markdown(results: Result, plots: Sequence[str] = ()) -> str:
    """Return the report; ``plots`` are file names of pictures beside it."""
    took = f" It took {results['took_s'] / 60:.1f} minutes." if "took_s" in results else ""
    lines = [
        f"# Bench of {results['when']}",
        "",
        f"`{results['command']}` on {results['machine']}: {results['settings']}.{took}",
        "Medians of the rounds; a ratio is the median of each round's ratio to etcd.",
        "",
        *doubts(results),
        "",
    ]
    lines += [f"![{name}]({name})\n" for name in plots]
    lines += load_tables(results)
    rest = [*cluster_rows(results), *series_rows(results), *check_perf_rows(results)]
    if rest:
        lines += ["## Watches, memory, start", "", *header("", results["products"]), *rest, ""]
    if results["pysyncobj"]:
        lines += ["pysyncobj, three processes, no fsync, client inside the leader:", ""]
        lines += ["| c | put/s | p99 ms |", "|---|---|---|"]
        for width, found in results["pysyncobj"].items():
            lines.append(f"| {width} | {found['per_s']:,.0f} | {found['p99_ms']:.2f} |")
        lines.append("")
    failed = failures(results)
    if failed:
        lines += ["## What failed", "", *(f"- {brief(line)}" for line in failed), ""]
    return "\n".join(lines).rstrip() + "\n"

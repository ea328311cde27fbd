"""``python -m bench run``: measure three members of this server and of etcd 3.5.1, interleaved."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench.plots import can_plot, write_plots
from bench.profiling import profiled
from bench.pysyncobj_peer import measure as measure_pysyncobj
from bench.report import Result, failures, markdown
from bench.scenarios import (
    FAILURES,
    Plan,
    attempt,
    check_perf,
    cold_start_s,
    failover_times_s,
    loaded_round,
)
from tests.kit.products import Dqlite, EarlierDqlite, Etcd, Product

PRODUCTS: dict[str, type[Dqlite] | type[Etcd]] = {"dqlite": Dqlite, "etcd": Etcd}
LOADED = {"throughput": "rotating", "h2load": "h2load"}
SCENARIOS = (*LOADED, "watch", "start", "failover", "check-perf", "pysyncobj")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def products(arguments: argparse.Namespace) -> list[Product]:
    """Return the products to measure: those named, and an earlier version where one is given."""
    found: list[Product] = [PRODUCTS[name]() for name in arguments.products.split(",")]
    return [*found, EarlierDqlite(arguments.earlier)] if arguments.earlier else found


def empty_results(arguments: argparse.Namespace, names: list[str]) -> Result:
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}, loopback",
        # Where things lie on this machine is nobody's business; their last names tell enough.
        "command": "python -m bench " + re.sub(r"/\S*/", "", " ".join(sys.argv[1:])),
        "settings": (
            f"{arguments.rounds} rounds of {arguments.seconds:g} s a load, 256-byte random values,"
            " one connection to each member asked"
        ),
        "products": names,
        "rounds": [],
        "cold_start_s": {name: [] for name in names},
        "restart_s": {name: [] for name in names},
        "failover_s": {},
        "check_perf": {},
        "pysyncobj": {},
        "failed": [],
    }


def measure(arguments: argparse.Namespace, chosen: list[Product], results: Result) -> None:
    """Run the chosen scenarios; products alternate, the first one changing each round."""
    only = arguments.only.split(",")
    began = time.monotonic()
    for number in range(arguments.rounds):
        for product in chosen if number % 2 == 0 else chosen[::-1]:
            measure_round(product, number, only, arguments, results)
    for product in chosen:
        if "failover" in only:
            work = partial(kill_leaders, product, arguments, results)
            guarded(product.name, "failover", results, work)
        if "check-perf" in only:
            found = attempt(partial(check_perf, product, arguments.check_load))
            results["check_perf"][product.name] = found
            say(f"{product.name}: check perf: {found.get('verdicts') or found['failed']}")
    if "pysyncobj" in only:
        guarded("pysyncobj", "puts", results, partial(measure_pysyncobj_too, arguments, results))
    results["took_s"] = round(time.monotonic() - began)


def widths(arguments: argparse.Namespace) -> tuple[int, ...]:
    return tuple(int(width) for width in arguments.concurrency.split(","))


def measure_round(
    product: Product, number: int, only: list[str], arguments: argparse.Namespace, results: Result
) -> None:
    """Measure one product once and add what was found to the results."""
    plan = Plan(
        generators=tuple(LOADED[name] for name in LOADED if name in only),
        concurrencies=widths(arguments),
        seconds=arguments.seconds,
        idle_s=arguments.idle_seconds if number == 0 else 0.0,
        watches="watch" in only,
    )
    if plan.generators or plan.watches:
        results["rounds"].append({"product": product.name, "round": number, "points": []})

        def loaded() -> None:
            results["rounds"][-1] |= loaded_round(product, plan, say)

        guarded(product.name, "three members", results, loaded)
    if "start" in only:

        def start() -> None:
            cold, again = cold_start_s(product)
            results["cold_start_s"][product.name].append(cold)
            results["restart_s"][product.name].append(again)
            say(f"{product.name}: cold start {cold} s, restart {again} s")

        guarded(product.name, "start", results, start)


def kill_leaders(product: Product, arguments: argparse.Namespace, results: Result) -> None:
    results["failover_s"][product.name] = failover_times_s(product, arguments.kills, say)


def measure_pysyncobj_too(arguments: argparse.Namespace, results: Result) -> None:
    for width in widths(arguments):
        results["pysyncobj"][str(width)] = measure_pysyncobj(width, arguments.seconds)


def guarded(name: str, what: str, results: Result, work: Callable[[], None]) -> None:
    """Do a piece of work; note its failure and go on with the rest."""
    try:
        work()
    except FAILURES as error:
        text = f"{name}: {what}: {type(error).__name__}: {error}"
        results["failed"].append(text)
        say(f"FAILED: {text}")


def write_report(results: Result, folder: Path) -> None:
    """Write JSON, Markdown and plots, and print the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = results["when"].replace(" UTC", "").replace(":", "").replace(" ", "-")
    (folder / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    plots = write_plots(results, folder, stem) if can_plot() else []
    if not can_plot():
        say("no plots: matplotlib is not installed (pip install -e '.[bench]')")
    text = markdown(results, plots)
    (folder / f"{stem}.md").write_text(text)
    print(text)


def run(arguments: argparse.Namespace) -> int:
    for flag, given, known in (
        ("--only", arguments.only, SCENARIOS),
        ("--products", arguments.products, PRODUCTS),
    ):
        unknown = set(given.split(",")) - set(known)
        if unknown:
            say(f"{flag}: there is no {', '.join(sorted(unknown))}, only {', '.join(known)}")
            return 2
    chosen = products(arguments)
    results = empty_results(arguments, [product.name for product in chosen])
    try:
        measure(arguments, chosen, results)
    finally:  # a run that is broken off shows what it had
        write_report(results, arguments.out)
    return 1 if failures(results) else 0


def report(arguments: argparse.Namespace) -> int:
    write_report(json.loads(arguments.file.read_text()), arguments.out)
    return 0


def profile(arguments: argparse.Namespace) -> int:
    try:
        text = profiled(Dqlite(), arguments.concurrency, arguments.seconds, arguments.rows)
    except FAILURES as error:
        say(f"no profile: {error}")
        return 1
    print(text)
    if arguments.out:
        arguments.out.write_text(text)
    return 0


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = top.add_subparsers(required=True)
    results = Path(__file__).parent / "results"
    it = commands.add_parser("run", help="measure and write a report")
    it.set_defaults(command=run)
    it.add_argument("--rounds", type=int, default=3)
    it.add_argument("--seconds", type=float, default=3.0, help="each load")
    it.add_argument("--concurrency", default="1,16,64,256")
    it.add_argument("--idle-seconds", type=float, default=8.0)
    it.add_argument("--kills", type=int, default=5, help="of a leader, for failover")
    it.add_argument("--check-load", default="l", choices=["s", "m", "l", "xl"])
    it.add_argument("--products", default=",".join(PRODUCTS))
    it.add_argument("--earlier", type=Path, help="a checkout of an earlier version, also measured")
    it.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, comma-separated")
    it.add_argument("--out", type=Path, default=results)
    it = commands.add_parser("report", help="write the report of a run again from its JSON")
    it.set_defaults(command=report)
    it.add_argument("file", type=Path)
    it.add_argument("--out", type=Path, default=results)
    it = commands.add_parser("profile", help="sample the leader under puts (needs py-spy)")
    it.set_defaults(command=profile)
    it.add_argument("--concurrency", type=int, default=64)
    it.add_argument("--seconds", type=float, default=10.0)
    it.add_argument("--rows", type=int, default=20)
    it.add_argument("--out", type=Path)
    return top


def main() -> None:
    arguments = parser().parse_args()
    sys.exit(arguments.command(arguments))


if __name__ == "__main__":
    main()

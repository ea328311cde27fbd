"""``python -m bench run``: measure three members of this server and of etcd 3.5.1, interleaved."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.pysyncobj_peer import measure as measure_pysyncobj
from bench.report import Result, markdown
from bench.scenarios import check_perf, cold_start_s, failover_times_s, throughput_round
from tests.kit.products import Dqlite, Etcd, Product

PRODUCTS: dict[str, Product] = {"dqlite": Dqlite(), "etcd": Etcd()}
SCENARIOS = ("throughput", "start", "failover", "check-perf", "pysyncobj")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(arguments: argparse.Namespace) -> Result:
    """Run the chosen scenarios; products alternate, the first one changing each round."""
    products = [PRODUCTS[name] for name in arguments.products.split(",")]
    only = arguments.only.split(",")
    widths = [int(width) for width in arguments.concurrency.split(",")]
    results: Result = {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}, loopback",
        "settings": (
            f"{arguments.rounds} rounds of {arguments.seconds:g} s, 256-byte random values,"
            " 10,000 rotating keys, one connection to the leader"
        ),
        "rounds": [],
        "cold_start_s": {name: [] for name in PRODUCTS},
        "restart_s": {name: [] for name in PRODUCTS},
        "failover_s": {},
        "check_perf": [],
        "pysyncobj": {},
    }
    for number in range(arguments.rounds):
        for product in products if number % 2 == 0 else products[::-1]:
            if "throughput" in only:
                idle_s = arguments.idle_seconds if number == 0 else 0
                found = throughput_round(product, widths, arguments.seconds, idle_s, say)
                results["rounds"].append(found | {"round": number})
            if "start" in only:
                cold, again = cold_start_s(product)
                results["cold_start_s"][product.name].append(cold)
                results["restart_s"][product.name].append(again)
                say(f"{product.name}: cold start {cold} s, restart {again} s")
    for product in products:
        if "failover" in only:
            results["failover_s"][product.name] = failover_times_s(product, arguments.kills, say)
        if "check-perf" in only:
            results["check_perf"].append(check_perf(product))
            say(f"{product.name}: check perf: {results['check_perf'][-1]['verdicts']}")
    if "pysyncobj" in only:
        for width in widths:
            results["pysyncobj"][str(width)] = measure_pysyncobj(width, arguments.seconds)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    run = parser.add_subparsers(required=True).add_parser("run", help="measure and write a report")
    run.add_argument("--rounds", type=int, default=3)
    run.add_argument("--seconds", type=float, default=5.0, help="each load")
    run.add_argument("--concurrency", default="1,16,64")
    run.add_argument("--idle-seconds", type=float, default=10.0)
    run.add_argument("--kills", type=int, default=20)
    run.add_argument("--products", default=",".join(PRODUCTS))
    run.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, comma-separated")
    run.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    results = measure(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    stem = results["when"].replace(" UTC", "").replace(":", "").replace(" ", "-")
    (arguments.out / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    text = markdown(results)
    (arguments.out / f"{stem}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

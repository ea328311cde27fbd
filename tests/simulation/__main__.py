"""Runs many seeds: ``python -m tests.simulation --seeds 200 --first 1 --minutes 10``."""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.simulation.course import Outcome
from tests.simulation.coverage import REACHED, Coverage
from tests.simulation.orders import Order, run_order

ROOT = Path(__file__).resolve().parent.parent.parent


def orders(options: argparse.Namespace) -> Iterator[Order]:
    """Yield the seeds in order, until there are enough or the time is over."""
    deadline_s = time.monotonic() + options.minutes * 60
    for seed in range(options.first, options.first + options.seeds):
        if time.monotonic() > deadline_s:
            return
        yield Order(seed, options.virtual_seconds, options.operations)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=50, help="how many seeds")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no seed after this time")
    parser.add_argument("--virtual-seconds", type=float, default=60.0, help="length of a run")
    parser.add_argument("--operations", type=int, default=2000, help="client operations of a run")
    parser.add_argument("--processes", type=int, default=2, help="runs side by side")
    return parser.parse_args()


def commit() -> str:
    """Return the commit that the code is of, marked if files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def show_failure(console: Console, outcome: Outcome, options: argparse.Namespace) -> None:
    console.rule(f"seed {outcome.seed} failed at commit {commit()}")
    console.print(outcome.failure, markup=False, highlight=False)
    console.print("The last events before (virtual seconds, member.life):", markup=False)
    for line in outcome.transcript:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"Again: python -m tests.simulation --seeds 1 --first {outcome.seed} "
        f"--virtual-seconds {options.virtual_seconds:g} --operations {options.operations}",
        markup=False,
    )


def show_coverage(console: Console, coverage: Coverage, seeds: int) -> None:
    table = Table(title=f"reached in {seeds} seeds")
    table.add_column("what")
    table.add_column("times", justify="right")
    for name in REACHED:
        table.add_row(name, f"{coverage[name]:,}")
    console.print(table)


def main() -> int:
    options = parse()
    console = Console()
    total, done, failed = Coverage(), 0, 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    context = multiprocessing.get_context("spawn")
    with Progress(*columns, console=console) as progress, context.Pool(options.processes) as pool:
        bar = progress.add_task("seeds", total=options.seeds)
        slots = context.Semaphore(options.processes)

        def paced() -> Iterator[Order]:
            # ``imap`` would take all orders at once and never notice that the time is over.
            for order in orders(options):
                slots.acquire()
                yield order

        for outcome in pool.imap_unordered(run_order, paced()):
            slots.release()
            done += 1
            total.update(outcome.coverage)
            progress.advance(bar)
            if not console.is_terminal:
                verdict = "FAILED" if outcome.failure else "ok"
                console.print(f"seed {outcome.seed}: {verdict} {outcome.fingerprint}")
            if outcome.failure:
                failed += 1
                show_failure(console, outcome, options)
    show_coverage(console, total, done)
    console.print(f"{done} seeds, {failed} failed, commit {commit()}")
    return 1 if failed or not done else 0


if __name__ == "__main__":
    sys.exit(main())

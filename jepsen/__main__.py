"""The command line: run one pair, a matrix of pairs, the controls; remove what dead runs left."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from jepsen.catching import find, table
from jepsen.controls import CONTROLS
from jepsen.matrix import CORE, PARALLEL, Matrix, cells, line, passed
from jepsen.matrix import summary as table_of
from jepsen.nodes.ledger import clean as clean_up
from jepsen.nodes.machine import lacking
from jepsen.recheck import recheck
from jepsen.run import (
    CANNOT_RUN_EXIT,
    REPOSITORY,
    CannotRun,
    Options,
    commit,
    execute,
    results_directory,
)
from jepsen.summary import NOT_RUN, page, read_outcomes

PAGE = REPOSITORY / "docs" / "jepsen.md"
PRODUCTS = click.Choice(["dqlite", "etcd", "etcd-debian"])


@click.group()
def main() -> None:
    """Try to break a replicated store."""

    def stop(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)


@main.command()
@click.option("--workload", required=True)
@click.option("--nemesis", default="none", show_default=True)
@click.option("--time-limit", "time_limit_s", default=60.0, show_default=True, help="Seconds.")
@click.option("--seed", default=0, show_default=True)
@click.option("--product", "product_name", type=PRODUCTS, default="dqlite", show_default=True)
@click.option("--clients", default=Options.clients, show_default=True)
@click.option("--rate", "rate_per_s", default=120.0, show_default=True, help="Operations a second.")
@click.option("--loopback", is_flag=True, help="Use the proxy even where namespaces can be made.")
@click.option("--fault", default=None, help="A build with this deliberate fault.")
@click.option("--report/--no-report", default=True, show_default=True, help="Page, plots, EDN.")
@click.option("--out", "directory", type=click.Path(path_type=Path), default=None)
def run(product_name: str, **fields: object) -> None:
    """Run one workload under one nemesis."""
    try:
        outcome = execute(
            Options(product=product_name, **fields),  # type: ignore[arg-type]
            lambda text: click.echo(text, err=True),
        )
    except (CannotRun, KeyError, FileNotFoundError) as reason:
        click.echo(f"cannot run: {reason}", err=True)
        sys.exit(CANNOT_RUN_EXIT if isinstance(reason, CannotRun) else 2)
    click.echo(json.dumps(outcome, indent=1))
    sys.exit(0 if outcome["verdict"] == "valid" else 1)


@main.command()
@click.option("--seconds", "time_limit_s", default=60.0, show_default=True, help="Each cell.")
@click.option("--seed", default=0, show_default=True)
@click.option("--product", "product_name", type=PRODUCTS, default="dqlite", show_default=True)
@click.option("--workload", "workloads", multiple=True, help="Only these.")
@click.option("--nemesis", "nemeses", multiple=True, help="Only these.")
@click.option("--core", is_flag=True, help="Only the pairs of the ten-minute run.")
@click.option("--resume/--no-resume", default=True, show_default=True)
@click.option("--again-failed", is_flag=True, help="Run cells again that are not valid.")
@click.option("--parallel", default=PARALLEL, show_default=True, help="Cells at a time.")
@click.option("--clients", default=Options.clients, show_default=True)
@click.option("--rate", "rate_per_s", default=120.0, show_default=True, help="Operations a second.")
@click.option("--report/--no-report", default=False, show_default=True, help="For valid cells.")
@click.option("--loopback", is_flag=True, help="Use the proxy even where namespaces can be made.")
def matrix(
    product_name: str,
    workloads: tuple[str, ...],
    nemeses: tuple[str, ...],
    core: bool,
    resume: bool,
    again_failed: bool,
    parallel: int,
    **fields: object,
) -> None:
    """Run all pairs, going on where an earlier run of this commit ended."""
    chosen = [
        cell
        for cell in cells(CORE if core else None)
        if (not workloads or cell.workload in workloads)
        and (not nemeses or cell.nemesis in nemeses)
    ]
    for text in lacking():
        click.echo(text)
    options = Options(workload="", product=product_name, **fields)  # type: ignore[arg-type]
    outcomes = Matrix(options, parallel, resume, again_failed, click.echo).run(chosen)
    click.echo(table_of(outcomes))
    sys.exit(0 if passed(outcomes) else 1)


@main.command()
@click.option("--time-limit", "time_limit_s", default=60.0, show_default=True, help="Seconds each.")
@click.option("--seed", default=0, show_default=True)
@click.option("--fault", "faults", multiple=True, type=click.Choice(list(CONTROLS)))
def controls(time_limit_s: float, seed: int, faults: tuple[str, ...]) -> None:
    """Run every build with a deliberate fault; each must be caught."""
    chosen = [CONTROLS[name] for name in faults or CONTROLS]
    rows = [find(control, time_limit_s, seed, click.echo) for control in chosen]
    click.echo(table(rows))
    sys.exit(0 if all(row.caught for row in rows) else 1)


@main.command()
@click.argument("outcomes", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--check-limit", "check_limit_s", default=600.0, show_default=True, help="Seconds.")
def check(outcomes: tuple[Path, ...], check_limit_s: float) -> None:
    """Check the recorded histories of OUTCOMES (JSON files) again; nothing is run."""
    checked = [recheck(path, check_limit_s) for path in outcomes]
    for outcome in checked:
        click.echo(line(outcome))
    sys.exit(0 if passed(checked) else 1)


@main.command()
@click.option("--results", type=click.Path(exists=True, path_type=Path), help="A matrix's folder.")
@click.option("--out", type=click.Path(path_type=Path), default=PAGE, show_default=True)
def summary(results: Path | None, out: Path) -> None:
    """Write the page about a matrix: by default that of this commit."""
    folder = results or results_directory() / "matrix" / f"dqlite-{commit()}"
    outcomes = read_outcomes(folder)
    out.write_text(page(outcomes))
    click.echo(f"{out}: {folder}")
    whole = all(each.get("skipped") != NOT_RUN for each in outcomes)
    sys.exit(0 if whole and passed(outcomes) else 1)


@main.command()
def clean() -> None:
    """End the processes and remove the namespaces and mounts of runs that are dead."""
    for text in clean_up():
        click.echo(text)


if __name__ == "__main__":
    main()

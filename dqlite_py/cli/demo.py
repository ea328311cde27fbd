"""``dqlite-py demo``: three servers on this machine and a guided tour of what they do."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from dqlite_py.cli.demo_client import DemoFailed
from dqlite_py.cli.demo_cluster import DemoCluster, dqlite_launcher, make_places
from dqlite_py.cli.demo_tour import Tour
from dqlite_py.cluster.tokens import Token

NAMES = ("n1", "n2", "n3")


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave the servers running at the end.")
def command(keep: bool) -> None:
    """Start three servers here, show what they do, kill the leader, check that nothing is lost.

    Exit code 1 if anything differs from what it must be. Listens on 127.0.0.1 only.
    """
    console = Console()
    directory = Path(tempfile.mkdtemp(prefix="dqlite-py-demo-"))
    token = Token.generate(secrets.token_bytes)
    cluster = DemoCluster(make_places(directory, NAMES), dqlite_launcher(token.text))
    run_tour(Tour(cluster, console), cluster, console, directory, keep=keep)


def run_tour(
    tour: Tour, cluster: DemoCluster, console: Console, directory: Path, *, keep: bool
) -> None:
    """Run the tour, then stop the servers and remove ``directory`` unless asked to keep them.

    Raises DemoFailed when something differs; the servers' logs are kept then.
    """
    began_s = time.monotonic()
    try:
        tour.run()
    except BaseException as error:
        cluster.stop_all()
        if isinstance(error, DemoFailed):
            console.print(f"\n[bold red]FAILED[/] the servers' logs are in {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)
        raise
    console.print(f"\n[bold green]All of it held[/] in {time.monotonic() - began_s:.1f} s.")
    if keep:
        print_kept(cluster, console, directory)
        return
    codes = cluster.stop_all()
    unclean = {name: code for name, code in codes.items() if code != 0}
    if unclean:
        raise DemoFailed(f"servers did not stop cleanly: {unclean}; their logs are in {directory}")
    shutil.rmtree(directory)
    console.print("The servers were stopped and their data removed.")


def print_kept(cluster: DemoCluster, console: Console, directory: Path) -> None:
    """Say how to use, stop and remove what is left running."""
    endpoints = ",".join(process.place.target for process in cluster.processes)
    pids = " ".join(str(process.pid) for process in cluster.running)
    for line in (
        f"The servers go on; data and logs are in {directory}",
        f"  look:   dqlite-py status --endpoints {endpoints}",
        f"  use:    etcdctl --endpoints {endpoints} get --prefix demo/",
        f"  stop:   kill {pids}",
        f"  remove: rm -r {directory}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)

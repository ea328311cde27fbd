"""What one process costs, read from /proc, and runs of this package's load generators."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.failures import CannotMeasure
from tests.kit.processes import Cluster, ServerProcess, run

GRACE_S = 30.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Return resident memory in MB of 10^6 bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return round(int(found[1]) * 1024 / 1e6, 1)


def cpu_s(pid: int) -> float:
    """Return the processor seconds, user and system, a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def idle_cpu_percent(cluster: Cluster, seconds: float) -> list[float]:
    """Return each member's share of one core, in percent, while nothing is asked of it."""
    pids = list(cluster.pids().values())
    before = [cpu_s(pid) for pid in pids]
    time.sleep(seconds)
    return [
        round(100 * (cpu_s(pid) - old) / seconds, 2) for pid, old in zip(pids, before, strict=True)
    ]


def spread(members: Sequence[ServerProcess], concurrency: int) -> list[tuple[ServerProcess, int]]:
    """Return how many calls each member gets at a time; the first ones get what is left over.

    The leader comes first wherever members are listed, so that a single stream asks the leader of
    every product alike.
    """
    share, rest = divmod(concurrency, len(members))
    widths = [(member, share + (number < rest)) for number, member in enumerate(members)]
    return [(member, width) for member, width in widths if width]


def output_of(module: str, arguments: Sequence[str], timeout_s: float) -> dict[str, Any]:
    """Run a load generator as a process of its own and return the JSON it prints.

    Raises CannotMeasure if it fails or does not end in time.
    """
    try:
        done = run([sys.executable, "-m", module, *arguments], timeout_s)
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"{module} did not end within {timeout_s} s") from None
    if done.returncode:
        raise CannotMeasure(f"{module}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def load(
    members: Sequence[ServerProcess], kind: str, concurrency: int, seconds: float
) -> dict[str, Any]:
    """Put ``concurrency`` calls with rotating keys and values on the members for ``seconds``."""
    endpoints = ",".join(member.address.client for member in members)
    return output_of(
        "bench.load",
        [
            f"--endpoints={endpoints}",
            f"--kind={kind}",
            f"--concurrency={concurrency}",
            f"--seconds={seconds}",
        ],
        seconds + GRACE_S,
    )

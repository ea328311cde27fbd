"""What one process costs, read from /proc, and runs of the load generator."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.kit.processes import REPOSITORY, Cluster

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


def cpu_of(pids: Iterable[int]) -> float:
    return sum(cpu_s(pid) for pid in pids)


def idle_cpu_percent(cluster: Cluster, seconds: float) -> list[float]:
    """Return each member's share of one core, in percent, while nothing is asked of it."""
    pids = list(cluster.pids().values())
    before = [cpu_s(pid) for pid in pids]
    time.sleep(seconds)
    return [
        round(100 * (cpu_s(pid) - old) / seconds, 2) for pid, old in zip(pids, before, strict=True)
    ]


def load(
    cluster: Cluster, endpoints: Sequence[str], kind: str, concurrency: int, seconds: float
) -> dict[str, Any]:
    """Run the generator in its own process; add the cluster's processor seconds per 1,000 calls."""
    generator = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bench.load",
            f"--endpoints={','.join(endpoints)}",
            f"--kind={kind}",
            f"--concurrency={concurrency}",
            f"--seconds={seconds}",
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert generator.stdout is not None
    pids = list(cluster.pids().values())
    with generator:
        try:
            assert generator.stdout.readline() == "recording\n", "the load generator did not start"
            before = cpu_of(pids)
            line = generator.stdout.readline()
            used = cpu_of(pids) - before
        finally:
            generator.kill()
    result: dict[str, Any] = json.loads(line)
    result["cpu_s_per_1000"] = round(1000 * used / max(1, result["done"]), 4)
    return result

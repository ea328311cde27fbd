"""The measurements: throughput and cost, start, failover, and etcd's own check."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench.measure import idle_cpu_percent, load, rss_mb
from tests.kit.etcd_client import EtcdClient, Refused
from tests.kit.etcdctl import command
from tests.kit.processes import Cluster, ServerProcess, run
from tests.kit.products import Product

Result = dict[str, Any]
Say = Callable[[str], None]

CHECK_PERF_TIMEOUT_S = 180.0
ATTEMPT_TIMEOUT_S = 0.3
FAILOVER_TIMEOUT_S = 30.0


def throughput_round(
    product: Product, concurrencies: Sequence[int], seconds: float, idle_s: float, say: Say
) -> Result:
    """Start three members, measure them at rest, then put through the leader at each width."""
    result: Result = {"product": product.name, "put": {}, "range": {}}
    with Cluster(product) as cluster:
        began = time.monotonic()
        cluster.start()
        result["cluster_start_s"] = round(time.monotonic() - began, 3)
        pids = cluster.pids().values()
        result["rss_start_mb"] = [rss_mb(pid) for pid in pids]
        if idle_s:
            result["idle_cpu_percent"] = idle_cpu_percent(cluster, idle_s)
        leader = [cluster.wait_leader().address.client]
        for width in concurrencies:
            found = load(cluster, leader, "put", width, seconds)
            result["put"][str(width)] = found
            say(f"{product.name}: put c={width}: {found['per_s']}/s, p99 {found['p99_ms']} ms")
        result["rss_loaded_mb"] = [rss_mb(pid) for pid in pids]
        width = max(concurrencies)
        for kind in ("range", "serializable"):
            found = load(cluster, cluster.endpoints, kind, width, seconds)
            result["range"][kind] = found | {"concurrency": width}
            say(f"{product.name}: {kind} c={width}: {found['per_s']}/s, p99 {found['p99_ms']} ms")
    return result


def cold_start_s(product: Product) -> tuple[float, float]:
    """Return seconds from starting one lone server to its ready line, new and with data."""
    with Cluster(product, 1) as cluster:
        server = cluster.members[0]
        server.start(wait=False)
        first = server.wait_ready()
        for number in range(100):
            server.client.put(b"start/%d" % number, b"v" * 256)
        server.kill()
        server.start(wait=False)
        return round(first, 3), round(server.wait_ready(), 3)


def failover_times_s(product: Product, kills: int, say: Say) -> list[float]:
    """Return, for each SIGKILL of a leader, the seconds until the next acknowledged put."""
    times = []
    with Cluster(product) as cluster:
        cluster.start()
        for number in range(kills):
            leader = cluster.wait_leader()
            survivors = [member for member in cluster.members if member is not leader]
            for member in survivors:
                member.client.put(b"failover", b"warm")
            leader.kill()
            took = first_acknowledged_put_s(survivors, b"kill %d" % number)
            times.append(round(took, 3))
            say(f"{product.name}: failover {number + 1}/{kills}: {took:.2f} s")
            leader.restart()
            cluster.wait_level()
    return times


def first_acknowledged_put_s(members: Sequence[ServerProcess], value: bytes) -> float:
    """Put through each of the members at once until one is answered; return how long it took."""
    began = time.monotonic()
    done = threading.Event()
    taken: list[float] = []

    def attempt(client: EtcdClient) -> None:
        while not done.is_set() and time.monotonic() - began < FAILOVER_TIMEOUT_S:
            try:
                client.put(b"failover", value, timeout_s=ATTEMPT_TIMEOUT_S)
            except Refused:
                done.wait(0.01)
            else:
                taken.append(time.monotonic() - began)
                done.set()

    threads = [threading.Thread(target=attempt, args=(member.client,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not taken:
        raise TimeoutError(
            f"no put acknowledged within {FAILOVER_TIMEOUT_S} s of killing the leader"
        )
    return min(taken)


def check_perf(product: Product) -> Result:
    """Run ``etcdctl check perf --load=s`` against three members; it takes a minute."""
    with Cluster(product) as cluster:
        cluster.start()
        done = run(
            command(",".join(cluster.endpoints), ["check", "perf", "--load=s"]),
            CHECK_PERF_TIMEOUT_S,
        )
    lines = [line.strip() for line in done.stdout.replace("\r", "\n").splitlines()]
    return {
        "product": product.name,
        "exit": done.returncode,
        "verdicts": [
            line for line in lines if line.startswith(("PASS", "FAIL", "Slowest", "Stddev"))
        ],
    }

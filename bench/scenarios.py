"""The measurements on three members: throughput and cost, watches, start, failover, check perf.

A figure that could not be had is recorded as ``{"failed": why}``, never as a number.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from bench import counters, h2load
from bench.failures import CannotMeasure
from bench.measure import GRACE_S, idle_cpu_percent, load, rss_mb
from bench.wire import KEY_COUNT, VALUE_BYTES, rotating_key
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.etcd_client import EtcdClient, Refused
from tests.kit.etcdctl import command
from tests.kit.processes import REPOSITORY, Cluster, NeverHappened, ServerProcess, run
from tests.kit.products import Product

Result = dict[str, Any]
Say = Callable[[str], None]
Generator = Callable[[Sequence[ServerProcess], str, int, float], Result]

GENERATORS: dict[str, Generator] = {"rotating": load, "h2load": h2load.run}
KINDS = ("put", "range", "serializable")
# What a server or a tool that fails raises; anything else is a mistake of the bench's own.
FAILURES = (CannotMeasure, Refused, NeverHappened, OSError, grpc.RpcError, TimeoutError)

FILL_KEYS_A_TXN = 100
WARM_UP_S = 0.5
WARM_UP_CALLS = 64
WATCHERS = 100
CHECK_PERF_TIMEOUT_S = 240.0
ATTEMPT_TIMEOUT_S = 0.3
FAILOVER_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Plan:
    """What to measure in a round and for how long."""

    generators: tuple[str, ...]
    concurrencies: tuple[int, ...]
    seconds: float
    idle_s: float = 0.0
    watches: bool = False


def loaded_round(product: Product, plan: Plan, say: Say) -> Result:
    """Start three members, measure them at rest, then under each load in turn."""
    result: Result = {"product": product.name, "points": []}
    with Cluster(product) as cluster:
        began = time.monotonic()
        cluster.start()
        result["cluster_start_s"] = round(time.monotonic() - began, 3)
        result["rss_start_mb"] = [rss_mb(pid) for pid in cluster.pids().values()]
        if plan.idle_s:
            result["idle_cpu_percent"] = idle_cpu_percent(cluster, plan.idle_s)
        fill(cluster.wait_leader().client, h2load.ONE_KEY)
        load([cluster.wait_leader()], "put", WARM_UP_CALLS, WARM_UP_S)
        for generator, kind, width in points(plan):
            found = attempt(partial(point, cluster, generator, kind, width, plan.seconds))
            labels = {"generator": generator, "kind": kind, "concurrency": width}
            result["points"].append(labels | found)
            say(f"{product.name}: {generator} {kind} c={width}: {told(found)}")
        if plan.watches:
            result["watch"] = attempt(partial(watch_point, cluster, plan.seconds))
            say(f"{product.name}: watch, {WATCHERS} watchers: {told(result['watch'])}")
        result["rss_loaded_mb"] = [rss_mb(pid) for pid in cluster.pids().values()]
    return result


def points(plan: Plan) -> list[tuple[str, str, int]]:
    """Return generator, kind and width of each load: all puts first, then the reads."""
    return [
        (generator, kind, width)
        for kind in KINDS
        for generator in plan.generators
        for width in plan.concurrencies
    ]


def attempt(measure: Callable[[], Result]) -> Result:
    """Return what a measurement found, or why it failed."""
    try:
        return measure()
    except FAILURES as error:
        return {"failed": f"{type(error).__name__}: {error}"}


def told(found: Result) -> str:
    if "failed" in found:
        return f"FAILED: {found['failed']}"
    errors = f", {found['errors']} ERRORS" if found["errors"] else ""
    return f"{found['per_s']:,.0f}/s, p99 {found['p99_ms']} ms{errors}"


def fill(client: EtcdClient, *more_keys: bytes) -> None:
    """Put every key that a load may read, so that no read is cheap for finding nothing."""
    keys = [*more_keys, *(rotating_key(number) for number in range(KEY_COUNT))]
    for at in range(0, len(keys), FILL_KEYS_A_TXN):
        puts = [
            rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"v" * VALUE_BYTES))
            for key in keys[at : at + FILL_KEYS_A_TXN]
        ]
        client.call("Txn", rpc.TxnRequest(success=puts))


def all_run(cluster: Cluster) -> None:
    """Raise CannotMeasure if a member has ended, with the last line that it said."""
    for member in cluster.members:
        if not member.running and member.process is not None:
            said = member.log().decode(errors="replace").strip().rpartition("\n")[2]
            code = member.process.returncode
            raise CannotMeasure(f"{member.name} ended with {code}; its last line: {said[:200]}")


def leader_first(cluster: Cluster) -> list[ServerProcess]:
    """Return the members, the leader first; raise CannotMeasure if one has ended."""
    all_run(cluster)
    leader = cluster.wait_leader()
    return [leader, *(member for member in cluster.members if member is not leader)]


def point(cluster: Cluster, generator: str, kind: str, width: int, seconds: float) -> Result:
    """Measure one load and its cost: puts at the leader, reads spread over all members."""
    members = leader_first(cluster)
    pids = list(cluster.pids().values())
    before = counters.read(cluster, members[0])
    targets = members[:1] if kind == "put" else members
    found = GENERATORS[generator](targets, kind, width, seconds)
    all_run(cluster)
    after = counters.read(cluster, members[0])
    if not found["done"]:
        raise CannotMeasure(f"no call was answered, {found['errors']} errors")
    if kind == "put":
        # h2load counts refused puts as answered; the revision does not.
        refused = found["done"] - (after.revision - before.revision)
        found["errors"] = max(found["errors"], refused)
    return found | counters.costs(before, after, found["done"], kind, pids)


def watch_point(cluster: Cluster, seconds: float) -> Result:
    """Measure events delivered to many watchers of one prefix, spread over all members."""
    members = leader_first(cluster)
    endpoints = ",".join(member.address.client for member in members)
    arguments = [f"--endpoints={endpoints}", f"--watchers={WATCHERS}", f"--seconds={seconds}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.watch_load", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise CannotMeasure(f"watchers did not start: {process.communicate()[1][-400:]}")
            before = counters.read(cluster, members[0])
            out, err = process.communicate("go\n", timeout=seconds + GRACE_S)
            all_run(cluster)
            after = counters.read(cluster, members[0])
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"the watchers did not end within {GRACE_S} s") from None
        finally:
            process.kill()
    if process.returncode:
        raise CannotMeasure(f"watchers: exit {process.returncode}: {err.strip()[-400:]}")
    found: Result = json.loads(out)
    pids = list(cluster.pids().values())
    return found | counters.costs(before, after, found["done"], "watch", pids)


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

    def try_on(client: EtcdClient) -> None:
        while not done.is_set() and time.monotonic() - began < FAILOVER_TIMEOUT_S:
            try:
                client.put(b"failover", value, timeout_s=ATTEMPT_TIMEOUT_S)
            except Refused:
                done.wait(0.01)
            else:
                taken.append(time.monotonic() - began)
                done.set()

    threads = [threading.Thread(target=try_on, args=(member.client,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not taken:
        raise TimeoutError(
            f"no put acknowledged within {FAILOVER_TIMEOUT_S} s of killing the leader"
        )
    return min(taken)


def check_perf_verdicts(output: str) -> Result:
    """Return what ``etcdctl check perf`` said; ``per_s`` is None where it named no rate."""
    lines = [line.strip() for line in output.replace("\r", "\n").splitlines()]
    verdicts = [line for line in lines if line.startswith(("PASS", "FAIL", "Slowest", "Stddev"))]
    rates = [re.search(r"Throughput (?:is|too low:) (\d+) writes/s", line) for line in verdicts]
    slowest = [re.search(r"Slowest request took.*?([\d.]+)s", line) for line in verdicts]
    return {
        "per_s": next((int(rate[1]) for rate in rates if rate), None),
        "slowest_s": next((float(found[1]) for found in slowest if found), None),
        "verdicts": verdicts,
    }


def check_perf(product: Product, size: str) -> Result:
    """Run ``etcdctl check perf``, a Go client, against three members; it takes a minute."""
    with Cluster(product) as cluster:
        cluster.start()
        arguments = ["check", "perf", f"--load={size}"]
        endpoints = ",".join(member.address.client for member in leader_first(cluster))
        try:
            done = run(command(endpoints, arguments), CHECK_PERF_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"no verdict within {CHECK_PERF_TIMEOUT_S} s") from None
    found = check_perf_verdicts(done.stdout)
    if not found["verdicts"]:
        raise CannotMeasure(f"exit {done.returncode}: {(done.stdout + done.stderr)[-400:]!r}")
    return {"load": size, "exit": done.returncode, **found}

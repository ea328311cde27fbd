"""pysyncobj as a measured peer: three processes, a journal file, no fsync (it has none).

``python -m bench.pysyncobj_peer --concurrency 16 --seconds 3`` prints one JSON line. The client
runs inside the leader process, which spares it a client protocol altogether. Journal compaction
is put off, because it loses acknowledged writes (docs/decisions).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from itertools import islice
from pathlib import Path

from bench.failures import CannotMeasure
from bench.load import summary
from bench.wire import VALUE_BYTES
from tests.kit.ports import free_ports

READY_TIMEOUT_S = 20.0
STARTING_LEADER = 0


def serve(arguments: argparse.Namespace) -> None:
    """Run one node; the node meant to lead also runs the client and prints the result."""
    from pysyncobj import SyncObj, SyncObjConf, replicated

    class Store(SyncObj):
        def __init__(self, own: str, others: list[str], conf: SyncObjConf) -> None:
            super().__init__(own, others, conf)
            self.count = 0
            self.latest = b""

        @replicated
        def put(self, value: bytes) -> None:
            self.count += 1
            self.latest = value

    everyone = [f"127.0.0.1:{port}" for port in arguments.ports.split(",")]
    own = everyone[arguments.node]
    lead = arguments.node == STARTING_LEADER
    conf = SyncObjConf(
        journalFile=f"{arguments.directory}/journal{arguments.node}",
        appendEntriesUseBatch=False,
        raftMinTimeout=0.4 if lead else 5.0,
        raftMaxTimeout=0.8 if lead else 6.0,
        connectionTimeout=10.0,
        logCompactionMinEntries=10**9,
        logCompactionMinTime=10**9,
    )
    store = Store(own, [other for other in everyone if other != own], conf)
    if lead:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while (
            not (store.isReady() and store.getStatus()["leader"] == store.selfNode)
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        print(json.dumps(put_for(store, arguments.concurrency, arguments.seconds)), flush=True)
        os._exit(0)
    threading.Event().wait()


def put_for(store: object, concurrency: int, seconds: float) -> dict[str, float]:
    """Keep ``concurrency`` puts under way for ``seconds``."""
    slots = threading.Semaphore(concurrency)
    latencies: list[float] = []
    errors = 0
    value = os.urandom(VALUE_BYTES)
    began, cpu_began = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        slots.acquire()
        started = time.perf_counter()

        def answered(_: object, error: int, started: float = started) -> None:
            nonlocal errors
            if error:
                errors += 1
            else:
                latencies.append(time.perf_counter() - started)
            slots.release()

        store.put(value, callback=answered)  # type: ignore[attr-defined]
    took = time.perf_counter() - began
    return summary(latencies[:], errors, took, time.process_time() - cpu_began)


def measure(concurrency: int, seconds: float) -> dict[str, float]:
    """Start three nodes in processes of their own and return the client's figures.

    Raises CannotMeasure if they gave none.
    """
    ports = ",".join(str(port) for port in islice(free_ports(), 3))
    with tempfile.TemporaryDirectory(prefix="pysyncobj-") as directory:
        nodes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "bench.pysyncobj_peer"),
                    *(f"--node={node}", f"--ports={ports}", f"--directory={directory}"),
                    *(f"--concurrency={concurrency}", f"--seconds={seconds}"),
                ],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=Path(__file__).resolve().parent.parent,
            )
            for node in range(3)
        ]
        try:
            out, _ = nodes[STARTING_LEADER].communicate(timeout=seconds + READY_TIMEOUT_S + 10)
        except subprocess.TimeoutExpired:
            raise CannotMeasure("pysyncobj's leader did not end in time") from None
        finally:
            for node in nodes:
                node.kill()
                node.wait()
                if node.stdout is not None:
                    node.stdout.close()
    if not out:
        raise CannotMeasure(f"pysyncobj's leader ended with {nodes[STARTING_LEADER].returncode}")
    result: dict[str, float] = json.loads(out)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--node", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--ports", help=argparse.SUPPRESS)
    parser.add_argument("--directory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.node is None:
        print(json.dumps(measure(arguments.concurrency, arguments.seconds)))
    else:
        serve(arguments)


if __name__ == "__main__":
    main()

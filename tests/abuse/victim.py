"""The server under attack and the well-behaved client beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from bench.measure import rss_mb
from dqlite_py.pb import rpc_pb2 as rpc
from tests.abuse.attacks import BIG_KEY, UNDER_TLS, Outcome
from tests.kit.etcd_client import CHANNEL_OPTIONS
from tests.kit.pki import Authority
from tests.kit.processes import REPOSITORY, Cluster, ServerProcess
from tests.kit.products import under_test
from tests.kit.tls_servers import tls_server

CALL_TIMEOUT_S = 20.0
BIG_BYTES = 1_000_000
SETTLE_S = 1.0
PAUSE_S = 0.005  # between calls: a client, not a load


@dataclass
class Watched:
    """What the well-behaved client and the process table saw."""

    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)

    @property
    def p99_ms(self) -> float:
        ordered = sorted(self.latencies_s)
        return round(1000 * ordered[int(0.99 * (len(ordered) - 1))], 1)

    @property
    def slowest_ms(self) -> float:
        return round(1000 * max(self.latencies_s), 1)


class Bystander:
    """A client that puts and gets by turns, and must be answered rightly whatever happens."""

    def __init__(self, server: ServerProcess, authority: Authority | None) -> None:
        self._server = server
        address = server.address.client
        if authority is None:
            self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            trust = grpc.ssl_channel_credentials(authority.path.read_bytes())
            self._channel = grpc.secure_channel(address, trust, options=CHANNEL_OPTIONS)
        self._put = self._stub("Put", rpc.PutRequest, rpc.PutResponse)
        self._range = self._stub("Range", rpc.RangeRequest, rpc.RangeResponse)

    def close(self) -> None:
        self._channel.close()

    def prepare(self) -> None:
        """Store what attacks ask for."""
        self._put(rpc.PutRequest(key=BIG_KEY, value=bytes(BIG_BYTES)), timeout=CALL_TIMEOUT_S)

    def once(self, number: int) -> None:
        value = b"%d" % number
        self._put(rpc.PutRequest(key=b"good", value=value), timeout=CALL_TIMEOUT_S)
        found = self._range(rpc.RangeRequest(key=b"good"), timeout=CALL_TIMEOUT_S)
        assert found.kvs[0].value == value

    def watch(self, watched: Watched, done: threading.Event, least: int = 20) -> None:
        """Call until told to stop; never fewer calls than ``least``."""
        number = 0
        while not done.is_set() or number < least:
            number += 1
            begun = time.monotonic()
            try:
                self.once(number)
            except grpc.RpcError as error:
                assert isinstance(error, grpc.Call)
                watched.failures.append(f"{error.code().name} {error.details()}")
                if len(watched.failures) > 5:
                    return
            watched.latencies_s.append(time.monotonic() - begun)
            watched.rss_mb.append(rss_mb(self._server.pid))
            done.wait(PAUSE_S)

    def _stub(self, method: str, request: Any, response: Any) -> Any:
        return self._channel.unary_unary(
            f"/etcdserverpb.KV/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )


@dataclass
class Result:
    """One row of the table."""

    attack: str
    outcome: Outcome
    before: Watched
    during: Watched
    rss_after_mb: float
    alive: bool


@contextmanager
def victim(folder: Path, *, tls: bool) -> Iterator[tuple[ServerProcess, Bystander]]:
    """Start a lone server and its well-behaved client."""
    if tls:
        authority = Authority(folder / "pki")
        with tls_server(folder, authority.issue("server")) as server:
            yield from _with_bystander(server, authority)
    else:
        with Cluster(under_test(), size=1, directory=folder) as cluster:
            yield from _with_bystander(cluster.start().members[0], None)


def _with_bystander(
    server: ServerProcess, authority: Authority | None
) -> Iterator[tuple[ServerProcess, Bystander]]:
    bystander = Bystander(server, authority)
    try:
        bystander.prepare()
        yield server, bystander
    finally:
        bystander.close()


def attacked(
    attack: str, server: ServerProcess, bystander: Bystander, seconds: float, calm_s: float
) -> Result:
    """Let a client work alone for ``calm_s``, then beside the attack, which has its own process."""
    before, during = Watched(), Watched()
    done = threading.Event()
    timer = threading.Timer(calm_s, done.set)
    timer.start()
    bystander.watch(before, done)
    timer.join()
    command = [sys.executable, "-m", "tests.abuse", attack]
    process = subprocess.Popen(
        [*command, str(server.address.client_port), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    ended = threading.Event()
    client = threading.Thread(target=bystander.watch, args=(during, ended))
    client.start()
    try:
        output, _ = process.communicate(timeout=seconds + 60)
    finally:
        process.kill()
        ended.set()
        client.join()
    time.sleep(SETTLE_S)
    outcome = Outcome(**json.loads(output))
    return Result(attack, outcome, before, during, rss_mb(server.pid), server.running)


def is_under_tls(attack: str) -> bool:
    return attack in UNDER_TLS

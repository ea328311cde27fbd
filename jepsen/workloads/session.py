"""One client of a run: it asks any member, one operation at a time, and writes down what it saw."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.history import FAIL, INFO, OK, HistoryWriter
from jepsen.nodes.cluster import Cluster
from jepsen.nodes.process import NodeProcess
from jepsen.workloads.outcome import classify, never_sent
from tests.kit.etcd_client import EtcdClient, Refused

TIMEOUT_S = 2.0
AFTER_NO_CONNECTION_S = 0.05
PREFER_RUNNING = 0.9


class Aborted(Exception):
    """The operation was given up, certainly without effect."""


@dataclass(frozen=True)
class Answer:
    """What an operation came to know: the value and the additions of its completion."""

    value: Any = None
    extra: Mapping[str, Any] | None = None


class Session:
    """A logical client; its process number changes after each operation of unknown outcome."""

    def __init__(
        self,
        number: int,
        count: int,
        cluster: Cluster,
        history: HistoryWriter,
        random: Random,
        stopping: threading.Event,
    ) -> None:
        self.number = number
        self.process = number
        self.cluster = cluster
        self.history = history
        self.random = random
        self.stopping = stopping
        self._count = count
        self._clients: dict[str, EtcdClient] = {}

    def pick(self) -> NodeProcess:
        """Return any member, mostly one whose process runs."""
        nodes = self.cluster.nodes
        running = [node for node in nodes if node.running]
        if running and self.random.random() < PREFER_RUNNING:
            return self.random.choice(running)
        return self.random.choice(nodes)

    def client(self, node: NodeProcess) -> EtcdClient:
        """Return this session's own connection to a member."""
        if node.name not in self._clients:
            self._clients[node.name] = EtcdClient(node.address.client)
        return self._clients[node.name]

    def perform(
        self,
        f: str,
        call: Callable[[EtcdClient], Answer],
        *,
        key: str | None = None,
        value: Any = None,
        extra: Mapping[str, Any] | None = None,
        reads_only: bool = False,
        node: NodeProcess | None = None,
    ) -> Answer | None:
        """Do one operation and record it; None if its answer is not known."""
        node = node or self.pick()
        invocation = self.history.invoke(
            self.process, f, key=key, value=value, node=node.name, extra=extra
        )
        try:
            answer = call(self.client(node))
        except Aborted as reason:
            self.history.complete(invocation, FAIL, value, error=str(reason))
            return None
        except Refused as error:
            outcome = classify(error, reads_only=reads_only)
            self.history.complete(invocation, outcome, value, error=str(error)[:200])
            if outcome == INFO:
                self.renew()
            if never_sent(error):
                self.stopping.wait(AFTER_NO_CONNECTION_S)
            return None
        self.history.complete(invocation, OK, answer.value, extra=answer.extra)
        return answer

    def renew(self) -> None:
        """Go on as a new process: the last operation may still be under way."""
        self.process += self._count

    def rest(self, rate_per_s: float) -> None:
        """Wait for the time between two operations at this session's share of the rate."""
        mean_s = self._count / rate_per_s
        self.stopping.wait(min(self.random.expovariate(1 / mean_s), 4 * mean_s))

    def repeat(self, work: Callable[[], bool], within_s: float) -> bool:
        """Repeat until ``work`` returns true; false if time runs out."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if work():
                return True
            time.sleep(AFTER_NO_CONNECTION_S)
        return False

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()


def kv_json(kv: Any) -> dict[str, Any]:
    """Return a key-value pair as the histories write it."""
    return {
        "key": kv.key.decode(),
        "value": kv.value.decode(),
        "create_revision": kv.create_revision,
        "mod_revision": kv.mod_revision,
        "version": kv.version,
        "lease": kv.lease,
    }


def put(key: str, value: str, **fields: Any) -> rpc.RequestOp:
    """Return a put inside a transaction."""
    request = rpc.PutRequest(key=key.encode(), value=value.encode(), **fields)
    return rpc.RequestOp(request_put=request)


def get(key: str, **fields: Any) -> rpc.RequestOp:
    """Return a range of one key inside a transaction."""
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key.encode(), **fields))

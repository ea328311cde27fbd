"""wr: single etcd transactions of reads and writes of unique values, for the search for cycles."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.checkers.read_write import check_read_write
from jepsen.checkers.result import Result
from jepsen.history import Event, Operation
from jepsen.workloads.register import RotatingKeys
from jepsen.workloads.session import TIMEOUT_S, Answer, Session, get, put
from jepsen.workloads.workload import Scale, Workload
from tests.kit.etcd_client import EtcdClient

LIVE_KEYS = 4
OPERATIONS_PER_KEY = 150
MOST_MICRO_OPERATIONS = 4


class ReadsAndWrites(Workload):
    """A transaction writes a key at most once, which is etcd's rule."""

    name = "wr"

    def __init__(self, random: Random, scale: Scale) -> None:
        super().__init__(random, scale)
        self._keys = RotatingKeys("w", LIVE_KEYS, OPERATIONS_PER_KEY)
        self._values = iter(range(1, 1 << 40))

    def step(self, session: Session) -> None:
        random = session.random
        micro: list[list[Any]] = []
        written: set[str] = set()
        for key in self._keys.sample(random, MOST_MICRO_OPERATIONS):
            if key in written or random.random() < 0.5:
                micro.append(["r", key, None])
            else:
                written.add(key)
                micro.append(["w", key, next(self._values)])
        session.perform(
            "txn", lambda client: transact(client, micro), value=micro, reads_only=not written
        )

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        return [check_read_write(operations)]


def transact(client: EtcdClient, micro: Sequence[Sequence[Any]]) -> Answer:
    """Do one transaction."""
    ops = [put(key, str(value)) if name == "w" else get(key) for name, key, value in micro]
    answer = client.txn(rpc.TxnRequest(success=ops), timeout_s=TIMEOUT_S)
    values: list[list[Any]] = []
    revisions: list[int | None] = []
    for (name, key, value), response in zip(micro, answer.responses, strict=True):
        if name == "w":
            values.append([name, key, value])
            revisions.append(None)
        else:
            kvs = response.response_range.kvs
            values.append([name, key, int(kvs[0].value) if kvs else None])
            revisions.append(kvs[0].mod_revision if kvs else 0)
    return Answer(values, {"revision": answer.header.revision, "mod_revisions": revisions})

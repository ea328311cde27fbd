"""register: reads, writes and compare-and-swap of single keys, each a linearizable register."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from random import Random
from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.checkers.linearizable import check_registers
from jepsen.checkers.result import Result
from jepsen.history import Event, Operation
from jepsen.workloads.session import TIMEOUT_S, Answer, Session, get, kv_json, put
from jepsen.workloads.workload import Scale, Workload
from tests.kit.etcd_client import EtcdClient

LIVE_KEYS = 3
OPERATIONS_PER_KEY = 200
VALUES = 5


class RotatingKeys:
    """A few live keys; each retires after its share of operations, so that checks stay small."""

    def __init__(self, prefix: str, live: int, operations_each: int) -> None:
        self._prefix = prefix
        self._each = operations_each
        self._guard = threading.Lock()
        self._born = live
        self._left = {f"{prefix}{number}": operations_each for number in range(live)}

    def pick(self, random: Random) -> str:
        """Return a live key and count one operation on it."""
        with self._guard:
            key = random.choice(list(self._left))
            self._left[key] -= 1
            if self._left[key] <= 0:
                del self._left[key]
                self._left[f"{self._prefix}{self._born}"] = self._each
                self._born += 1
            return key

    def sample(self, random: Random, most: int) -> list[str]:
        """Return up to ``most`` picks of live keys, with repetition."""
        return [self.pick(random) for _ in range(random.randint(1, most))]


class Registers(Workload):
    """Single keys under reads, writes and swaps."""

    name = "register"

    def __init__(self, random: Random, scale: Scale) -> None:
        super().__init__(random, scale)
        self._keys = RotatingKeys("r", LIVE_KEYS, OPERATIONS_PER_KEY)

    def step(self, session: Session) -> None:
        random = session.random
        key = self._keys.pick(random)
        kind = random.random()
        if kind < 0.45:
            _read(session, key, serializable=random.random() < 0.25)
        elif kind < 0.75:
            _write(session, key, random.randrange(VALUES))
        else:
            _swap(session, key, random.randrange(VALUES), random.randrange(VALUES))

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        return [check_registers(operations, time_limit_s=self.scale.check_limit_s)]


def _read(session: Session, key: str, *, serializable: bool) -> None:
    def call(client: EtcdClient) -> Answer:
        answer = client.range(key.encode(), serializable=serializable, timeout_s=TIMEOUT_S)
        kv = answer.kvs[0] if answer.kvs else None
        extra = {
            "revision": answer.header.revision,
            "mod_revision": kv.mod_revision if kv else 0,
            "version": kv.version if kv else 0,
        }
        return Answer(int(kv.value) if kv else None, extra)

    extra = {"serializable": True} if serializable else None
    session.perform("read", call, key=key, extra=extra, reads_only=True)


def _write(session: Session, key: str, value: int) -> None:
    def call(client: EtcdClient) -> Answer:
        answer = client.put(key.encode(), b"%d" % value, prev_kv=True, timeout_s=TIMEOUT_S)
        prev = kv_json(answer.prev_kv) if answer.HasField("prev_kv") else None
        if prev is not None:
            prev["value"] = int(prev["value"])
        return Answer(value, {"revision": answer.header.revision, "prev": prev})

    session.perform("write", call, key=key, value=value)


def _swap(session: Session, key: str, old: int, new: int) -> None:
    compare = rpc.Compare(
        key=key.encode(),
        target=rpc.Compare.VALUE,
        result=rpc.Compare.EQUAL,
        value=b"%d" % old,
    )
    request = rpc.TxnRequest(compare=[compare], success=[put(key, str(new))], failure=[get(key)])

    def call(client: EtcdClient) -> Answer:
        answer = client.txn(request, timeout_s=TIMEOUT_S)
        extra: dict[str, Any] = {
            "revision": answer.header.revision,
            "succeeded": answer.succeeded,
        }
        return Answer([old, new], extra)

    session.perform("cas", call, key=key, value=[old, new])

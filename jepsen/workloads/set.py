"""set: integers are added and read back; none that was acknowledged may be missing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from random import Random

from jepsen.checkers.result import Result
from jepsen.checkers.set_full import check_sets
from jepsen.history import Event, Operation
from jepsen.workloads.session import TIMEOUT_S, Answer, Session
from jepsen.workloads.workload import Scale, Workload
from tests.kit.etcd_client import EtcdClient

ELEMENTS_PER_SET = 250
SETS_AT_ONCE = 2
CLOSING_TRIES_S = 20.0


class Sets(Workload):
    """Each element is a key of its own below the set's prefix."""

    name = "set"

    def __init__(self, random: Random, scale: Scale) -> None:
        super().__init__(random, scale)
        self._elements = itertools.count()
        self._guard = threading.Lock()
        self._last_set = 0

    def step(self, session: Session) -> None:
        random = session.random
        if random.random() < 0.7:
            element = next(self._elements)
            group = element // ELEMENTS_PER_SET * SETS_AT_ONCE + element % SETS_AT_ONCE
            with self._guard:
                self._last_set = max(self._last_set, group)
            _add(session, f"s{group}", element)
        else:
            lowest = max(0, self._last_set - 2 * SETS_AT_ONCE + 1)
            name = f"s{random.randint(lowest, self._last_set)}"
            _read(session, name, serializable=random.random() < 0.25)

    def close(self, session: Session) -> None:
        for group in range(self._last_set + 1):
            session.repeat(
                lambda name=f"s{group}": _read(session, name, serializable=False) is not None,
                within_s=CLOSING_TRIES_S,
            )

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        return [check_sets(operations)]


def _add(session: Session, name: str, element: int) -> None:
    def call(client: EtcdClient) -> Answer:
        answer = client.put(f"{name}/{element}".encode(), b"", timeout_s=TIMEOUT_S)
        return Answer(element, {"revision": answer.header.revision})

    session.perform("add", call, key=name, value=element)


def _read(session: Session, name: str, *, serializable: bool) -> Answer | None:
    def call(client: EtcdClient) -> Answer:
        answer = client.prefix(
            f"{name}/".encode(), serializable=serializable, keys_only=True, timeout_s=TIMEOUT_S
        )
        found = [int(kv.key.rpartition(b"/")[2]) for kv in answer.kvs]
        return Answer(found, {"revision": answer.header.revision})

    extra = {"serializable": True} if serializable else None
    return session.perform("read", call, key=name, extra=extra, reads_only=True)

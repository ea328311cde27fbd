"""kv: every request of etcd's key-value service on a few keys, held to a model of all of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from jepsen.checkers.result import Result
from jepsen.checkers.whole_store import check_store
from jepsen.history import Event, Operation
from jepsen.workloads.requests import a_range, ask_one, ask_txn
from jepsen.workloads.session import Session
from jepsen.workloads.workload import Scale, Workload

KEYS = [f"k{number}" for number in range(6)]
HISTORY_DEPTH = 50


class WholeStore(Workload):
    """Puts, deletes, ranges now and in the past, and transactions."""

    name = "kv"

    def __init__(self, random: Random, scale: Scale) -> None:
        super().__init__(random, scale)
        self._values = itertools.count(1)
        self._newest = 1

    def step(self, session: Session) -> None:
        random = session.random
        kind = random.random()
        if kind < 0.3:
            op = self._put(random)
            answer = session.perform(
                "put", lambda client: ask_one(client, op), key=op["key"], value=op
            )
        elif kind < 0.4:
            op = self._delete(random)
            answer = session.perform(
                "delete", lambda client: ask_one(client, op), key=op["key"], value=op
            )
        elif kind < 0.7:
            answer = self._read(session)
        else:
            txn = self._txn(random)
            answer = session.perform("txn", lambda client: ask_txn(client, txn), value=txn)
        if answer is not None and answer.extra is not None:
            self._newest = max(self._newest, answer.extra["revision"])

    def _read(self, session: Session) -> Any:
        random = session.random
        op = a_range(random, KEYS)
        if random.random() < 0.15:
            op["revision"] = random.randint(max(2, self._newest - HISTORY_DEPTH), self._newest + 1)
        serializable = random.random() < 0.25
        return session.perform(
            "range",
            lambda client: ask_one(client, op, serializable=serializable),
            key=op["key"],
            value=op,
            extra={"serializable": True} if serializable else None,
            reads_only=True,
        )

    def _put(self, random: Random) -> dict[str, Any]:
        value = f"v{next(self._values)}"
        key = random.choice(KEYS)
        return {"op": "put", "key": key, "value": value, "prev_kv": random.random() < 0.5}

    def _delete(self, random: Random) -> dict[str, Any]:
        op: dict[str, Any] = {"op": "delete", "key": random.choice(KEYS)}
        if random.random() < 0.2:
            op["range_end"] = random.choice(["\0", *KEYS])
        op["prev_kv"] = random.random() < 0.5
        return op

    def _txn(self, random: Random) -> dict[str, Any]:
        return {
            "compare": [self._compare(random) for _ in range(random.randint(0, 2))],
            "success": self._ops(random),
            "failure": self._ops(random),
        }

    def _compare(self, random: Random) -> list[Any]:
        key = random.choice(KEYS)
        target = random.choice(["value", "version", "create", "mod"])
        relation = random.choice(["=", "!=", "<", ">"])
        if target == "value":
            return [key, target, relation, f"v{random.randint(0, self._newest)}"]
        high = 8 if target == "version" else self._newest
        return [key, target, relation, random.randint(0, high)]

    def _ops(self, random: Random) -> list[dict[str, Any]]:
        """Return ops that write no key twice, which etcd refuses."""
        ops: list[dict[str, Any]] = []
        free = random.sample(KEYS, len(KEYS))
        for _ in range(random.randint(0, 3)):
            kind = random.random()
            if kind < 0.5:
                ops.append(self._put(random) | {"key": free.pop()})
            elif kind < 0.7:
                ops.append({"op": "delete", "key": free.pop(), "prev_kv": random.random() < 0.5})
            else:
                ops.append(a_range(random, KEYS))
        return ops

    def close(self, session: Session) -> None:
        op = {"op": "range", "key": KEYS[0], "range_end": "\0"}

        def read() -> bool:
            call = session.perform(
                "range", lambda client: ask_one(client, op), key=op["key"], value=op,
                reads_only=True,
            )  # fmt: skip
            return call is not None

        session.repeat(read, within_s=20.0)

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        return [check_store(operations, time_limit_s=self.scale.check_limit_s)]

"""append: transactions that append to lists and read them, for the search for cycles.

A list is one value. A transaction reads the lists that it needs, then writes them in one etcd
transaction that is guarded by their mod revisions; a guard that does not hold means that nothing
happened. The reads that count are those inside the guarded transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.checkers.list_append import check_list_append
from jepsen.checkers.result import Result
from jepsen.history import Event, Operation
from jepsen.workloads.register import RotatingKeys
from jepsen.workloads.session import TIMEOUT_S, Aborted, Answer, Session, get, put
from jepsen.workloads.workload import Scale, Workload
from tests.kit.etcd_client import EtcdClient, Refused

LIVE_KEYS = 4
OPERATIONS_PER_KEY = 60
MOST_MICRO_OPERATIONS = 4
READ_SHARE = 0.45


class Appends(Workload):
    """Lists under transactions of up to four micro-operations."""

    name = "append"

    def __init__(self, random: Random, scale: Scale) -> None:
        super().__init__(random, scale)
        self._keys = RotatingKeys("a", LIVE_KEYS, OPERATIONS_PER_KEY)
        self._values = iter(range(1, 1 << 40))

    def step(self, session: Session) -> None:
        random = session.random
        micro: list[list[Any]] = []
        for key in self._keys.sample(random, MOST_MICRO_OPERATIONS):
            if random.random() < READ_SHARE:
                micro.append(["r", key, None])
            else:
                micro.append(["append", key, next(self._values)])
        session.perform(
            "txn",
            lambda client: transact(client, micro),
            value=micro,
            reads_only=all(name == "r" for name, _, _ in micro),
        )

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        return [check_list_append(operations)]


def transact(client: EtcdClient, micro: Sequence[Sequence[Any]]) -> Answer:
    """Do one transaction; raises Aborted if a list changed between reading and writing."""
    keys = sorted({key for _, key, _ in micro})
    try:
        first = client.txn(rpc.TxnRequest(success=[get(key) for key in keys]), timeout_s=TIMEOUT_S)
    except Refused as error:
        raise Aborted(f"not read: {error}") from error
    lists, revisions = _read(keys, first.responses)
    appended = {key for name, key, _ in micro if name == "append"}
    if not appended:
        return Answer(_answers(micro, lists), {"revision": first.header.revision})
    after = {key: list(values) for key, values in lists.items()}
    for name, key, value in micro:
        if name == "append":
            after[key].append(value)
    guards = [
        rpc.Compare(
            key=key.encode(),
            target=rpc.Compare.MOD,
            result=rpc.Compare.EQUAL,
            mod_revision=revisions[key],
        )
        for key in keys
    ]
    writes = [put(key, " ".join(map(str, after[key]))) for key in sorted(appended)]
    request = rpc.TxnRequest(compare=guards, success=[*(get(key) for key in keys), *writes])
    answer = client.txn(request, timeout_s=TIMEOUT_S)
    if not answer.succeeded:
        raise Aborted("the guard did not hold")
    seen, _ = _read(keys, answer.responses[: len(keys)])
    return Answer(_answers(micro, seen), {"revision": answer.header.revision})


def _read(keys: Sequence[str], responses: Any) -> tuple[dict[str, list[int]], dict[str, int]]:
    lists: dict[str, list[int]] = {}
    revisions: dict[str, int] = {}
    for key, response in zip(keys, responses, strict=True):
        kvs = response.response_range.kvs
        lists[key] = [int(part) for part in kvs[0].value.split()] if kvs else []
        revisions[key] = kvs[0].mod_revision if kvs else 0
    return lists, revisions


def _answers(micro: Sequence[Sequence[Any]], lists: dict[str, list[int]]) -> list[list[Any]]:
    """Return the micro-operations with what their reads saw, own appends included."""
    current = {key: list(values) for key, values in lists.items()}
    answers = []
    for name, key, value in micro:
        if name == "append":
            current[key].append(value)
            answers.append([name, key, value])
        else:
            answers.append([name, key, list(current[key])])
    return answers

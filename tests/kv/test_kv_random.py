"""Random requests against the service and against the obvious model, answer by answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dqlite_py import errors
from dqlite_py.kv import validation
from dqlite_py.kv.compactor import Compactor
from dqlite_py.kv.lease_tables import LeaseTables
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.service import KvService
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.etcd_model import EtcdModel
from tests.kit.requests import Request, RequestSource, comparable
from tests.kit.single_replica import SingleReplica

REQUESTS = 600


class Pair:
    """The service and the model, asked the same."""

    def __init__(self, seed: int) -> None:
        self.machine = EtcdMachine()
        self.replica = SingleReplica(self.machine)
        self.replica.forwards = seed % 2 == 0
        self.service = KvService(self.replica, self.machine)
        self.leases = LeaseTables(self.replica, self.machine)
        self.compactor = Compactor(self.replica, self.machine)
        self.model = EtcdModel()
        self.source = RequestSource(seed)
        service, model = self.service, self.model
        self.methods: dict[str, tuple[Callable[[Any], Awaitable[Any]], Callable[[Any], Any]]] = {
            "Put": (service.put, model.put),
            "Range": (service.range, model.range),
            "DeleteRange": (service.delete_range, model.delete_range),
            "Txn": (service.txn, model.txn),
            "Compact": (service.compact, model.compact),
            "LeaseGrant": (self.leases.grant, model.lease_grant),
            "LeaseRevoke": (self.leases.revoke, model.lease_revoke),
        }

    async def step(self) -> None:
        request = self.source.next()
        if request.method not in self.methods:
            return
        ask, oracle = self.methods[request.method]
        found = await ask_service(ask, request)
        if is_malformed(request.message):
            assert isinstance(found, errors.RequestRefused)
            return
        expected = ask_model(oracle, request)
        assert shown(request, found) == shown(request, expected), str(request)
        if not isinstance(found, errors.DqliteError):
            self.source.learn(request, found)

    async def check_state(self) -> None:
        model, session = self.model, self.replica.session
        assert self.machine.revision == model.revision
        for revision in range(max(model.compacted, 1), model.revision + 1):
            everything = rpc.RangeRequest(key=b"\0", range_end=b"\0", revision=revision)
            found = await self.service.range(everything)
            assert list(found.kvs) == list(model.state(revision).values()), revision
        assert dict(self.leases.load(session)) == model.leases
        for lease in model.leases:
            assert self.leases.keys(session, lease) == model.lease_keys(lease)


async def ask_service(ask: Callable[[Any], Awaitable[Any]], request: Request) -> Any:
    try:
        return await ask(request.message)
    except errors.RequestRefused as refusal:
        return refusal


def ask_model(oracle: Callable[[Any], Any], request: Request) -> Any:
    try:
        return oracle(request.message)
    except errors.RequestRefused as refusal:
        return refusal


def is_malformed(message: Any) -> bool:
    """Tell whether the request is refused for its shape: the model knows only well-formed ones."""
    checks: dict[type, Callable[[Any], None]] = {
        rpc.PutRequest: validation.check_put,
        rpc.RangeRequest: validation.check_range,
        rpc.DeleteRangeRequest: validation.check_delete_range,
        rpc.TxnRequest: lambda txn: validation.check_txn(txn, 128),
    }
    try:
        checks.get(type(message), lambda _: None)(message)
    except errors.RequestRefused:
        return True
    return False


def shown(request: Request, answer: Any) -> Any:
    if isinstance(answer, errors.DqliteError):
        return type(answer)
    return comparable(request, answer)


@pytest.mark.parametrize("seed", range(6))
def test_answers_and_history_equal_the_models(seed: int) -> None:
    async def run() -> None:
        pair = Pair(seed)
        async with asyncio.TaskGroup() as group:
            compacting = group.create_task(pair.compactor.run())
            for _ in range(REQUESTS):
                await pair.step()
            await pair.check_state()
            compacting.cancel()

    asyncio.run(run())

"""Watching the real tables."""

from __future__ import annotations

import asyncio
import random

from dqlite_py.kv.commands import Command, Kind
from dqlite_py.kv.history import History
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.pb import kv_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.watch.hub import WatchHub, WatchLimits
from tests.kit.loop import run_virtual
from tests.kit.single_replica import SingleReplica
from tests.kit.watching import WatchClient


def put(key: bytes, value: bytes) -> Command:
    return Command(Kind.PUT, rpc.PutRequest(key=key, value=value))


def delete(key: bytes, end: bytes = b"") -> Command:
    return Command(Kind.DELETE_RANGE, rpc.DeleteRangeRequest(key=key, range_end=end))


def test_history_and_live_events_come_from_the_tables_with_their_previous_pairs() -> None:
    async def main() -> None:
        machine = EtcdMachine()
        replica = SingleReplica(machine)
        hub = WatchHub(replica, machine, History(machine), WatchLimits(), random.Random(1))
        machine.subscribe(hub.advanced)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hub.run())]
            await replica.write(put(b"a", b"1"))
            await replica.write(put(b"b", b"2"))
            await asyncio.sleep(1)
            client = WatchClient(hub)
            tasks.append(group.create_task(client.run()))
            client.create(b"a", b"z", start_revision=2, prev_kv=True)
            client.create(b"b", start_revision=3)
            await client.received(4)
            await replica.write(put(b"b", b"3"))
            await replica.write(delete(b"a", b"z"))
            await client.received(8)
            for task in tasks:
                task.cancel()
        assert client.events(0) == [
            (2, b"a", b"1"),
            (3, b"b", b"2"),
            (4, b"b", b"3"),
            (5, b"a", None),
            (5, b"b", None),
        ]
        assert client.events(1) == [(3, b"b", b"2"), (4, b"b", b"3"), (5, b"b", None)]
        events = [e for r in client.responses if r.watch_id == 0 for e in r.events]
        assert [event.prev_kv.value for event in events] == [b"", b"", b"2", b"1", b"3"]
        assert events[2].kv == kv_pb2.KeyValue(
            key=b"b", value=b"3", create_revision=3, mod_revision=4, version=2
        )

    run_virtual(main)

"""Builds of the server with a deliberate fault, which the right workload must catch.

``python -m jepsen.controls FAULT server ...`` starts the server with one of its methods replaced.
Product code has no switch for this: the replacement happens here, in the started process. This is
the only module of the tester that knows the server's inside, because it makes it wrong.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

WATCH_SWAP_EVERY = 7
LEASE_LATE_S = 60.0
RETRIES = 20
SYNCED_APPENDS = 60
RETRY_PAUSE_S = 0.1


@dataclass(frozen=True)
class Control:
    """A fault, what it is, and the pair that must find it."""

    name: str
    meaning: str
    workload: str
    nemesis: str
    install: Callable[[], None]
    clients: int = 12
    rate_per_s: float = 120.0


def _class(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _stale_reads() -> None:
    async def barrier(_: object) -> None:
        return None

    _class("dqlite_py.node.replica", "Replica").barrier = barrier


def _answer_before_commit() -> None:
    pipeline = _class("dqlite_py.node.pipeline", "Pipeline")
    settle = _class("dqlite_py.node.requests", "settle")
    propose = pipeline._propose

    def eager(self: Any, *arguments: Any) -> None:
        propose(self, *arguments)
        for batch in self._batches:
            for answer, value in batch.answers:
                settle(answer, value)

    pipeline._propose = eager


def _lost_unsynced_write() -> None:
    writer = _class("dqlite_py.storage.log_writer", "LogWriter")
    file = _class("dqlite_py.system.disk", "OsFile")
    appending = threading.local()
    append, begin_segment, sync = writer._append, writer._begin_segment, file.fdatasync

    appends = itertools.count()

    def careless(self: Any, *arguments: Any) -> Any:
        # The members' own joining stays durable, so that what is lost are clients' writes.
        appending.on = next(appends) > SYNCED_APPENDS
        try:
            return append(self, *arguments)
        finally:
            appending.on = False

    def careful(self: Any, *arguments: Any, **more: Any) -> Any:
        appending.on = False
        return begin_segment(self, *arguments, **more)

    def maybe_sync(self: Any) -> None:
        if not getattr(appending, "on", False):
            sync(self)

    writer._append, writer._begin_segment, file.fdatasync = careless, careful, maybe_sync


def _reordered_watch() -> None:
    outbox = _class("dqlite_py.watch.outbox", "Outbox")
    offer = outbox.offer
    held: dict[int, list[bytes]] = {}
    count = [0]

    def swap(self: Any, responses: list[bytes]) -> Any:
        late = held.pop(id(self), None)
        if late is not None:
            return offer(self, [*responses, *late])
        count[0] += 1
        if count[0] % WATCH_SWAP_EVERY == 0:
            held[id(self)] = responses
            return True
        return offer(self, responses)

    outbox.offer = swap


def _lease_kept() -> None:
    lessor = _class("dqlite_py.lease.lessor", "Lessor")
    due = lessor.due

    def late(self: Any, now_s: float, limit: int) -> Any:
        return due(self, now_s - LEASE_LATE_S, limit)

    lessor.due = late


def _double_apply() -> None:
    router = _class("dqlite_py.node.routing", "Router")
    names = ("LeaderChanged", "ConnectionLost", "RequestTimeout")
    unknown = tuple(_class("dqlite_py.errors", name) for name in names)
    write = router.write

    async def stubborn(self: Any, command: Any) -> Any:
        for _ in range(RETRIES):
            try:
                return await write(self, command)
            except unknown:
                await asyncio.sleep(RETRY_PAUSE_S)
        return await write(self, command)

    router.write = stubborn


CONTROLS = {
    control.name: control
    for control in (
        Control(
            *("stale-reads", "linearizable reads ask nobody", "register", "partition-leader"),
            _stale_reads,
        ),
        Control(
            *("early-answer", "writes are answered before they are committed"),
            *("set", "partition-leader"),
            _answer_before_commit,
        ),
        Control(
            *("no-fsync", "the log is not synced before it is acknowledged"),
            *("set", "lost-writes"),
            _lost_unsynced_write,
        ),
        Control(
            *("reordered-watch", "a watch response is sometimes sent after the next one"),
            *("watch", "none"),
            _reordered_watch,
        ),
        Control(
            *("lease-kept", "leases outlive their time by a minute", "lease", "none"),
            _lease_kept,
        ),
        Control(
            *("double-apply", "a write of unknown outcome is tried again by the server"),
            *("kv", "kill-one"),
            _double_apply,
            # What is under way when the leader is killed decides, so there must be enough of it.
            clients=36,
            rate_per_s=600.0,
        ),
    )
}


def main() -> None:
    """Start the server with the fault that the first argument names."""
    fault = sys.argv.pop(1)
    CONTROLS[fault].install()
    sys.exit(_class("dqlite_py.cli.main", "main")())


if __name__ == "__main__":
    main()

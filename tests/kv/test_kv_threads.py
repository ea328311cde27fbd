"""Readers on their own threads and connections, against a writer that speculates and compacts."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

from dqlite_py.kv import ranges
from dqlite_py.kv.commands import Command, Kind
from dqlite_py.kv.committed import CommittedReader, _Overtaken
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.store import View
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.single_etcd import ALL, op_delete, op_put

BATCHES = 200
DEPTH = 2  # batches whose rows are readable before they count as committed
FIRST = 2  # the revision of the first batch


def batch(number: int) -> Command:
    """Each revision says itself in two keys, and moves a third through life and death."""
    value = b"%d" % number
    third = op_delete(b"c") if number % 2 else op_put(b"c", value)
    return Command(
        Kind.TXN, rpc.TxnRequest(success=[op_put(b"a", value), op_put(b"b", value), third])
    )


def expected(number: int) -> list[tuple[bytes, bytes]]:
    value = b"%d" % number
    alive = [] if number % 2 else [(b"c", value)]
    return [(b"a", value), (b"b", value), *alive]


class Store:
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.machine = EtcdMachine()
        self.session = self.connect()
        list(self.session.execute("PRAGMA journal_mode=WAL"))
        list(self.session.execute("PRAGMA synchronous=OFF"))
        with self.session:
            self.machine.open(self.session)
        self.notes: deque[bytes] = deque([self.machine.note()])
        self.settle(0)

    def connect(self) -> apsw.Connection:
        connection = apsw.Connection(self.path)
        connection.set_busy_timeout(10_000)
        return connection

    def run(self, command: Command) -> None:
        with self.session:
            self.machine.execute(self.session, command)
        self.notes.append(self.machine.note())

    def settle(self, depth: int) -> None:
        while len(self.notes) > depth:
            note = self.notes.popleft()
            self.machine.before_apply(note)
            self.machine.applied(1, note)

    def compact(self) -> None:
        self.settle(0)
        request = rpc.CompactionRequest(revision=self.machine.revision)
        self.run(Command(Kind.COMPACT, request))
        self.settle(0)
        self.run(Command(Kind.COMPACT_STEP, request))


def read_until(store: Store, stopped: threading.Event, failures: list[Any]) -> None:
    reader = CommittedReader(None, store.machine)  # type: ignore[arg-type]
    session = store.connect()

    def look(view: View) -> rpc.RangeResponse:
        return ranges.execute(view, rpc.RangeRequest(**ALL))

    last = 0
    while not stopped.is_set() and not failures:
        try:
            revision = store.machine.revision
            with session:
                response = reader._run(look, revision, session)
        except _Overtaken:
            continue
        revision = response.header.revision
        found = [(one.key, one.value) for one in response.kvs]
        if revision < last or (revision >= FIRST and found != expected(revision - FIRST)):
            failures.append((last, revision, found))
        last = revision


def test_every_read_is_one_committed_revision_and_none_goes_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "etcd.sqlite")
    stopped, failures = threading.Event(), []
    target: Callable[..., None] = read_until
    readers = [threading.Thread(target=target, args=(store, stopped, failures)) for _ in range(2)]
    for thread in readers:
        thread.start()
    try:
        for number in range(BATCHES):
            store.run(batch(number))
            store.settle(DEPTH)
            if number % 5 == 4:
                store.compact()
    finally:
        stopped.set()
        for thread in readers:
            thread.join()
    store.settle(0)
    assert failures == []
    assert store.machine.revision == FIRST + BATCHES - 1


class LateReplica:
    """Fixes a read's snapshot, lets the store move on, and only then runs the query."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._session = store.connect()

    async def read(self, query: Callable[[Any], Any]) -> Any:
        with self._session:
            self._session.execute("SELECT count(*) FROM revisions").fetchall()
            self._store.run(batch(1))
            self._store.settle(0)
            return query(self._session)


def test_a_read_claims_no_revision_that_came_after_its_snapshot(tmp_path: Path) -> None:
    store = Store(tmp_path / "etcd.sqlite")
    store.run(batch(0))
    store.settle(0)
    reader = CommittedReader(LateReplica(store), store.machine)  # type: ignore[arg-type]
    response = asyncio.run(
        reader.read(
            lambda view: ranges.execute(view, rpc.RangeRequest(**ALL)),
            inline=False,
        )
    )
    found = [(one.key, one.value) for one in response.kvs]
    assert found == expected(response.header.revision - FIRST)

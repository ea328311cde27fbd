"""A store that lives in a list, and watch clients that remember what they were sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dqlite_py.errors import Compacted
from dqlite_py.pb import kv_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.watch.hub import WatchHub
from tests.kit.fake_replica import FakeReplica


@dataclass(frozen=True)
class FakeChange:
    """What one revision did to one key, as the store remembers it."""

    revision: int
    key: bytes
    value: bytes | None  # None: deleted
    create_revision: int
    version: int
    replaced: FakeChange | None

    @property
    def is_delete(self) -> bool:
        return self.value is None


@dataclass
class FakeStore:
    """Implements Committed and HistoryReader over a list of every change ever made."""

    revision: int = 1
    compact_revision: int = -1
    all_changes: list[FakeChange] = field(default_factory=list)
    latest: dict[bytes, FakeChange] = field(default_factory=dict)
    told: list[Callable[[int], None]] = field(default_factory=list)
    reads: int = 0

    def commit(self, *writes: tuple[bytes, bytes | None]) -> int:
        """Make one revision of several writes (value None: delete) and tell those who listen."""
        self.revision += 1
        for key, value in writes:
            before = self.latest.get(key)
            live = before is not None and not before.is_delete
            if value is None:
                assert live
                change = FakeChange(self.revision, key, None, 0, 0, before)
            elif live:
                assert before is not None
                version = before.version + 1
                created = before.create_revision
                change = FakeChange(self.revision, key, value, created, version, before)
            else:
                change = FakeChange(self.revision, key, value, self.revision, 1, None)
            self.latest[key] = change
            self.all_changes.append(change)
        for tell in self.told:
            tell(self.revision)
        return self.revision

    def compact(self, revision: int) -> None:
        assert revision <= self.revision
        self.compact_revision = max(self.compact_revision, revision)

    def changes(
        self, session: Any, key: bytes, range_end: bytes, first: int, last: int
    ) -> Iterator[kv_pb2.Event]:
        assert last <= self.revision
        self.reads += 1
        if first < self.compact_revision:
            raise Compacted
        return (
            kv_pb2.Event(type=int(change.is_delete), kv=key_value(change))  # type: ignore[arg-type]
            for change in list(self.all_changes)
            if first <= change.revision <= last and inside(change.key, key, range_end)
        )

    def previous(self, session: Any, key: bytes, revision: int) -> kv_pb2.KeyValue | None:
        for change in reversed(self.all_changes):
            if change.key == key and change.revision < revision:
                return None if change.is_delete else key_value(change)
        return None


def inside(key: bytes, first: bytes, end: bytes) -> bool:
    """Tell whether a key is in an interval given as in a range request."""
    if not end:
        return key == first
    return key >= first and (end == b"\x00" or key < end)


def key_value(change: FakeChange) -> kv_pb2.KeyValue:
    return kv_pb2.KeyValue(
        key=change.key,
        value=change.value,
        mod_revision=change.revision,
        create_revision=change.create_revision,
        version=change.version,
    )


class SlowReplica(FakeReplica):
    """A replica whose reader threads take a while, before and after they look."""

    def __init__(self, delay_s: Callable[[], float] = lambda: 0.001) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.errors: list[Exception] = []  # raised by the next reads, one each

    def read_now(self, query: Callable[[Any], Any]) -> Any:
        if self.errors:
            raise self.errors.pop()
        return query(self.session)

    async def read(self, query: Callable[[Any], Any]) -> Any:
        await asyncio.sleep(self.delay_s())
        if self.errors:
            raise self.errors.pop()
        result = query(self.session)
        await asyncio.sleep(self.delay_s())
        return result


class WatchClient:
    """One stream: what is asked goes in, what is sent is kept in ``responses``."""

    def __init__(self, hub: WatchHub, *, delay_s: Callable[[], float] = lambda: 0.0) -> None:
        self._requests: asyncio.Queue[rpc.WatchRequest | None] = asyncio.Queue()
        self._delay_s = delay_s
        self._hub = hub
        self.responses: list[rpc.WatchResponse] = []
        self.raw: list[bytes] = []
        self.open = asyncio.Event()  # cleared: the client reads nothing
        self.open.set()
        self._arrived = asyncio.Condition()

    async def run(self) -> None:
        await self._hub.watch(self._incoming(), self._send)

    async def _incoming(self) -> AsyncIterator[rpc.WatchRequest]:
        while (request := await self._requests.get()) is not None:
            yield request

    async def _send(self, data: bytes) -> None:
        await self.open.wait()
        await asyncio.sleep(self._delay_s())
        async with self._arrived:
            self.raw.append(data)
            self.responses.append(rpc.WatchResponse.FromString(data))
            self._arrived.notify_all()

    def create(self, key: bytes, range_end: bytes = b"", **fields: Any) -> None:
        request = rpc.WatchCreateRequest(key=key, range_end=range_end, **fields)
        self._requests.put_nowait(rpc.WatchRequest(create_request=request))

    def cancel(self, watch_id: int) -> None:
        request = rpc.WatchCancelRequest(watch_id=watch_id)
        self._requests.put_nowait(rpc.WatchRequest(cancel_request=request))

    def ask_progress(self) -> None:
        request = rpc.WatchProgressRequest()
        self._requests.put_nowait(rpc.WatchRequest(progress_request=request))

    def finish_requests(self) -> None:
        self._requests.put_nowait(None)

    async def received(self, count: int) -> list[rpc.WatchResponse]:
        """Return all responses once there are at least ``count``."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.responses) >= count)
        return self.responses

    def events(self, watch_id: int = 0) -> list[tuple[int, bytes, bytes | None]]:
        """Return (revision, key, value or None for a deletion) of what a watcher was sent."""
        return [
            (event.kv.mod_revision, event.kv.key, None if event.type else event.kv.value)
            for response in self.responses
            if response.watch_id == watch_id
            for event in response.events
        ]

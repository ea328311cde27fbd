"""One client's watch stream: its requests, its watchers, and the order of what it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.watch.history import RETRY_S, TRANSIENT, Chunk
from dqlite_py.watch.outbox import Outbox
from dqlite_py.watch.watcher import Watcher, interest_of, is_empty

if TYPE_CHECKING:
    from dqlite_py.watch.hub import WatchHub

INVALID_WATCH_ID = -1
COMPACTED_TEXT = "etcdserver: mvcc: required revision has been compacted"
EMPTY_TEXT = "mvcc: watcher range is empty"
DUPLICATE_TEXT = "mvcc: duplicate watch ID provided on the WatchStream"


class WatchStream:
    """Everything a stream sends goes through its one outbox, which is what keeps it in order.

    A watcher whose event does not fit is left behind with nothing but its next revision. The hub's
    catch-up workers bring it on from the database, one chunk at a time, while there is room.
    """

    def __init__(self, hub: WatchHub) -> None:
        self._hub = hub
        self._outbox = Outbox(hub.stream_limit_bytes, self._schedule)
        self._watchers: dict[int, Watcher] = {}
        self._behind: dict[Watcher, None] = {}  # in the order in which they will be served
        self._next_id = 0
        self._scheduled = False  # a catch-up worker has, or will have, this stream in hand

    # --- the client's side ---------------------------------------------------------------------
    async def serve(
        self,
        requests: AsyncIterator[rpc.WatchRequest],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Answer ``requests`` until cancelled or failed; their end does not end the stream."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._outbox.send_all(send))
                async for request in requests:
                    await self._outbox.room()
                    self._handle(request)
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        finally:
            for watcher in list(self._watchers.values()):
                self._forget(watcher)

    def fail(self, error: Exception) -> None:
        """End the stream with ``error``."""
        self._outbox.fail(error)

    def _handle(self, request: rpc.WatchRequest) -> None:
        match request.WhichOneof("request_union"):
            case "create_request":
                self._create(request.create_request)
            case "cancel_request":
                self._cancel(request.cancel_request.watch_id)
            case "progress_request":
                self._hub.want_progress(self)
            case None:
                pass  # etcd behaviour: ignored

    def _create(self, request: rpc.WatchCreateRequest) -> None:
        reason = self._refusal(request)
        if reason:
            self._answer(INVALID_WATCH_ID, created=True, canceled=True, cancel_reason=reason)
            return
        watch_id = request.watch_id or self._free_id()
        start = request.start_revision or self._hub.revision + 1
        watcher = Watcher(self, watch_id, request, start, self._hub.fragment_bytes)
        self._watchers[watch_id] = watcher
        self._answer(watch_id, created=True)
        if start < self._hub.compact_revision:
            self._cancel_compacted(watcher)
        elif start > self._hub.delivered_revision:
            self._hub.attach(watcher)
        else:
            self.leave_behind(watcher)

    def _refusal(self, request: rpc.WatchCreateRequest) -> str:
        if is_empty(interest_of(request)):
            return EMPTY_TEXT
        if request.start_revision < 0:
            return COMPACTED_TEXT
        if request.watch_id and request.watch_id in self._watchers:
            return DUPLICATE_TEXT
        return ""

    def _free_id(self) -> int:
        while self._next_id in self._watchers:
            self._next_id += 1
        self._next_id += 1
        return self._next_id - 1

    def _cancel(self, watch_id: int) -> None:
        watcher = self._watchers.get(watch_id)
        if watcher is not None:
            self._forget(watcher)
            self._answer(watch_id, canceled=True)

    def _answer(self, watch_id: int, **fields: bool | str) -> None:
        header = self._hub.header(self._hub.revision)
        message = rpc.WatchResponse(watch_id=watch_id, **fields)  # type: ignore[arg-type]
        self._outbox.put(header + message.SerializeToString())

    # --- the hub's side ------------------------------------------------------------------------
    def deliver(self, watcher: Watcher, responses: list[bytes]) -> bool:
        """Queue responses for a watcher; return False if there was no room for them."""
        if not self._outbox.offer(responses):
            return False
        watcher.idle = False
        return True

    @property
    def queued_bytes(self) -> int:
        """Bytes that the transport has not taken yet."""
        return self._outbox.queued_bytes

    @property
    def behind_count(self) -> int:
        """Watchers that are not up to date."""
        return len(self._behind)

    def leave_behind(self, watcher: Watcher) -> None:
        """Bring ``watcher``, which is not attached to the hub, on from the database."""
        self._behind[watcher] = None
        self._schedule()

    def answer_progress(self) -> None:
        """Answer a progress request, unless a watcher is behind (etcd behaviour)."""
        delivered = self._hub.delivered_revision
        watchers = self._watchers.values()
        if watchers and all(w.synced and w.start_revision <= delivered for w in watchers):
            message = rpc.WatchResponse(watch_id=INVALID_WATCH_ID)
            self._outbox.put(self._hub.header(delivered) + message.SerializeToString())

    def tick_progress(self) -> None:
        """Tell idle watchers that asked for it how far they have come."""
        delivered = self._hub.delivered_revision
        for watcher in self._watchers.values():
            if not watcher.progress_notify or not watcher.synced:
                continue
            if watcher.idle and watcher.start_revision <= delivered:
                self._outbox.offer(watcher.responses(self._hub.header(delivered), []))
            watcher.idle = True

    async def catch_up(self) -> None:
        """Bring the watcher that has waited longest on by one chunk; called by a hub's worker.

        A worker calls it once for each ``schedule``, so there is never a second one at it.
        """
        try:
            await self._serve_one_behind()
        except Exception as error:  # ends the stream, whose server reports it
            self.fail(error)
        self._scheduled = False
        self._schedule()

    async def _serve_one_behind(self) -> None:
        if not self._behind or not self._outbox.has_room:
            return
        watcher = next(iter(self._behind))
        if watcher.next_revision > self._hub.delivered_revision:
            del self._behind[watcher]
            self._hub.attach(watcher)
        elif watcher.next_revision < self._hub.compact_revision:
            self._cancel_compacted(watcher)
        else:
            await self._read_on(watcher)

    async def _read_on(self, watcher: Watcher) -> None:
        hub, first, last = self._hub, watcher.next_revision, self._hub.delivered_revision
        try:
            chunk: Chunk = await hub.replica.read(
                lambda session: hub.chunks.read(session, watcher.interest, first, last)
            )
        except TRANSIENT:
            if first >= hub.compact_revision:
                await asyncio.sleep(RETRY_S)
            return
        if watcher not in self._behind:
            return  # cancelled meanwhile
        events = watcher.select(chunk.changes)
        assert events is not None
        if events:
            responses = watcher.responses(hub.header(hub.revision), events)
            if not self.deliver(watcher, responses):
                return
        watcher.next_revision = chunk.next_revision
        # The next one's turn.
        del self._behind[watcher]
        self._behind[watcher] = None

    def _cancel_compacted(self, watcher: Watcher) -> None:
        self._forget(watcher)
        message = rpc.WatchResponse(
            watch_id=watcher.id, canceled=True, compact_revision=self._hub.compact_revision
        )
        self._outbox.put(self._hub.header(0) + message.SerializeToString())

    def _forget(self, watcher: Watcher) -> None:
        del self._watchers[watcher.id]
        self._behind.pop(watcher, None)
        if watcher.synced:
            self._hub.detach(watcher)

    def _schedule(self) -> None:
        if self._behind and not self._scheduled and self._outbox.has_room:
            self._scheduled = True
            self._hub.schedule(self)

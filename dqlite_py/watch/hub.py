"""Hands the store's changes to everyone who watches, on any member (etcd behaviour).

The hub reads each new revision once from the database, finds the watchers whose interval it
touches, and queues the response on their streams. A watcher whose stream has no room is detached
and catches up from the database later, so nobody waits for the slowest client and memory does not
grow with lag.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from dqlite_py.errors import ServerStopped
from dqlite_py.node.contract import ReplicaPort
from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.seams import Random
from dqlite_py.watch import wire
from dqlite_py.watch.history import (
    RETRY_S,
    TRANSIENT,
    Change,
    Chunk,
    ChunkReader,
    Committed,
    HistoryReader,
    Interest,
)
from dqlite_py.watch.spans import Span, SpanIndex
from dqlite_py.watch.stream import WatchStream
from dqlite_py.watch.watcher import Watcher

INLINE_REVISIONS = 32  # so few new revisions are read on the event loop
EVERYTHING = (b"\x00", b"\x00")  # as the key and range_end of a range request
JITTER = 0.1  # of the progress interval (etcd behaviour)


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """Bounds and intervals of watching; the defaults are etcd's where etcd has one."""

    progress_interval_s: float = 600.0
    fragment_bytes: int = 1_572_864 + 512 * 1024
    queued_bytes: int = 64 * 1024 * 1024  # over all streams, divided among them
    stream_min_bytes: int = 64 * 1024
    stream_max_bytes: int = 4 * 1024 * 1024
    catch_up_workers: int = 4


class WatchHub:
    """One per member. ``run`` must be running for anything but answers to be sent."""

    def __init__(
        self,
        replica: ReplicaPort,
        committed: Committed,
        history: HistoryReader,
        limits: WatchLimits,
        random: Random,
    ) -> None:
        self.replica = replica
        self.chunks = ChunkReader(committed, history)
        self._committed = committed
        self._limits = limits
        self._random = random
        self._index: SpanIndex[Watcher] = SpanIndex()
        self._previous_wanted = 0  # synced watchers that want previous pairs
        self._streams: dict[WatchStream, None] = {}
        self._progress_wanted: dict[WatchStream, None] = {}
        self._delivered = committed.revision
        self._news = asyncio.Event()
        self._ready: deque[WatchStream] = deque()  # each stream at most once
        self._work = asyncio.Semaphore(0)  # counts ``_ready``
        self._header: tuple[int, int, bytes] = (-1, -1, b"")
        self._stopped = False
        self.events_total = 0

    # --- what the server uses ------------------------------------------------------------------
    def advanced(self, _revision: int) -> None:
        """The store's committed revision has moved; event loop only."""
        self._news.set()

    async def run(self) -> None:
        """Distribute changes until cancelled; then every open stream ends with ServerStopped."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._distribute_news())
                group.create_task(self._tick())
                for _ in range(self._limits.catch_up_workers):
                    group.create_task(self._catch_up())
        finally:
            self._stopped = True
            for stream in self._streams:
                stream.fail(ServerStopped())

    async def watch(
        self,
        requests: AsyncIterator[rpc.WatchRequest],
        send: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Serve one client's stream; ``send`` takes serialised WatchResponses, in order.

        ``send`` returns when the transport has taken the response: a slow one delays only its own
        stream. Raises ServerStopped when the hub stops, or what the replica raised while reading.
        """
        if self._stopped:
            raise ServerStopped
        stream = WatchStream(self)
        self._streams[stream] = None
        try:
            await stream.serve(requests, send)
        finally:
            del self._streams[stream]
            self._progress_wanted.pop(stream, None)

    @property
    def stream_count(self) -> int:
        """Open streams."""
        return len(self._streams)

    @property
    def synced_count(self) -> int:
        """Watchers that get new revisions as they come."""
        return len(self._index)

    @property
    def behind_count(self) -> int:
        """Watchers that are catching up."""
        return sum(stream.behind_count for stream in self._streams)

    @property
    def queued_bytes(self) -> int:
        """Bytes of responses that the transport has not taken yet, over all streams."""
        return sum(stream.queued_bytes for stream in self._streams)

    # --- what streams use ----------------------------------------------------------------------
    @property
    def revision(self) -> int:
        """The store's committed revision."""
        return self._committed.revision

    @property
    def compact_revision(self) -> int:
        """History below this is gone."""
        return self._committed.compact_revision

    @property
    def delivered_revision(self) -> int:
        """Attached watchers have been given everything up to this revision."""
        return self._delivered

    @property
    def fragment_bytes(self) -> int:
        """Where responses of watchers that allow it are split."""
        return self._limits.fragment_bytes

    def stream_limit_bytes(self) -> int:
        """Return one stream's share of the memory for queued responses."""
        limits = self._limits
        share = limits.queued_bytes // max(1, len(self._streams))
        return min(limits.stream_max_bytes, max(limits.stream_min_bytes, share))

    def header(self, revision: int) -> bytes:
        """Return a response header of this member as a field of a WatchResponse."""
        replica = self.replica
        if self._header[:2] != (revision, replica.term):
            message = rpc.ResponseHeader(
                cluster_id=replica.cluster_id,
                member_id=replica.member_id,
                revision=revision,
                raft_term=replica.term,
            )
            self._header = (revision, replica.term, wire.header_field(message))
        return self._header[2]

    def attach(self, watcher: Watcher) -> None:
        """Give ``watcher`` new revisions as they come; it must be owed none already delivered."""
        assert watcher.next_revision > self._delivered
        assert not watcher.synced
        watcher.synced = True
        self._previous_wanted += watcher.interest.previous
        self._index.add(watcher.key, watcher.range_end, watcher)

    def detach(self, watcher: Watcher) -> None:
        """Give ``watcher`` nothing any more."""
        watcher.synced = False
        self._previous_wanted -= watcher.interest.previous
        self._index.remove(watcher.key, watcher.range_end, watcher)

    def schedule(self, stream: WatchStream) -> None:
        """Let a worker call ``stream.catch_up`` once, after those already waiting."""
        self._ready.append(stream)
        self._work.release()

    def want_progress(self, stream: WatchStream) -> None:
        """Call ``stream.answer_progress`` as soon as the current revision is delivered."""
        if self._delivered == self._committed.revision:
            stream.answer_progress()
        else:
            self._progress_wanted[stream] = None

    # --- tasks ---------------------------------------------------------------------------------
    async def _distribute_news(self) -> None:
        while True:
            while self._delivered < self._committed.revision:
                await self._distribute()
                await asyncio.sleep(0)
            wanted, self._progress_wanted = self._progress_wanted, {}
            for stream in wanted:
                stream.answer_progress()
            self._news.clear()
            await self._news.wait()

    async def _distribute(self) -> None:
        first, last = self._delivered + 1, self._committed.revision
        if not self._index:
            self._delivered = last
            return
        try:
            chunk = await self._read(first, last)
        except TRANSIENT:
            chunk = None
        if chunk is not None:
            # Read whole, so it counts even if compaction has overtaken it meanwhile.
            self._hand_out(chunk)
        elif first < self._committed.compact_revision:
            self._leave_all_behind(first, last)
        else:
            await asyncio.sleep(RETRY_S)

    async def _read(self, first: int, last: int) -> Chunk:
        interest = Interest(*EVERYTHING, previous=self._previous_wanted > 0)
        if last - first < INLINE_REVISIONS:
            return self.replica.read_now(
                lambda session: self.chunks.read(session, interest, first, last)
            )
        return await self.replica.read(
            lambda session: self.chunks.read(session, interest, first, last)
        )

    def _hand_out(self, chunk: Chunk) -> None:
        changes = chunk.changes
        start = 0
        while start < len(changes):
            revision = changes[start].revision
            end = start + 1
            while end < len(changes) and changes[end].revision == revision:
                end += 1
            self._hand_out_revision(revision, changes[start:end])
            start = end
        self._delivered = chunk.next_revision - 1

    def _hand_out_revision(self, revision: int, changes: list[Change]) -> None:
        hits: dict[Span[Watcher], list[Change]] = {}
        for change in changes:
            for span in self._index.matching(change.key):
                hits.setdefault(span, []).append(change)
        header = self.header(revision) if hits else b""
        for span, hit in hits.items():
            shared: dict[tuple[object, ...], list[bytes] | None] = {}
            for watcher in list(span.watchers):
                if watcher.next_revision <= revision:
                    self._hand_to(watcher, revision, header, hit, shared)

    def _hand_to(
        self,
        watcher: Watcher,
        revision: int,
        header: bytes,
        changes: list[Change],
        shared: dict[tuple[object, ...], list[bytes] | None],
    ) -> None:
        shape = watcher.shape()
        if shape not in shared:
            events = watcher.select(changes)
            whole = watcher.responses(header, events) if events else []
            shared[shape] = None if events is None else whole
        responses = shared[shape]
        if responses is None or (responses and not watcher.stream.deliver(watcher, responses)):
            self._leave_behind(watcher, revision)
            return
        self.events_total += len(changes) if responses else 0

    def _leave_behind(self, watcher: Watcher, revision: int) -> None:
        watcher.next_revision = max(watcher.next_revision, revision)
        self.detach(watcher)
        watcher.stream.leave_behind(watcher)

    def _leave_all_behind(self, first: int, last: int) -> None:
        # Compaction, or a snapshot installed here, took history that had not been handed out.
        for watcher in self._index.watchers():
            if watcher.next_revision <= last:
                self._leave_behind(watcher, first)
        self._delivered = last

    async def _catch_up(self) -> None:
        while True:
            await self._work.acquire()
            await self._ready.popleft().catch_up()

    async def _tick(self) -> None:
        while True:
            interval_s = self._limits.progress_interval_s
            await asyncio.sleep(interval_s * (1 + JITTER * self._random.random()))
            for stream in self._streams:
                stream.tick_progress()

"""One database on one replica: its file, its threads, and where it stands in the log.

The writer worker is the only thread that changes the virtual WAL, so a batch, an injection and a
rollback can never overlap. ``speculation`` lists what this member executed as leader and proposed
under exactly that (term, index); an entry found at its head needs no injection (design rule 1).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from dqlite_py.db.database import Database, Position
from dqlite_py.errors import InvariantBroken, ReadersBusy, ReadInterrupted
from dqlite_py.node.catalog import DatabaseRecord
from dqlite_py.node.contract import Session
from dqlite_py.node.entries import FramesEntry
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.seams import Worker, Workers
from dqlite_py.vfs import frames

T = TypeVar("T")
_ROLLBACK_RETRY_S = 0.002
_FREE_WAL_TRIES = 250
_DIGEST_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Speculation:
    """A batch executed here and proposed, not yet known to be committed."""

    term: int
    index: int
    position: Position
    note: bytes
    number: int


class HostedDatabase:
    """A database, its worker threads and its place in the log. Event loop only."""

    def __init__(
        self,
        record: DatabaseRecord,
        database: Database,
        workers: Workers,
        limits: ReplicaLimits,
        *,
        base: int,
        last_frames: int,
    ) -> None:
        self.record = record
        self.db = database
        self.base = base
        self.last_frames = last_frames
        self.base_frames = last_frames  # the last frame entry that the file itself holds
        self.speculation: deque[Speculation] = deque()
        self.sql_open = False
        self._limits = limits
        self.writer: Worker = workers.serial(f"{record.name}-writer")
        self.checkpointer: Worker = workers.serial(f"{record.name}-checkpoint")
        self._readers = [
            workers.serial(f"{record.name}-reader-{n}") for n in range(limits.reader_threads)
        ]
        self._next_reader = 0
        # Batches are numbered before they execute; a gated read waits for the number it saw.
        self.batch_number = 0
        self.settled_number = 0
        self.rollback_count = 0
        self._number_waiters: list[tuple[int, asyncio.Future[bool]]] = []
        self._rolling: asyncio.Future[None] | None = None

    # --- following the log ------------------------------------------------------------------
    def check(self, index: int, entry: FramesEntry, entry_term: int, previous: int) -> None:
        """Verify that ``entry`` belongs right after the frames of entry ``previous``.

        Raises InvariantBroken: a page image on another prefix would corrupt the file.
        """
        if entry.term != entry_term or entry.previous != previous:
            raise InvariantBroken(
                detail=f"entry {index} of {self.record.name} was made on frames "
                f"{entry.previous} in term {entry.term}, but stands in term {entry_term} "
                f"after frames {previous}"
            )

    async def inject(self, batches: Sequence[tuple[int, FramesEntry]]) -> None:
        """Make committed page images visible, in order; speculation must be gone."""
        assert not self.speculation
        await self.settled()

        def job() -> None:
            for _, entry in batches:
                self.db.inject(frames.decode(entry.frames))

        await self.writer.run(job)
        self.last_frames = batches[-1][0]

    def take_speculated(self, term: int, index: int) -> Speculation | None:
        """Return and settle the speculated batch that the committed entry is, if it is one."""
        if not self.speculation:
            return None
        head = self.speculation[0]
        if head.index != index or head.term != term:
            return None
        self.speculation.popleft()
        self.db.set_committed(head.position)
        self.last_frames = index
        return head

    async def open_sql(self) -> None:
        """Leave replay: every frame up to the durable commit index is in place."""
        await self.writer.run(lambda: self.db.open_sql(readers=len(self._readers)))
        self.sql_open = True

    # --- rollback ---------------------------------------------------------------------------
    @property
    def rolling_back(self) -> bool:
        """Whether a rollback has been ordered and has not finished."""
        return self._rolling is not None

    async def settled(self) -> None:
        """Return when no rollback is under way."""
        while self._rolling is not None:
            await asyncio.shield(self._rolling)

    def begin_rollback(self) -> None:
        """Forget speculation at once; ``finish_rollback`` must be run by an owned task."""
        assert self._rolling is None
        self._rolling = asyncio.get_running_loop().create_future()
        self.speculation.clear()

    async def finish_rollback(self) -> None:
        """Return the virtual WAL to the committed position, then let injection go on.

        Queued behind a batch that may be executing. Readers on the speculative state are
        interrupted; until the last has gone the rollback is tried again.
        """
        rolling = self._rolling
        assert rolling is not None
        while True:
            try:
                await self.writer.run(self.db.rollback_to_committed)
            except ReadersBusy:
                await asyncio.sleep(_ROLLBACK_RETRY_S)
                continue
            break
        self.rollback_count += 1
        self.settled_number = self.batch_number
        waiters, self._number_waiters = self._number_waiters, []
        self._rolling = None
        rolling.set_result(None)
        for _, waiter in waiters:
            if not waiter.done():
                waiter.set_result(False)

    # --- reading ----------------------------------------------------------------------------
    def settle(self, number: int) -> None:
        """All batches up to ``number`` are committed or changed nothing."""
        if number <= self.settled_number:
            return
        self.settled_number = number
        if self._number_waiters:
            keep = []
            for wanted, waiter in self._number_waiters:
                if wanted > number:
                    keep.append((wanted, waiter))
                elif not waiter.done():
                    waiter.set_result(True)
            self._number_waiters = keep

    def _reader(self) -> Worker:
        self._next_reader = (self._next_reader + 1) % len(self._readers)
        return self._readers[self._next_reader]

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run ``query`` in a read transaction on a reader thread; repeated if interrupted.

        Raises ReadInterrupted once the database is closed here.
        """
        while True:
            await self.settled()
            if not self.sql_open:
                raise ReadInterrupted
            try:
                return await self._reader().run(lambda: self.db.read(query))
            except ReadInterrupted:
                await asyncio.sleep(_ROLLBACK_RETRY_S)

    async def read_gated(self, query: Callable[[Session], T]) -> T:
        """Run ``query``; return once every batch it can have seen is committed (rule 4)."""
        while True:
            await self.settled()
            if not self.sql_open:
                raise ReadInterrupted
            rollbacks = self.rollback_count
            seen: list[int] = []

            def job(seen: list[int] = seen) -> T:
                return self.db.read_with(lambda: seen.append(self.batch_number), query)

            try:
                result = await self._reader().run(job)
            except ReadInterrupted:
                await asyncio.sleep(_ROLLBACK_RETRY_S)
                continue
            if rollbacks == self.rollback_count and await self._number_settled(seen[-1]):
                return result

    async def _number_settled(self, number: int) -> bool:
        if number <= self.settled_number and self._rolling is None:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._number_waiters.append((number, waiter))
        return await waiter

    async def free_wal(self, *, interrupt_after_s: float, insist: bool) -> None:
        """After a complete checkpoint: empty the virtual WAL, unless readers need it.

        Under permanently overlapping readers new reads wait a moment (rule 7), and those over
        age are interrupted. If some stay, the WAL is left for the next checkpoint, or, to
        ``insist``, waited for.
        """
        if self._rolling is not None or self.speculation:
            return  # the writer is at work; SQLite restarts the WAL by itself
        if await self.writer.run(self._restart_wal):
            return
        self.db.pause_readers()
        try:
            for _ in range(_FREE_WAL_TRIES if insist else 1):
                self.db.interrupt_readers(interrupt_after_s)
                await asyncio.sleep(_ROLLBACK_RETRY_S)
                if self._rolling is not None or self.speculation:
                    return
                if await self.writer.run(self._restart_wal):
                    return
        finally:
            self.db.resume_readers()

    def _restart_wal(self) -> bool:
        return self.db.speculative or self.db.restart_wal()

    async def read_problems(self) -> list[str]:
        """Return what SQLite's integrity check complains about."""
        return await self._reader().run(self.db.integrity_check)

    async def image_digest(self) -> tuple[bytes, int]:
        """Return the SHA-256 and length of the main file; no checkpoint may run meanwhile."""

        def job() -> tuple[bytes, int]:
            digest = sha256()
            size_bytes = self.db.copy_image(digest.update, _DIGEST_CHUNK_BYTES)
            return digest.digest(), size_bytes

        return await self.checkpointer.run(job)

    # --- the end ----------------------------------------------------------------------------
    async def close(self) -> None:
        """Close all connections and stop the threads; writes nothing."""
        self.sql_open = False
        while True:
            try:
                await self.writer.run(self.db.close)
            except ReadersBusy:
                await asyncio.sleep(_ROLLBACK_RETRY_S)
                continue
            break
        for worker in (self.writer, self.checkpointer, *self._readers):
            worker.close()

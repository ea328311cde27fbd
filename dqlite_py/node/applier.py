"""Committed entries become state: frames are injected, databases created, members changed.

Entries are applied strictly in log order, by one task. A batch that this member executed as leader
is already in the virtual WAL and costs nothing here; everything else is injected on the database's
writer worker, many entries in one job. No SQL runs.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from dqlite_py.errors import InvariantBroken
from dqlite_py.node import entries as codec
from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.entries import CreateEntry, FramesEntry
from dqlite_py.node.hosted import HostedDatabase, Speculation
from dqlite_py.raft import Entry, EntryKind, Message


@dataclass(frozen=True, slots=True)
class ApplierPorts:
    """What applying an entry sets in motion; all are called on the event loop."""

    hosted: Callable[[], Sequence[HostedDatabase]]
    speculated: Callable[[HostedDatabase, Speculation], None]
    stop_speculation: Callable[[HostedDatabase], None]
    before_frames: Callable[[HostedDatabase, FramesEntry], None]
    after_frames: Callable[[HostedDatabase, int, FramesEntry], None]
    create: Callable[[int, CreateEntry], Awaitable[None]]
    conf_change: Callable[[Entry], Awaitable[None]]
    progressed: Callable[[], Awaitable[None]]  # after each run of entries
    responses: Callable[[Message], None]


class Applier:
    """Applies what the core says is committed. Event loop only."""

    def __init__(self, applied: AppliedIndex, ports: ApplierPorts, *, run_entries_max: int) -> None:
        self._applied = applied
        self._ports = ports
        self._run_entries_max = run_entries_max
        self._queue: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        # Held while entries are applied; a snapshot or a checkpoint's sample takes it to stand
        # between two entries.
        self.lock = asyncio.Lock()

    def submit(self, message: Message) -> None:
        """Queue committed entries; the core bounds how many may be outstanding."""
        self._queue.append(message)
        self._idle.clear()
        self._wake.set()

    async def idle(self) -> None:
        """Return when everything submitted so far is applied."""
        await self._idle.wait()

    async def run(self) -> None:
        """Apply until cancelled; any error means that this replica must stop."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                message = self._queue.popleft()
                await self._apply(message.entries)
                self._ports.responses(message)
            self._idle.set()

    async def _apply(self, entries: Sequence[Entry]) -> None:
        position = 0
        while position < len(entries):
            async with self.lock:
                position = await self._apply_run(entries, position)
            await self._ports.progressed()

    async def _apply_run(self, entries: Sequence[Entry], position: int) -> int:
        """Apply the entry at ``position`` and those like it behind; return the next position."""
        entry = entries[position]
        if entry.index <= self._applied.index:
            return position + 1  # a snapshot installed meanwhile covers it
        if entry.kind is not EntryKind.NORMAL:
            await self._ports.conf_change(entry)
            self._applied.advance(entry.index)
            return position + 1
        for hosted in self._ports.hosted():
            speculated = hosted.take_speculated(entry.term, entry.index)
            if speculated is not None:
                self._applied.advance(entry.index)
                self._ports.speculated(hosted, speculated)
                return position + 1
        content = codec.decode(entry.data)
        if content is None:
            self._applied.advance(entry.index)
            return position + 1
        if isinstance(content, CreateEntry):
            await self._ports.create(entry.index, content)
            self._applied.advance(entry.index)
            return position + 1
        return await self._inject(entries, position, content)

    async def _inject(self, entries: Sequence[Entry], position: int, first: FramesEntry) -> int:
        hosted = next(
            (h for h in self._ports.hosted() if h.record.creation_index == first.database), None
        )
        if hosted is None:
            raise InvariantBroken(
                detail=f"entry {entries[position].index} is for database {first.database}, "
                "which does not exist here"
            )
        self._ports.stop_speculation(hosted)
        await hosted.settled()
        run = self._collect(entries, position, hosted, first)
        needed = [(entry.index, content) for entry, content in run if entry.index > hosted.base]
        for _, content in needed:
            self._ports.before_frames(hosted, content)
        if needed:
            await hosted.inject(needed)
        for entry, content in run:
            self._applied.advance(entry.index)
            if entry.index > hosted.base:
                self._ports.after_frames(hosted, entry.index, content)
        return position + len(run)

    def _collect(
        self,
        entries: Sequence[Entry],
        position: int,
        hosted: HostedDatabase,
        first: FramesEntry,
    ) -> list[tuple[Entry, FramesEntry]]:
        """Return the run of consecutive frame entries of one database, each checked (rule 1)."""
        run: list[tuple[Entry, FramesEntry]] = []
        content: FramesEntry | CreateEntry | None = first
        previous = hosted.last_frames
        for entry in entries[position : position + self._run_entries_max]:
            if entry is not entries[position]:
                if entry.kind is not EntryKind.NORMAL:
                    break
                content = codec.decode(entry.data)
            if not isinstance(content, FramesEntry):
                break
            if content.database != hosted.record.creation_index:
                break
            if entry.index > hosted.base:
                hosted.check(entry.index, content, entry.term, previous)
                previous = entry.index
            run.append((entry, content))
        return run

"""When the virtual WAL goes into the database file, and what of the log may then be dropped.

Order (design rules 2, 3, 5, 7): stop admitting batches; wait until nothing is speculative; sample
the base; make a commit index covering it durable; checkpoint; base file; manifest; trim. New
batches are admitted again as soon as the checkpoint has fixed its frame limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from dqlite_py.db.database import CheckpointResult
from dqlite_py.errors import ReadersBusy
from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.applier import Applier
from dqlite_py.node.databases import DatabaseSet
from dqlite_py.node.hosted import HostedDatabase
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.seams import Workers
from dqlite_py.storage.base_index import BaseIndex

_RETRY_S = 0.05


@dataclass(frozen=True, slots=True)
class CheckpointPorts:
    """What a checkpoint asks of the replica; event loop only."""

    close_gate: Callable[[HostedDatabase], Callable[[], None]]  # returns what opens it again
    drained: Callable[[], Awaitable[None]]
    make_commit_durable: Callable[[int], Awaitable[None]]
    trim: Callable[[int], Awaitable[None]]
    room_again: Callable[[], None]  # the virtual WALs are below the hard limit again


class Checkpointer:
    """Runs checkpoints one at a time. Event loop only."""

    def __init__(
        self,
        databases: DatabaseSet,
        applier: Applier,
        applied: AppliedIndex,
        workers: Workers,
        limits: ReplicaLimits,
        ports: CheckpointPorts,
    ) -> None:
        self._databases = databases
        self._applier = applier
        self._applied = applied
        self._workers = workers
        self._limits = limits
        self._ports = ports
        self._wanted = asyncio.Event()
        self._below_hard_limit = asyncio.Event()
        self._below_hard_limit.set()
        self._last_index = applied.index
        self._held_bytes = 0  # what a finished checkpoint left in the WAL because of readers
        self._failures = 0
        # Held during a checkpoint, and by a snapshot for as long as the files must not change.
        self.lock = asyncio.Lock()
        self.completed = 0

    def poke(self) -> None:
        """Something was applied or executed: is a checkpoint due?"""
        limits = self._limits
        wal_bytes = self._databases.wal_bytes
        self._held_bytes = min(self._held_bytes, wal_bytes)
        if wal_bytes - self._held_bytes >= limits.checkpoint_hard_bytes:
            self._below_hard_limit.clear()
        due = wal_bytes - self._held_bytes >= limits.checkpoint_soft_bytes
        if due or self._applied.index - self._last_index >= limits.checkpoint_entries:
            self._wanted.set()

    @property
    def has_room(self) -> bool:
        """Whether the virtual WALs are below the hard limit."""
        return self._below_hard_limit.is_set()

    async def room(self) -> None:
        """Return when the virtual WALs are below the hard limit."""
        await self._below_hard_limit.wait()

    async def run(self) -> None:
        """Checkpoint whenever one is due, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not await self._once():
                await asyncio.sleep(_RETRY_S)
                self._wanted.set()

    async def now(self) -> None:
        """Checkpoint until everything applied at some moment after the call is in the files."""
        while True:
            if await self._once():
                return
            await asyncio.sleep(_RETRY_S)

    async def _once(self) -> bool:
        async with self.lock:
            index = await self.checkpoint()
            if index is None:
                self._failures += 1
                return False
            # Still under the lock: an installation must not come between base and manifest.
            await self._ports.trim(index)
        self._failures = 0
        self._last_index = index
        return True

    async def checkpoint(self) -> int | None:
        """Checkpoint all databases; ``lock`` is held by the caller.

        Returns the index up to which the files hold everything (the new base), durable, or None
        when readers kept a checkpoint from completing.
        """
        index = await self._round(empty_wal=False)
        crowded = self._databases.wal_bytes >= self._limits.checkpoint_soft_bytes
        if index is not None and crowded:
            # Frames that came while the first round copied keep the WAL from restarting. There
            # are few of them: a second round takes them with the gates closed throughout, so
            # that the WAL is empty before the next frame (rule 7).
            index = await self._round(empty_wal=True)
        if index is not None:
            self._held_bytes = self._databases.wal_bytes
            self.completed += 1
        return index

    async def _round(self, *, empty_wal: bool) -> int | None:
        """Run one checkpoint of each database at one sampled index; None if one is incomplete.

        With ``empty_wal`` nobody writes until the WALs have been emptied as well.
        """
        sample = await self._sample()
        runs = [
            _Run(hosted, sample.index, hosted.last_frames, open_gate)
            for hosted, open_gate in sample.databases
        ]
        try:
            # Rule 2: nothing is injected between here and the limit, so this covers every frame
            # that the checkpoints will write.
            await self._ports.make_commit_durable(sample.index)
            for run in runs:
                fixed = _nothing if empty_wal else partial(self._limit_fixed, run, sample)
                run.start(self._workers, fixed)
            complete = True
            for run in runs:
                complete &= await self._finish(run)
                if not empty_wal:
                    self._limit_fixed(run, sample)
            if complete:
                await self._free_wals(runs)
        finally:
            for run in runs:
                self._limit_fixed(run, sample)
            sample.release_applier()
        if complete or self._databases.wal_bytes < self._limits.checkpoint_hard_bytes:
            self._below_hard_limit.set()
            self._ports.room_again()
        return sample.index if complete else None

    async def _free_wals(self, runs: list[_Run]) -> None:
        """Empty the WALs. At the hard limit readers must go, however young they are (rule 7)."""
        crowded = self._databases.wal_bytes >= self._limits.checkpoint_hard_bytes
        for run in runs:
            await run.hosted.free_wal(
                interrupt_after_s=0.0 if crowded else self._limits.reader_age_max_s,
                insist=crowded,
            )

    async def _sample(self) -> _Sample:
        """Wait for a moment without speculation and take the base there (rule 3).

        The gates stay closed and the applier stays out until the checkpoints fixed their limits.
        """
        while True:
            sample = await self._try_sample()
            if sample is not None:
                return sample
            await asyncio.sleep(_RETRY_S)

    async def _try_sample(self) -> _Sample | None:
        ports, hosted = self._ports, list(self._databases.hosted)
        databases = [(one, ports.close_gate(one)) for one in hosted]
        taken = False
        try:
            await ports.drained()
            await self._applier.lock.acquire()
            # A database that was created meanwhile would be missed by the base.
            quiet = not any(one.speculation or one.rolling_back for one in hosted)
            if quiet and hosted == self._databases.hosted:
                taken = True
                return _Sample(self._applied.index, databases, self._applier.lock)
            self._applier.lock.release()
            return None
        finally:
            if not taken:
                for _, open_gate in databases:
                    open_gate()

    def _limit_fixed(self, run: _Run, sample: _Sample) -> None:
        """The run's checkpoint will write no frame that is not in the WAL already."""
        if run.limit_fixed:
            return
        run.limit_fixed = True
        run.open_gate()
        sample.open_limits -= 1
        if sample.open_limits == 0:
            sample.release_applier()

    async def _finish(self, run: _Run) -> bool:
        assert run.future is not None
        try:
            complete = (await run.future).complete
        except ReadersBusy:  # a rollback has closed the connections
            complete = False
        if not complete:
            # Readers stand on old snapshots: first those over age must go, then all.
            patience_s = self._limits.reader_age_max_s / (1 << min(self._failures, 16))
            run.hosted.db.interrupt_readers(patience_s)
            return False
        base = BaseIndex(index=run.index, last_frames=run.last_frames)
        await self._databases.store_base(run.hosted, base)
        return True


def _nothing() -> None:
    """Told that a limit is fixed, when that changes nothing."""


class _Sample:
    """The moment at which a checkpoint's base was taken."""

    def __init__(
        self,
        index: int,
        databases: list[tuple[HostedDatabase, Callable[[], None]]],
        lock: asyncio.Lock,
    ) -> None:
        self.index = index
        self.databases = databases
        self.open_limits = len(databases)
        self._lock: asyncio.Lock | None = lock

    def release_applier(self) -> None:
        """Let entries be applied again; once."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class _Run:
    """One database's checkpoint."""

    def __init__(
        self,
        hosted: HostedDatabase,
        index: int,
        last_frames: int,
        open_gate: Callable[[], None],
    ) -> None:
        self.hosted = hosted
        self.open_gate = open_gate
        self.index = index
        self.last_frames = last_frames
        self.limit_fixed = False
        self.future: asyncio.Future[CheckpointResult] | None = None

    def start(self, workers: Workers, fixed: Callable[[], None]) -> None:
        """Queue the checkpoint; ``fixed`` is called on the event loop."""
        database = self.hosted.db

        def job() -> CheckpointResult:
            return database.checkpoint(on_limit_fixed=lambda: workers.notify(fixed))

        self.future = asyncio.ensure_future(self.hosted.checkpointer.run(job))

"""The leader's write path: queue, batch, execute, propose, answer (design decision 2).

At most ``batches_in_flight`` batches exist between their execution and their commitment, so the
next batch executes in SQLite while the previous one replicates. An answer leaves only when Raft
has committed what it rests on. A batch is executed once and proposed once; when leadership is
lost after the proposal its outcome is unknown and nobody here repeats it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from dqlite_py.db.database import BatchOutcome
from dqlite_py.errors import (
    BatchTooLarge,
    LeaderChanged,
    NotLeader,
    RequestTimeout,
    RequestTooLarge,
    TooManyRequests,
)
from dqlite_py.node import entries
from dqlite_py.node.contract import Machine, Session
from dqlite_py.node.gathering import Gathering
from dqlite_py.node.hosted import HostedDatabase, Speculation
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.requests import ProposedBatch, Request, fail, settle
from dqlite_py.seams import Clock
from dqlite_py.vfs import frames


class Proposer(Protocol):
    """What the pipeline needs of the replica around it."""

    def propose(self, term: int, data: bytes) -> int | None:
        """Append an entry in exactly ``term``; its index, or None when refused."""

    def after_read_round(self, done: Callable[[Exception | None], None]) -> None:
        """Call back after a ReadIndex round begun now."""

    def speculation_failed(self) -> None:
        """A proposal was refused: roll back and stop executing for now."""

    def has_room(self) -> bool:
        """Whether the virtual WAL is below its hard limit."""

    def failed(self, error: BaseException) -> None:
        """The replica must stop."""


class Pipeline:
    """Group commit for one database. Event loop only; execution happens on its writer worker."""

    def __init__(
        self,
        hosted: HostedDatabase,
        machine: Machine,
        limits: ReplicaLimits,
        clock: Clock,
        proposer: Proposer,
    ) -> None:
        self._hosted = hosted
        self._machine = machine
        self._limits = limits
        self._clock = clock
        self._proposer = proposer
        self._queue: deque[Request] = deque()
        self._queue_bytes = 0
        self._executing: list[Request] | None = None
        self._batches: deque[ProposedBatch] = deque()
        self._term = 0  # 0: not leading
        self._epoch = 0
        self._opened = False
        self._gathering = Gathering(limits, self.pump)
        self._gates = 0
        self._batch_max = limits.batch_commands_max
        self._drained: list[asyncio.Future[None]] = []
        self._on_open: Callable[[], None] | None = None

    # --- leadership -------------------------------------------------------------------------
    @property
    def leading(self) -> bool:
        """Whether batches may be executed (after the machine was opened)."""
        return self._term != 0

    @property
    def pending(self) -> int:
        """How many commands wait or are under way."""
        executing = len(self._executing or ())
        return len(self._queue) + executing + sum(len(b.answers) for b in self._batches)

    def start(self, term: int, on_open: Callable[[], None]) -> None:
        """Begin to execute in ``term``; the no-op of that term is committed and applied here.

        ``on_open`` is called once the machine's own opening transaction is committed.
        """
        assert not self._hosted.speculation
        assert not self._batches
        assert self._executing is None
        self._term = term
        self._epoch += 1
        self._opened = False
        self._on_open = on_open
        self._batch_max = self._limits.batch_commands_max
        self.pump()

    def stop(self) -> bool:
        """Stop executing; return whether speculation must be rolled back.

        Proposed batches answer LeaderChanged (unknown); what was not proposed answers NotLeader
        (no effect), so that the caller may send it elsewhere.
        """
        speculative = bool(self._batches) or self._executing is not None
        self._term = 0
        self._epoch += 1
        self._on_open = None
        batches, self._batches = self._batches, deque()
        for batch in batches:
            for answer, _ in batch.answers:
                fail(answer, LeaderChanged())
        for request in self._executing or ():
            fail(request.answer, NotLeader())
        for request in self._queue:
            fail(request.answer, NotLeader())
        self._queue.clear()
        self._queue_bytes = 0
        self._executing = None
        self._settle_drains()
        return speculative

    # --- requests ---------------------------------------------------------------------------
    def submit(self, command: Any, size_bytes: int) -> asyncio.Future[Any]:
        """Queue one command; the future holds its result once committed.

        Raises TooManyRequests when the queue is full and NotLeader when this member does not lead.
        """
        if not self._term:
            raise NotLeader
        limits = self._limits
        if (
            len(self._queue) >= limits.queue_commands_max
            or self._queue_bytes + size_bytes > limits.queue_bytes_max
        ):
            raise TooManyRequests
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        deadline_s = self._clock.now_s() + limits.request_timeout_s
        self._queue.append(Request(command, size_bytes, answer, deadline_s))
        self._queue_bytes += size_bytes
        if self._executing is None:
            self.pump()
        return answer

    def expire(self) -> None:
        """Answer RequestTimeout to queued commands that waited too long; they never ran."""
        now_s = self._clock.now_s()
        while self._queue and self._queue[0].deadline_s < now_s:
            request = self._queue.popleft()
            self._queue_bytes -= request.size_bytes
            fail(request.answer, RequestTimeout())

    # --- the gate (checkpoints and snapshots) -------------------------------------------------
    def close_gate(self) -> None:
        """Stop admitting batches; pairs with ``open_gate``; may nest."""
        self._gates += 1

    def open_gate(self) -> None:
        """Undo one ``close_gate``."""
        assert self._gates > 0
        self._gates -= 1
        self.pump()

    def drained(self) -> asyncio.Future[None]:
        """Return a future that settles when nothing is executing or uncommitted."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._drained.append(waiter)
        self._settle_drains()
        return waiter

    def _settle_drains(self) -> None:
        if self._drained and self._executing is None and not self._batches:
            waiters, self._drained = self._drained, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    # --- executing --------------------------------------------------------------------------
    def pump(self) -> None:
        """Execute the next batch if that may be now; what fails fails the replica."""
        try:
            self._pump()
        except Exception as error:
            self._proposer.failed(error)

    def _pump(self) -> None:
        if not self._term or self._executing is not None or self._hosted.rolling_back:
            return
        if self._gates or not self._proposer.has_room():
            return
        if len(self._batches) >= self._limits.batches_in_flight:
            return
        if not self._opened:
            self._execute([], [self._open_machine])
            return
        if not self._queue:
            return
        if self._gathering.waits(len(self._queue), on_top=bool(self._batches)):
            return
        taken = self._take()
        if taken:
            self._gathering.took(len(taken))
            commands = [request.command for request in taken]
            jobs = [partial(_execute, self._machine, command) for command in commands]
            self._execute(taken, jobs)

    def _open_machine(self, session: Session) -> None:
        self._machine.open(session)

    def _take(self) -> list[Request]:
        taken: list[Request] = []
        size_bytes = 0
        queue = self._queue
        while queue and len(taken) < self._batch_max:
            if taken and size_bytes + queue[0].size_bytes > self._limits.batch_bytes_max:
                break
            request = queue.popleft()
            self._queue_bytes -= request.size_bytes
            if request.answer.done():  # the caller gave up; nothing has run
                continue
            size_bytes += request.size_bytes
            taken.append(request)
        return taken

    def _execute(self, taken: list[Request], jobs: Sequence[Callable[[Session], Any]]) -> None:
        hosted, machine, term, epoch = self._hosted, self._machine, self._term, self._epoch
        previous = self._batches[-1].index if self._batches else hosted.last_frames
        frames_bytes_max = self._limits.entry_frames_bytes_max
        self._executing = taken
        hosted.batch_number += 1
        number = hosted.batch_number

        def job() -> tuple[BatchOutcome, bytes, bytes]:
            outcome = hosted.db.execute_batch(
                jobs, mark=machine.mark, restore=machine.restore, max_frames_bytes=frames_bytes_max
            )
            if outcome.batch is None:
                return outcome, b"", b""
            note = machine.note()
            encoded = frames.encode(outcome.batch)
            data = entries.encode_frames(
                hosted.record.creation_index, term, previous, note, encoded
            )
            return outcome, note, data

        future = asyncio.ensure_future(hosted.writer.run(job))
        future.add_done_callback(partial(self._guarded, epoch, number, taken))

    def _guarded(
        self,
        epoch: int,
        number: int,
        taken: list[Request],
        done: asyncio.Future[tuple[BatchOutcome, bytes, bytes]],
    ) -> None:
        """An error in a callback would only be logged, and the answers lost."""
        try:
            self._executed(epoch, number, taken, done)
        except Exception as error:
            self._proposer.failed(error)

    def _executed(
        self,
        epoch: int,
        number: int,
        taken: list[Request],
        done: asyncio.Future[tuple[BatchOutcome, bytes, bytes]],
    ) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if epoch != self._epoch:
            # stop() has answered; the rollback it ordered runs behind this batch.
            if error is not None and not isinstance(error, BatchTooLarge):
                self._proposer.failed(error)
            return
        self._executing = None
        if isinstance(error, BatchTooLarge):
            self._split(taken)
        elif error is not None:
            self._proposer.failed(error)
            return
        else:
            outcome, note, data = done.result()
            if outcome.batch is None:
                self._answer_unchanged(number, taken, outcome.results)
            else:
                self._propose(number, taken, outcome, note, data)
        self.pump()
        self._settle_drains()

    def _split(self, taken: list[Request]) -> None:
        """The batch would not fit an entry: nothing ran; try again with fewer commands."""
        if len(taken) == 1:
            fail(taken[0].answer, RequestTooLarge())
            self._batch_max = self._limits.batch_commands_max
            return
        self._batch_max = max(1, len(taken) // 2)
        for request in reversed(taken):
            self._queue.appendleft(request)
            self._queue_bytes += request.size_bytes

    def _propose(
        self,
        number: int,
        taken: list[Request],
        outcome: BatchOutcome,
        note: bytes,
        data: bytes,
    ) -> None:
        term = self._term
        index = self._proposer.propose(term, data)
        if index is None:
            for request in taken:
                fail(request.answer, NotLeader())
            # Not this pipeline's batch any more, but it changed the WAL: roll it back.
            self._proposer.speculation_failed()
            return
        answers = [(r.answer, v) for r, v in zip(taken, outcome.results, strict=False)]
        self._hosted.speculation.append(Speculation(term, index, outcome.position, note, number))
        self._batches.append(ProposedBatch(term, index, number, answers))

    def _answer_unchanged(self, number: int, taken: list[Request], results: list[Any]) -> None:
        """No frames: the answers rest on earlier batches and on still being the leader (rule 4)."""
        if not taken:
            self._settle_numbers(number)
            self._machine_opened()
            return
        rests_on = self._batches[-1] if self._batches else None
        self._settle_numbers(number)
        answers = [(r.answer, v) for r, v in zip(taken, results, strict=True)]
        epoch = self._epoch

        def confirmed(error: Exception | None) -> None:
            if error is None and epoch != self._epoch:
                # The round was begun again under another leadership, which may have moved on
                # before these requests arrived. They wrote nothing, so they may be sent there.
                error = NotLeader()
            elif error is None and rests_on is not None and not rests_on.committed:
                rests_on.answers.extend(answers)
                return
            for answer, value in answers:
                fail(answer, error) if error is not None else settle(answer, value)

        # Both are needed. The batch below may be acknowledged by messages sent before these
        # requests arrived, so its commitment alone does not prove that we still led then.
        self._proposer.after_read_round(confirmed)

    def _settle_numbers(self, number: int) -> None:
        """Batches below the oldest uncommitted one are settled; ``number`` was the last run."""
        oldest = self._batches[0].number - 1 if self._batches else number
        self._hosted.settle(oldest)

    # --- answering --------------------------------------------------------------------------
    def committed(self, term: int, index: int) -> None:
        """The speculated entry at (term, index) is committed and applied: answer its batch."""
        if not self._batches:
            return
        batch = self._batches[0]
        assert (batch.term, batch.index) == (term, index), (batch.term, batch.index, term, index)
        self._batches.popleft()
        batch.committed = True
        executing = 1 if self._executing is not None else 0
        self._settle_numbers(self._hosted.batch_number - executing)
        for answer, value in batch.answers:
            settle(answer, value)
        if not self._opened:
            self._machine_opened()
        self.pump()
        self._settle_drains()

    def _machine_opened(self) -> None:
        self._opened = True
        callback, self._on_open = self._on_open, None
        if callback is not None:
            callback()


def _execute(machine: Machine, command: Any, session: Session) -> Any:
    return machine.execute(session, command)

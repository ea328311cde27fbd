"""The Ready loop: the only caller of the Raft core's step and ready.

Ordering. The core runs with asynchronous storage writes: what may leave before this member's disk
has it (a leader's appends, heartbeats) comes as plain messages and is sent at once; what
acknowledges something (append and vote responses, a leader's own vote for its entries) is attached
to a storage message and leaves only after the fdatasync that covers it. Appends that queue up
during an fdatasync share the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from dqlite_py.raft import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    ConfChange,
    ConfChangeKind,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    RawNode,
    decode_conf_change,
)
from dqlite_py.seams import Worker
from dqlite_py.storage.log_writer import AppendBatch, WriteResult
from dqlite_py.storage.raft_storage import RaftStorage

_SCAN_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class DriverPorts:
    """Where the loop's outputs go; all are called on the event loop."""

    send: Callable[[Message], None]
    send_snapshot: Callable[[Message], None]
    apply: Callable[[Message], None]
    install: Callable[[Message], Awaitable[None]]
    read_state: Callable[[bytes, int], None]
    stepped: Callable[[], None]  # roles, terms and leaders may have changed
    failed: Callable[[BaseException], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]


class Driver:
    """Runs the core against disk and network. Event loop only."""

    def __init__(
        self,
        member_id: int,
        raw: RawNode,
        storage: RaftStorage,
        log_worker: Worker,
        ports: DriverPorts,
    ) -> None:
        self.raw = raw
        self._member_id = member_id
        self._storage = storage
        self._worker = log_worker
        self._ports = ports
        self._scheduled = False
        self._stopped = False
        self._appends: list[Message] = []
        self._writing = False
        self._hard_state = storage.initial_state()[0]
        self._unwritten_commit = False
        self.durable_commit = self._hard_state.commit
        # Removals in the log that are not durably known to be committed, oldest first, and the
        # last message to each member that would have said that the oldest is.
        self._removals = _removals_in_log(storage, self.durable_commit)
        self._untold: dict[int, Message] = {}

    # --- inputs -----------------------------------------------------------------------------
    def kick(self) -> None:
        """Look at the core's outputs soon, once for all inputs of this turn of the loop."""
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._guarded)

    def step(self, message: Message) -> None:
        """Give the core a message from a peer."""
        self.raw.step(message)
        self.kick()

    def tick(self) -> None:
        """One heartbeat interval has passed."""
        self.raw.tick()
        self.kick()

    def stop(self) -> None:
        """Ignore everything from now on."""
        self._stopped = True

    # --- outputs ----------------------------------------------------------------------------
    def _guarded(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        try:
            self._process()
        except Exception as error:
            self._ports.failed(error)

    def _process(self) -> None:
        raw, ports = self.raw, self._ports
        while raw.has_ready():
            ready = raw.ready()
            for message in ready.messages:
                if message.to == LOCAL_APPEND_THREAD:
                    self._note_removals(message.entries)
                    self._appends.append(message)
                elif message.to == LOCAL_APPLY_THREAD:
                    ports.apply(message)
                elif message.kind is MessageKind.SNAP:
                    ports.send_snapshot(message)
                else:
                    self._send(message)
            for read in ready.read_states:
                ports.read_state(read.context, read.index)
        ports.stepped()
        self._write()

    def _send(self, message: Message) -> None:
        """Send, but let nobody hear of a committed removal before that is durable here.

        The member that is removed stops when it hears. If this one then lost its knowledge, it
        would count on the other's vote for ever, and of two members it could not win alone.
        """
        if self._removals and message.commit >= self._removals[0]:
            self._untold[message.to] = message
            message = replace(message, commit=self._removals[0] - 1)
        self._ports.send(message)

    def _note_removals(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        while self._removals and self._removals[-1] >= entries[0].index:
            self._removals.pop()  # replaced
        self._removals += [entry.index for entry in entries if _may_remove(entry)]

    def _commit_is_durable(self, index: int) -> None:
        """The commit index on disk has moved: send again what could not be told before."""
        self.durable_commit = max(self.durable_commit, index)
        while self._removals and self._removals[0] <= self.durable_commit:
            self._removals.pop(0)
        untold, self._untold = self._untold, {}
        for message in untold.values():
            self._send(message)

    # --- the log ----------------------------------------------------------------------------
    def _write(self) -> None:
        if self._writing or not self._appends:
            return
        messages, self._appends = self._appends, []
        for position, message in enumerate(messages):
            if message.snapshot is not None:
                # What came before it is written first; what comes after waits for it.
                self._appends = messages[position + 1 :] if position == 0 else messages[position:]
                if position == 0:
                    self._writing = True
                    self._ports.spawn(self._install(message))
                    return
                messages = messages[:position]
                break
        batches = [batch for m in messages if (batch := self._batch(m)) is not None]
        if not batches:
            self._respond(messages)
            return
        self._writing = True
        future = asyncio.ensure_future(self._worker.run(lambda: self._storage.write(batches)))
        future.add_done_callback(lambda done: self._written(messages, done))

    def _batch(self, message: Message) -> AppendBatch | None:
        """Return what must be written for ``message``; None if nothing that matters yet.

        A commit index alone is not worth a disk write: it is a lower bound that rides along with
        the next entries, and checkpoints make it durable first (rule 2).
        """
        known = self._hard_state
        hard_state = known
        if message.term or message.vote or message.commit:
            hard_state = HardState(
                term=message.term or known.term,
                vote=message.vote if message.term else known.vote,
                commit=max(message.commit, known.commit),
            )
        election = (hard_state.term, hard_state.vote) != (known.term, known.vote)
        self._unwritten_commit |= hard_state.commit != known.commit
        self._hard_state = hard_state
        if not message.entries and not election:
            return None
        write_state = election or self._unwritten_commit
        self._unwritten_commit = False
        return AppendBatch(
            entries=message.entries,
            hard_state=hard_state if write_state else None,
            must_sync=True,
        )

    def _written(self, messages: list[Message], done: asyncio.Future[WriteResult]) -> None:
        self._writing = False
        if self._stopped or done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._ports.failed(error)
            return
        try:
            self._storage.publish(done.result())
            self._respond(messages)
        except Exception as failure:
            self._ports.failed(failure)

    def _respond(self, messages: list[Message]) -> None:
        """Everything ``messages`` asked for is durable: let the acknowledgements go."""
        for message in messages:
            for response in message.responses:
                if response.to == self._member_id:
                    self.raw.step(response)
                else:
                    self._ports.send(response)
        self.kick()

    async def _install(self, message: Message) -> None:
        """Replace the state by a received snapshot, then acknowledge it (rule 6)."""
        known = self._hard_state
        try:
            if message.term and (message.term, message.vote) != (known.term, known.vote):
                # Only term and vote: commit index and entries belong behind the snapshot.
                elected = HardState(message.term, message.vote, known.commit)
                self._hard_state = elected
                await self._store(AppendBatch(hard_state=elected))
            await self._ports.install(message)
            assert message.snapshot is not None
            self._commit_is_durable(message.snapshot.index)
            batch = self._batch(message)
            if batch is not None:
                await self._store(batch)
        except Exception as error:
            self._ports.failed(error)
            return
        self._writing = False
        if not self._stopped:
            self._respond([message])

    async def _store(self, batch: AppendBatch) -> None:
        result = await self._worker.run(lambda: self._storage.write([batch]))
        self._storage.publish(result)

    async def make_commit_durable(self, index: int) -> None:
        """Return when the hard state on disk has a commit index >= ``index`` (rule 2)."""
        if self.durable_commit >= index:
            return
        result = await self._worker.run(lambda: self._storage.store_commit(index))
        self._storage.publish(result)
        self._commit_is_durable(index)


def _may_remove(entry: Entry) -> bool:
    """Whether a member may leave by this entry; an empty change ends a joint configuration."""
    if entry.kind is EntryKind.NORMAL:
        return False
    change = decode_conf_change(entry)
    return not isinstance(change, ConfChange) or change.kind is ConfChangeKind.REMOVE_NODE


def _removals_in_log(storage: RaftStorage, commit: int) -> list[int]:
    """Return the indexes of removals behind the commit index."""
    first, end = max(commit + 1, storage.first_index()), storage.last_index() + 1
    found = []
    while first < end:
        entries = storage.entries(first, end, _SCAN_BYTES)
        found += [entry.index for entry in entries if _may_remove(entry)]
        first = entries[-1].index + 1
    return found

"""What the core wants done, and how it is told that it was done."""

from __future__ import annotations

from dataclasses import dataclass

from dqlite_py.raft.core import Raft
from dqlite_py.raft.messages import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    Entry,
    HardState,
    Message,
    MessageKind,
    ReadState,
    Snapshot,
    SoftState,
)


@dataclass(frozen=True, slots=True)
class Ready:
    """Work for the owner of a RawNode. DESIGN.md states the whole ordering contract.

    With synchronous storage: make ``snapshot``, ``entries`` and ``hard_state`` durable (fsync if
    ``must_sync``), then send ``messages``, apply ``committed_entries``, call ``advance``.

    With asynchronous storage: every write and every application is a message to
    LOCAL_APPEND_THREAD or LOCAL_APPLY_THREAD among ``messages``; the other fields repeat their
    content for information. Messages to other members may be sent at once. Each pseudo thread
    handles its messages in order and delivers their ``responses`` when done.

    ``soft_state`` and ``hard_state`` are None when unchanged.
    """

    soft_state: SoftState | None
    hard_state: HardState | None
    read_states: tuple[ReadState, ...]
    entries: tuple[Entry, ...]
    snapshot: Snapshot | None
    committed_entries: tuple[Entry, ...]
    messages: tuple[Message, ...]
    must_sync: bool


def storage_append(
    raft: Raft,
    entries: tuple[Entry, ...],
    hard_state: HardState | None,
    snapshot: Snapshot | None,
) -> Message:
    """Return the message that asks the append thread to make all this durable.

    ``raft.messages_after_append`` become its responses: they promise what it writes.
    """
    responses = tuple(raft.messages_after_append)
    done = storage_append_response(raft, snapshot)
    if done is not None:
        responses = (*responses, done)
    return Message(
        MessageKind.STORAGE_APPEND,
        to=LOCAL_APPEND_THREAD,
        from_=raft.id,
        entries=entries,
        term=hard_state.term if hard_state else 0,
        vote=hard_state.vote if hard_state else 0,
        commit=hard_state.commit if hard_state else 0,
        snapshot=snapshot,
        responses=responses,
    )


def storage_append_response(raft: Raft, snapshot: Snapshot | None) -> Message | None:
    """Return the report that everything handed out so far is durable, None if nothing waits.

    It names the log's present end and carries the present term: by the time it arrives the log
    may have moved on (see ``UnstableLog``). It is attached to every write while entries are in
    progress, also to writes without entries, so that a report ignored for its term is repeated.
    """
    log = raft.log
    index = term = 0
    if log.unstable.entries:
        index, term = log.last_index(), log.last_term()
    elif snapshot is None:
        return None
    return Message(
        MessageKind.STORAGE_APPEND_RESP,
        to=raft.id,
        from_=LOCAL_APPEND_THREAD,
        term=raft.term,
        index=index,
        log_term=term,
        snapshot=snapshot,
    )


def storage_apply_response(raft: Raft, committed: tuple[Entry, ...]) -> Message:
    """Return the report that ``committed`` has been applied; it holds in every term."""
    return Message(
        MessageKind.STORAGE_APPLY_RESP, to=raft.id, from_=LOCAL_APPLY_THREAD, entries=committed
    )


def storage_apply(raft: Raft, committed: tuple[Entry, ...]) -> Message:
    """Return the message that asks the apply thread to apply ``committed``."""
    return Message(
        MessageKind.STORAGE_APPLY,
        to=LOCAL_APPLY_THREAD,
        from_=raft.id,
        entries=committed,
        responses=(storage_apply_response(raft, committed),),
    )

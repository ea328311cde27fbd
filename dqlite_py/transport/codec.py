"""Raft messages and errors as msgpack arrays.

Entries travel as one flat array (term, index, kind, data, term, ...) because an array per entry
costs as much again to build. ``responses`` of a message name work inside one process and never
travel.
"""

from __future__ import annotations

from typing import Any

from dqlite_py.errors import DqliteError, Fatal, PeerFailed, from_wire, to_wire
from dqlite_py.raft.messages import (
    LOCAL_KINDS,
    ConfState,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    Snapshot,
)
from dqlite_py.transport.framing import FrameError, FrameKind, encode_frame

_MESSAGE_FIELDS = 14
_ENTRY_FIELDS = 4

_message_kinds = {int(kind.value): kind for kind in MessageKind if kind not in LOCAL_KINDS}
_entry_kinds = {int(kind.value): kind for kind in EntryKind}


def encode_message(message: Message) -> bytes:
    """Return the frame of one Raft message."""
    entries: list[Any] = []
    for entry in message.entries:
        entries += (entry.term, entry.index, entry.kind.value, entry.data)
    snapshot = message.snapshot
    return encode_frame(
        [
            0,  # FrameKind.MESSAGE, as a literal for speed
            message.kind.value,
            message.to,
            message.from_,
            message.term,
            message.log_term,
            message.index,
            entries,
            message.commit,
            message.vote,
            None if snapshot is None else _snapshot_fields(snapshot),
            message.reject,
            message.reject_hint,
            message.context,
        ]
    )


def decode_message(content: list[Any]) -> Message:
    """Rebuild a Raft message from a MESSAGE frame's array; raise FrameError if it is none."""
    if len(content) != _MESSAGE_FIELDS:
        raise FrameError(f"a Raft message of {len(content)} fields")
    (
        *_,
        kind,
        to,
        from_,
        term,
        log_term,
        index,
        entries,
        commit,
        vote,
        snapshot,
        reject,
        reject_hint,
        context,
    ) = content
    for number in (kind, to, from_, term, log_term, index, commit, vote, reject_hint):
        if type(number) is not int or number < 0:
            raise FrameError("a Raft message field is not a number")
    if kind not in _message_kinds or type(reject) is not bool or type(context) is not bytes:
        raise FrameError(f"a malformed Raft message of kind {kind}")
    return Message(
        kind=_message_kinds[kind],
        to=to,
        from_=from_,
        term=term,
        log_term=log_term,
        index=index,
        entries=_decode_entries(entries),
        commit=commit,
        vote=vote,
        snapshot=None if snapshot is None else _decode_snapshot(snapshot),
        reject=reject,
        reject_hint=reject_hint,
        context=context,
    )


def encode_failure(call_id: int, error: DqliteError) -> bytes:
    """Return the frame that raises ``error`` at the caller."""
    try:
        return encode_frame([FrameKind.FAILURE.value, call_id, to_wire(error)])
    except (TypeError, OverflowError):
        # an error carrying an object that msgpack does not know still has a name
        return encode_failure(call_id, PeerFailed(detail=type(error).__name__))


def decode_error(data: object) -> DqliteError:
    """Rebuild an error sent by another member.

    Another member's fatal error is not this one's: it becomes PeerFailed. Raises FrameError for
    anything that is no error.
    """
    match data:
        case [str(name), list(values)]:
            error = from_wire([name, values])
        case _:
            raise FrameError("a malformed error")
    return PeerFailed(detail=str(error)) if isinstance(error, Fatal) else error


def _snapshot_fields(snapshot: Snapshot) -> list[Any]:
    conf = snapshot.conf_state
    return [
        snapshot.index,
        snapshot.term,
        [conf.voters, conf.voters_outgoing, conf.learners, conf.learners_next, conf.auto_leave],
        snapshot.data,
    ]


def _decode_entries(flat: object) -> tuple[Entry, ...]:
    if type(flat) is not list or len(flat) % _ENTRY_FIELDS:
        raise FrameError("malformed entries in a Raft message")
    if not flat:
        return ()
    entries = []
    for term, index, kind, data in zip(*[iter(flat)] * _ENTRY_FIELDS, strict=True):
        if type(term) is not int or type(index) is not int or type(data) is not bytes:
            raise FrameError("a malformed entry in a Raft message")
        if kind not in _entry_kinds:
            raise FrameError(f"an entry of unknown kind {kind}")
        entries.append(Entry(term, index, _entry_kinds[kind], data))
    return tuple(entries)


def _decode_snapshot(fields: object) -> Snapshot:
    match fields:
        case [
            int(index),
            int(term),
            [voters, voters_outgoing, learners, learners_next, bool(auto_leave)],
            bytes(data),
        ]:
            conf_state = ConfState(
                _decode_ids(voters),
                _decode_ids(voters_outgoing),
                _decode_ids(learners),
                _decode_ids(learners_next),
                auto_leave,
            )
            return Snapshot(index, term, conf_state, data)
        case _:
            raise FrameError("a malformed snapshot in a Raft message")


def _decode_ids(ids: object) -> tuple[int, ...]:
    if not isinstance(ids, list) or any(type(member_id) is not int for member_id in ids):
        raise FrameError("a malformed configuration in a Raft message")
    return tuple(ids)

"""What a leader does with messages of its own term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from dqlite_py.raft.changes import as_v2, decode_conf_change
from dqlite_py.raft.config import ReadOnlyMode
from dqlite_py.raft.errors import InvalidConfChange, InvariantBroken, ProposalDropped
from dqlite_py.raft.membership import objection
from dqlite_py.raft.messages import (
    Entry,
    EntryKind,
    Message,
    MessageKind,
    ReadState,
    payload_bytes,
)
from dqlite_py.raft.progress import Progress, ProgressState
from dqlite_py.raft.quorum import VoteResult
from dqlite_py.raft.replication import (
    broadcast_append,
    broadcast_heartbeat,
    try_commit,
    try_send_append,
)
from dqlite_py.raft.trace import (
    ConfChangeRefused,
    ProposalIgnored,
    QuorumLost,
    ReadIgnored,
    TimeoutNowSent,
    TransferAborted,
    TransferIgnored,
    TransferStarted,
)
from dqlite_py.raft.trace_log import (
    FollowerUnreachable,
    ProgressDecreased,
    RejectionReceived,
    SnapshotCaughtUp,
    SnapshotReported,
)

if TYPE_CHECKING:
    from dqlite_py.raft.core import Raft

_NORMAL = EntryKind.NORMAL
_PROBE, _REPLICATE, _SNAPSHOT = ProgressState


def step_leader(raft: Raft, message: Message) -> None:
    """Handle a message of the current term; raises ProposalDropped for a refused proposal."""
    kind = message.kind
    about_follower = _FOLLOWER_HANDLERS.get(kind)
    if about_follower is not None:
        progress = raft.progress.get(message.from_)
        if progress is not None:
            about_follower(raft, message, progress)
        return
    handler = _HANDLERS.get(kind)
    if handler is not None:
        handler(raft, message)


def append_entries(raft: Raft, proposed: Sequence[Entry]) -> None:
    """Give entries this term and the next indexes, and append them.

    New entries are made because a forwarded proposal may be delivered twice and then shares its
    entries with an earlier one. The leader counts its own copy only when its storage, like a
    follower, acknowledges it. Raises ProposalDropped if too much is uncommitted.
    """
    size = payload_bytes(list(proposed))
    uncommitted = raft.uncommitted_bytes
    if uncommitted and size and uncommitted + size > raft.config.max_uncommitted_bytes:
        _drop(raft, "the uncommitted part of the log is too large")
    raft.uncommitted_bytes = uncommitted + size
    term, log = raft.term, raft.log
    first = log.last_index() + 1
    entries = [
        Entry(term, index, entry.kind, entry.data) for index, entry in enumerate(proposed, first)
    ]
    log.append(entries)
    raft.messages_after_append.append(
        Message(
            MessageKind.APP_RESP,
            to=raft.id,
            from_=raft.id,
            term=term,
            index=first + len(entries) - 1,
        )
    )


def _drop(raft: Raft, reason: str) -> NoReturn:
    if raft.trace is not None:
        raft.trace(ProposalIgnored(raft.id, raft.term, reason))
    raise ProposalDropped(reason)


def _propose(raft: Raft, message: Message) -> None:
    entries = message.entries
    if raft.id not in raft.progress:
        _drop(raft, "this leader has been removed")
    if raft.lead_transferee:
        _drop(raft, f"leadership is being transferred to {raft.lead_transferee}")
    if not entries:
        _drop(raft, "the proposal is empty")
    previous_conf_index = raft.pending_conf_index
    if any(entry.kind != _NORMAL for entry in entries):
        entries = _check_conf_changes(raft, entries)
    try:
        append_entries(raft, entries)
    except ProposalDropped:
        raft.pending_conf_index = previous_conf_index
        raise
    broadcast_append(raft)


def _check_conf_changes(raft: Raft, proposed: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Replace membership changes that must not be appended now by empty entries."""
    checked = []
    for index, entry in enumerate(proposed, raft.log.last_index() + 1):
        if entry.kind != _NORMAL:
            try:
                change = decode_conf_change(entry)
            except InvalidConfChange as error:
                _drop(raft, str(error))
            reason = objection(raft, as_v2(change))
            if reason and not raft.config.disable_conf_change_validation:
                if raft.trace is not None:
                    text = str(raft.configuration)
                    raft.trace(ConfChangeRefused(raft.id, change, text, reason))
                checked.append(Entry(0, 0))
                continue
            raft.pending_conf_index = index
        checked.append(entry)
    return tuple(checked)


def _beat(raft: Raft, _message: Message) -> None:
    broadcast_heartbeat(raft)


def _check_quorum(raft: Raft, _message: Message) -> None:
    """Step down if a quorum has been silent for an election timeout (dissertation 6.2)."""
    progress = raft.progress
    active = {member: each.recent_active for member, each in progress.items()}
    if raft.configuration.voters.vote_result(active) is not VoteResult.WON:
        if raft.trace is not None:
            raft.trace(QuorumLost(raft.id))
        raft.become_follower(raft.term, 0)
    for member, each in progress.items():
        if member != raft.id:
            each.recent_active = False


def _append_answered(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    if message.reject:
        _append_refused(raft, message, progress)
        return
    index, state = message.index, progress.state
    if index > raft.log.last_index():
        raise InvariantBroken(
            f"{message.from_} acknowledges {index} but the log ends at {raft.log.last_index()}"
        )
    if not progress.acknowledged(index) and not (progress.match == index and state is _PROBE):
        return
    if state is _REPLICATE:
        progress.inflights.free_to(index)
    elif state is _PROBE:
        progress.become_replicate()
    elif progress.match + 1 >= raft.log.first_index():
        # The follower caught up, perhaps by another snapshot than the one sent.
        if raft.trace is not None:
            raft.trace(SnapshotCaughtUp(raft.id, message.from_, str(progress)))
        progress.become_probe()
        progress.become_replicate()
    _after_acknowledgement(raft, message.from_, progress)


def _after_acknowledgement(raft: Raft, member: int, progress: Progress) -> None:
    is_self = member == raft.id
    if try_commit(raft):
        release_postponed_reads(raft)
        broadcast_append(raft)
    elif not is_self and progress.can_bump_commit(raft.log.committed):
        try_send_append(raft, member, progress, send_if_empty=True)
    if is_self:
        return
    # The window may have opened for more than one size-limited append.
    while progress.next <= raft.log.last_index():
        if not try_send_append(raft, member, progress, send_if_empty=False):
            break
    if member == raft.lead_transferee and progress.match == raft.log.last_index():
        _send_timeout_now(raft, member, at_once=False)


def _append_refused(raft: Raft, message: Message, progress: Progress) -> None:
    """Probe further back, skipping the terms that cannot match (see ``find_conflict_by_term``)."""
    if raft.trace is not None:
        raft.trace(RejectionReceived(raft.id, message))
    hint = message.reject_hint
    if message.log_term:
        hint, _ = raft.log.find_conflict_by_term(hint, message.log_term)
    if not progress.rejected(message.index, hint):
        return
    if raft.trace is not None:
        raft.trace(ProgressDecreased(raft.id, message.from_, str(progress)))
    if progress.state is _REPLICATE:
        progress.become_probe()
    try_send_append(raft, message.from_, progress, send_if_empty=True)


def _heartbeat_answered(raft: Raft, message: Message, progress: Progress) -> None:
    progress.recent_active = True
    progress.flow_paused = False
    # Even with a full window this sends an empty append, which reveals lost ones.
    if progress.match < raft.log.last_index() or progress.state is _PROBE:
        try_send_append(raft, message.from_, progress, send_if_empty=True)
    if message.context and raft.pending_reads:
        raft.pending_reads.acknowledged(message.from_, message.context)
        _release_confirmed_reads(raft)


def _snapshot_reported(raft: Raft, message: Message, progress: Progress) -> None:
    if progress.state is not _SNAPSHOT:
        return
    if message.reject:
        progress.pending_snapshot = 0
    progress.become_probe()
    if raft.trace is not None:
        raft.trace(SnapshotReported(raft.id, message.from_, not message.reject, str(progress)))
    # Wait for the follower's acknowledgement, or for a heartbeat if that was lost.
    progress.flow_paused = True


def _unreachable(raft: Raft, message: Message, progress: Progress) -> None:
    if progress.state is _REPLICATE:
        progress.become_probe()
    if raft.trace is not None:
        raft.trace(FollowerUnreachable(raft.id, message.from_, str(progress)))


def _transfer(raft: Raft, message: Message, progress: Progress) -> None:
    """Bring the successor up to date and tell it to campaign (dissertation 3.10)."""
    target, trace = message.from_, raft.trace
    reason = ""
    if progress.is_learner:
        reason = "it is a learner"
    elif raft.lead_transferee == target:
        reason = "it is in progress"
    elif target == raft.id:
        reason = "it is the leader"
    if reason != "it is in progress" and not progress.is_learner and raft.lead_transferee:
        if trace is not None:
            trace(TransferAborted(raft.id, raft.term, raft.lead_transferee))
        raft.lead_transferee = 0
    if reason:
        if trace is not None:
            trace(TransferIgnored(raft.id, raft.term, target, reason))
        return
    if trace is not None:
        trace(TransferStarted(raft.id, raft.term, target))
    # The transfer is given up after one election timeout.
    raft.election_elapsed = 0
    raft.lead_transferee = target
    if progress.match == raft.log.last_index():
        _send_timeout_now(raft, target, at_once=True)
    else:
        try_send_append(raft, target, progress, send_if_empty=True)


def _send_timeout_now(raft: Raft, to: int, *, at_once: bool) -> None:
    if raft.trace is not None:
        raft.trace(TimeoutNowSent(raft.id, to, at_once))
    raft.messages.append(Message(MessageKind.TIMEOUT_NOW, to=to, from_=raft.id, term=raft.term))


def _read_index(raft: Raft, message: Message) -> None:
    """Answer with the commit index once it is certain that no later leader has committed more.

    Before the first commit of its own term a leader's commit index may lag behind what earlier
    leaders acknowledged (dissertation 6.4 step 1), even if it is the only voter.
    """
    if len(raft.pending_reads) + len(raft.postponed_reads) >= raft.config.max_pending_reads:
        if raft.trace is not None:
            raft.trace(ReadIgnored(raft.id, raft.term, "too many reads wait"))
        return
    if not raft.has_committed_in_term():
        raft.postponed_reads.append(message)
        return
    committed = raft.log.committed
    if raft.config.read_only is ReadOnlyMode.LEASE_BASED:
        _answer_read(raft, message, committed)
        return
    raft.pending_reads.add(message, committed)
    context = raft.pending_reads.heartbeat_context()
    raft.pending_reads.acknowledged(raft.id, context)
    if raft.configuration.voters.is_singleton:
        _release_confirmed_reads(raft)
    else:
        broadcast_heartbeat(raft)


def release_postponed_reads(raft: Raft) -> None:
    """Start the reads that waited for this term's first commit."""
    if raft.postponed_reads and raft.has_committed_in_term():
        postponed, raft.postponed_reads = raft.postponed_reads, []
        for message in postponed:
            _read_index(raft, message)


def _release_confirmed_reads(raft: Raft) -> None:
    reads = raft.pending_reads
    sequence = raft.configuration.voters.committed_index(reads.confirmed())
    for read in reads.release(sequence):
        _answer_read(raft, read.request, read.index)


def _answer_read(raft: Raft, request: Message, index: int) -> None:
    if request.from_ in (0, raft.id):
        raft.read_states.append(ReadState(index, request.context))
        return
    raft.messages.append(
        Message(
            MessageKind.READ_INDEX_RESP,
            to=request.from_,
            from_=raft.id,
            term=raft.term,
            index=index,
            context=request.context,
        )
    )


_HANDLERS = {
    MessageKind.PROP: _propose,
    MessageKind.BEAT: _beat,
    MessageKind.CHECK_QUORUM: _check_quorum,
    MessageKind.READ_INDEX: _read_index,
}

_FOLLOWER_HANDLERS = {
    MessageKind.APP_RESP: _append_answered,
    MessageKind.HEARTBEAT_RESP: _heartbeat_answered,
    MessageKind.SNAP_STATUS: _snapshot_reported,
    MessageKind.UNREACHABLE: _unreachable,
    MessageKind.TRANSFER_LEADER: _transfer,
}

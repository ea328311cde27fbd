"""What a follower does with messages of its own term."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dqlite_py.raft.config import ReadOnlyMode
from dqlite_py.raft.election import Campaign, start_election
from dqlite_py.raft.errors import ProposalDropped
from dqlite_py.raft.membership import restore_configuration
from dqlite_py.raft.messages import Message, MessageKind, ReadState, Role, Snapshot
from dqlite_py.raft.trace import (
    ForgetLeaderRefused,
    LeaderForgotten,
    ProposalIgnored,
    ReadIgnored,
    TimeoutNowReceived,
    TransferIgnored,
)
from dqlite_py.raft.trace_log import (
    AppendRejected,
    SnapshotAnswered,
    SnapshotFastForwarded,
    SnapshotRefused,
    SnapshotRestored,
)

if TYPE_CHECKING:
    from dqlite_py.raft.core import Raft

_APP_RESP = MessageKind.APP_RESP


def step_follower(raft: Raft, message: Message) -> None:
    """Handle a message of the current term; raises ProposalDropped for a proposal."""
    handler = _HANDLERS.get(message.kind)
    if handler is not None:
        handler(raft, message)


def handle_append(raft: Raft, message: Message) -> None:
    """Append what fits and acknowledge, after it is durable, exactly what matched.

    A refusal hints at the last position whose term could agree with the leader's, so that the
    leader skips a whole conflicting term at once.
    """
    log = raft.log
    answers = raft.messages_after_append
    if message.index < log.committed:
        # An old append: everything up to the commit index is known to match.
        answers.append(
            Message(_APP_RESP, to=message.from_, from_=raft.id, term=raft.term, index=log.committed)
        )
        return
    last = log.try_append(message.index, message.log_term, message.entries, message.commit)
    if last is not None:
        answers.append(
            Message(_APP_RESP, to=message.from_, from_=raft.id, term=raft.term, index=last)
        )
        return
    if raft.trace is not None:
        raft.trace(AppendRejected(raft.id, log.term_or_zero(message.index), message))
    hint, hint_term = log.find_conflict_by_term(
        min(message.index, log.last_index()), message.log_term
    )
    answers.append(
        Message(
            _APP_RESP,
            to=message.from_,
            from_=raft.id,
            term=raft.term,
            log_term=hint_term,
            index=message.index,
            reject=True,
            reject_hint=hint,
        )
    )


def handle_heartbeat(raft: Raft, message: Message) -> None:
    """Learn the commit index, and echo the context that confirms reads."""
    raft.log.commit_to(message.commit)
    raft.messages.append(
        Message(
            MessageKind.HEARTBEAT_RESP,
            to=message.from_,
            from_=raft.id,
            term=raft.term,
            context=message.context,
        )
    )


def handle_snapshot(raft: Raft, message: Message) -> None:
    """Take a snapshot that is ahead of the log; acknowledge after it has been installed."""
    snapshot = message.snapshot
    if snapshot is None:
        return
    restored = _restore(raft, snapshot)
    log = raft.log
    if raft.trace is not None:
        raft.trace(
            SnapshotAnswered(raft.id, log.committed, restored, snapshot.index, snapshot.term)
        )
    raft.messages_after_append.append(
        Message(
            _APP_RESP,
            to=message.from_,
            from_=raft.id,
            term=raft.term,
            index=log.last_index() if restored else log.committed,
        )
    )


def _restore(raft: Raft, snapshot: Snapshot) -> bool:
    """Replace log and configuration by ``snapshot`` unless the log already contains it."""
    log = raft.log
    if snapshot.index <= log.committed:
        return False
    if raft.role is not Role.FOLLOWER:
        if raft.trace is not None:
            raft.trace(SnapshotRefused(raft.id, "this member is not a follower"))
        raft.become_follower(raft.term + 1, 0)
        return False
    state = snapshot.conf_state
    if raft.id not in (*state.voters, *state.learners, *state.voters_outgoing):
        if raft.trace is not None:
            raft.trace(SnapshotRefused(raft.id, "this member is not in its configuration"))
        return False
    if log.matches(snapshot.index, snapshot.term):
        # Keeping the log keeps its later entries, which may already count for a quorum.
        if raft.trace is not None:
            raft.trace(SnapshotFastForwarded(*_restore_facts(raft, snapshot)))
        log.commit_to(snapshot.index)
        return False
    log.restore(snapshot)
    raft.restored_index = snapshot.index
    restore_configuration(raft, state)
    if raft.trace is not None:
        raft.trace(SnapshotRestored(*_restore_facts(raft, snapshot)))
    return True


def _restore_facts(raft: Raft, snapshot: Snapshot) -> tuple[int, int, int, int, int, int]:
    log = raft.log
    last_index, last_term = log.last_index(), log.last_term()
    return raft.id, log.committed, last_index, last_term, snapshot.index, snapshot.term


def _append_from_leader(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.leader_id = message.from_
    handle_append(raft, message)


def _heartbeat_from_leader(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.leader_id = message.from_
    handle_heartbeat(raft, message)


def _snapshot_from_leader(raft: Raft, message: Message) -> None:
    raft.election_elapsed = 0
    raft.leader_id = message.from_
    handle_snapshot(raft, message)


def _forward_proposal(raft: Raft, message: Message) -> None:
    if not raft.leader_id:
        reason = "no leader"
    elif raft.config.disable_proposal_forwarding:
        reason = f"not forwarding to leader {raft.leader_id}"
    else:
        raft.messages.append(replace(message, to=raft.leader_id, from_=raft.id))
        return
    if raft.trace is not None:
        raft.trace(ProposalIgnored(raft.id, raft.term, reason))
    raise ProposalDropped(reason)


def _forward_read(raft: Raft, message: Message) -> None:
    """Pass this member's own request to the leader; another's is dropped, it will ask again.

    The leader answers to the sender, and a sender can be authenticated only as itself.
    """
    reason = ""
    if message.from_ not in (0, raft.id):
        reason = f"not the leader that {message.from_} takes it for"
    elif not raft.leader_id:
        reason = "no leader"
    if reason:
        if raft.trace is not None:
            raft.trace(ReadIgnored(raft.id, raft.term, reason))
        return
    raft.messages.append(replace(message, to=raft.leader_id, from_=raft.id))


def _read_confirmed(raft: Raft, message: Message) -> None:
    raft.read_states.append(ReadState(message.index, message.context))


def _forward_transfer(raft: Raft, message: Message) -> None:
    if not raft.leader_id:
        if raft.trace is not None:
            raft.trace(TransferIgnored(raft.id, raft.term, message.from_, "no leader"))
        return
    raft.messages.append(replace(message, to=raft.leader_id, term=raft.term))


def _forget_leader(raft: Raft, _message: Message) -> None:
    if raft.config.read_only is ReadOnlyMode.LEASE_BASED:
        if raft.trace is not None:
            raft.trace(ForgetLeaderRefused())
        return
    if raft.leader_id:
        if raft.trace is not None:
            raft.trace(LeaderForgotten(raft.id, raft.leader_id, raft.term))
        raft.leader_id = 0


def _timeout_now(raft: Raft, message: Message) -> None:
    if raft.trace is not None:
        raft.trace(TimeoutNowReceived(raft.id, raft.term, message.from_, obeyed=True))
    # No pre-vote: the leader itself asked, and it is known to be up to date.
    start_election(raft, Campaign.TRANSFER)


_HANDLERS = {
    MessageKind.APP: _append_from_leader,
    MessageKind.HEARTBEAT: _heartbeat_from_leader,
    MessageKind.SNAP: _snapshot_from_leader,
    MessageKind.PROP: _forward_proposal,
    MessageKind.READ_INDEX: _forward_read,
    MessageKind.READ_INDEX_RESP: _read_confirmed,
    MessageKind.TRANSFER_LEADER: _forward_transfer,
    MessageKind.FORGET_LEADER: _forget_leader,
    MessageKind.TIMEOUT_NOW: _timeout_now,
}

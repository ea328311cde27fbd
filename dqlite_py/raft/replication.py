"""What a leader sends to bring its followers up to date, and when an entry is committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqlite_py.raft.errors import Compacted, InvariantBroken, SnapshotTemporarilyUnavailable
from dqlite_py.raft.messages import Entry, Message, MessageKind, payload_bytes
from dqlite_py.raft.progress import Progress, ProgressState
from dqlite_py.raft.trace_log import ReplicationPaused, SnapshotNotSent, SnapshotSent

if TYPE_CHECKING:
    from dqlite_py.raft.core import Raft

_APP = MessageKind.APP
_REPLICATE = ProgressState.REPLICATE


def try_send_append(raft: Raft, to: int, progress: Progress, *, send_if_empty: bool) -> bool:
    """Send one append, or a snapshot if the log no longer reaches back; tell whether it was sent.

    While the window of unacknowledged appends is full only empty ones go out, which let a
    follower that lost them all be noticed.
    """
    if progress.is_paused():
        return False
    log = raft.log
    previous = progress.next - 1
    entries: tuple[Entry, ...] = ()
    try:
        previous_term = log.term(previous)
        if progress.state is not _REPLICATE or not progress.inflights.is_full():
            entries = log.entries(progress.next, raft.config.max_size_per_message_bytes)
    except Compacted:
        return _try_send_snapshot(raft, to, progress)
    if not entries and not send_if_empty:
        return False
    raft.messages.append(
        Message(
            _APP,
            to=to,
            from_=raft.id,
            term=raft.term,
            log_term=previous_term,
            index=previous,
            entries=entries,
            commit=log.committed,
        )
    )
    progress.sent_entries(len(entries), payload_bytes(entries))
    progress.sent_commit = log.committed
    return True


def _try_send_snapshot(raft: Raft, to: int, progress: Progress) -> bool:
    trace = raft.trace
    if not progress.recent_active:
        if trace is not None:
            trace(SnapshotNotSent(raft.id, to, "it is not recently active"))
        return False
    try:
        snapshot = raft.log.snapshot()
    except SnapshotTemporarilyUnavailable:
        if trace is not None:
            trace(SnapshotNotSent(raft.id, to, "snapshot is temporarily unavailable"))
        return False
    if not snapshot.index:
        raise InvariantBroken("the log is compacted but storage has no snapshot")
    log = raft.log
    if trace is not None:
        first, text = log.first_index(), str(progress)
        trace(SnapshotSent(raft.id, first, log.committed, snapshot.index, snapshot.term, to, text))
    progress.become_snapshot(snapshot.index)
    if trace is not None:
        trace(ReplicationPaused(raft.id, to, str(progress)))
    raft.messages.append(
        Message(MessageKind.SNAP, to=to, from_=raft.id, term=raft.term, snapshot=snapshot)
    )
    return True


def broadcast_append(raft: Raft) -> None:
    """Send every follower that is not paused an append, empty if it has everything."""
    progress = raft.progress
    for peer in raft.peer_ids:
        try_send_append(raft, peer, progress[peer], send_if_empty=True)


def broadcast_heartbeat(raft: Raft) -> None:
    """Send every follower a heartbeat that also asks it to confirm waiting reads.

    The commit index sent never exceeds what the follower has acknowledged, because only up to
    there is its log known to match.
    """
    context = raft.pending_reads.heartbeat_context()
    for peer in raft.peer_ids:
        progress = raft.progress[peer]
        commit = min(progress.match, raft.log.committed)
        raft.messages.append(
            Message(
                MessageKind.HEARTBEAT,
                to=peer,
                from_=raft.id,
                term=raft.term,
                commit=commit,
                context=context,
            )
        )
        progress.sent_commit = commit


def try_commit(raft: Raft) -> bool:
    """Commit what a quorum holds, if that ends in this leader's own term.

    Entries of earlier terms are committed only together with one of the own term: a quorum that
    holds them could still be overruled (dissertation 3.6.2, figure 3.7).
    """
    progress = raft.progress
    voters = raft.configuration.voters
    log = raft.log
    if voters.outgoing.ids:
        index = voters.committed_index({member: each.match for member, each in progress.items()})
    else:
        ids = voters.incoming.ids
        if not ids:
            return False
        indexes = sorted([progress[member].match for member in ids])
        index = indexes[(len(indexes) - 1) // 2]
    if index <= log.committed or not log.matches(index, raft.term):
        return False
    log.commit_to(index)
    return True

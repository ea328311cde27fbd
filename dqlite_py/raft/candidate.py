"""What a candidate, and a pre-candidate, does with messages of its own term."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dqlite_py.raft.election import Campaign, count_vote, run_campaign
from dqlite_py.raft.errors import ProposalDropped
from dqlite_py.raft.follower import handle_append, handle_heartbeat, handle_snapshot
from dqlite_py.raft.messages import Message, MessageKind, Role
from dqlite_py.raft.quorum import VoteResult
from dqlite_py.raft.replication import broadcast_append
from dqlite_py.raft.trace import ProposalIgnored, TimeoutNowReceived

if TYPE_CHECKING:
    from dqlite_py.raft.core import Raft

_LEADER_MESSAGES = {
    MessageKind.APP: handle_append,
    MessageKind.HEARTBEAT: handle_heartbeat,
    MessageKind.SNAP: handle_snapshot,
}


def step_candidate(raft: Raft, message: Message) -> None:
    """Handle a message of the current term; raises ProposalDropped for a proposal."""
    kind = message.kind
    own_answer = (
        MessageKind.PRE_VOTE_RESP if raft.role is Role.PRE_CANDIDATE else MessageKind.VOTE_RESP
    )
    if kind == own_answer:
        _take_vote(raft, message)
    elif kind in _LEADER_MESSAGES:
        # Someone won this term: there is at most one leader, so follow it.
        raft.become_follower(message.term, message.from_)
        _LEADER_MESSAGES[kind](raft, message)
    elif kind == MessageKind.PROP:
        if raft.trace is not None:
            raft.trace(ProposalIgnored(raft.id, raft.term, "no leader"))
        raise ProposalDropped("no leader")
    elif kind == MessageKind.TIMEOUT_NOW and raft.trace is not None:
        raft.trace(TimeoutNowReceived(raft.id, raft.term, message.from_, obeyed=False))


def _take_vote(raft: Raft, message: Message) -> None:
    result = count_vote(raft, message)
    if result is VoteResult.WON:
        if raft.role is Role.PRE_CANDIDATE:
            run_campaign(raft, Campaign.ELECTION)
        else:
            raft.become_leader()
            broadcast_append(raft)
    elif result is VoteResult.LOST:
        # A refused pre-vote carries its sender's term, which step has already compared.
        raft.become_follower(raft.term, 0)

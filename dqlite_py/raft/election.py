"""Becoming leader: campaigns, votes and their pre-vote rehearsal (dissertation 3.4, 4.2.3, 9.6)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from dqlite_py.raft.messages import Message, MessageKind, Role
from dqlite_py.raft.quorum import VoteResult
from dqlite_py.raft.trace import (
    CampaignDelayed,
    CannotCampaign,
    ElectionIgnored,
    ElectionStarted,
    VoteAnswered,
    VoteReceived,
    VoteRequested,
    VotesCounted,
)

if TYPE_CHECKING:
    from dqlite_py.raft.core import Raft

TRANSFER_CONTEXT: Final = b"transfer"
"""In a vote request: the leader itself asked for this election and waives its lease."""


class Campaign(Enum):
    """Why and how a member campaigns."""

    PRE_ELECTION = "pre-election"
    ELECTION = "election"
    TRANSFER = "transfer"


def start_election(raft: Raft, campaign: Campaign) -> None:
    """Campaign if this member may: it votes, and has applied every committed membership change.

    A member that has not might count a quorum of an outdated configuration.
    """
    trace = raft.trace
    if raft.role is Role.LEADER:
        if trace is not None:
            trace(ElectionIgnored(raft.id))
        return
    if not raft.is_promotable():
        if trace is not None:
            trace(CannotCampaign(raft.id))
        return
    if raft.log.has_unapplied_conf_change():
        if trace is not None:
            trace(CampaignDelayed(raft.id, raft.term))
        return
    if trace is not None:
        trace(ElectionStarted(raft.id, raft.term))
    run_campaign(raft, campaign)


def run_campaign(raft: Raft, campaign: Campaign) -> None:
    """Ask every voter, including itself by way of its own storage, for a vote."""
    if campaign is Campaign.PRE_ELECTION:
        raft.become_pre_candidate()
        request, answer = MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_RESP
        term = raft.term + 1  # the term it would campaign in; its own stays
    else:
        raft.become_candidate()
        request, answer = MessageKind.VOTE, MessageKind.VOTE_RESP
        term = raft.term
    last_index, last_term = raft.log.last_index(), raft.log.last_term()
    context = TRANSFER_CONTEXT if campaign is Campaign.TRANSFER else b""
    for voter in sorted(raft.configuration.voters.ids):
        if voter == raft.id:
            # Counted only after the term and vote are durable.
            raft.messages_after_append.append(Message(answer, to=voter, from_=raft.id, term=term))
            continue
        if raft.trace is not None:
            raft.trace(VoteRequested(raft.id, last_term, last_index, request, voter, raft.term))
        raft.messages.append(
            Message(
                request,
                to=voter,
                from_=raft.id,
                term=term,
                log_term=last_term,
                index=last_index,
                context=context,
            )
        )


def answer_vote_request(raft: Raft, message: Message) -> None:
    """Grant a vote to one candidate a term whose log has everything this one has.

    A learner answers too: the candidate may know of its promotion before it does. The answer
    leaves only after the vote is durable.
    """
    log = raft.log
    is_pre_vote = message.kind == MessageKind.PRE_VOTE
    may_vote = (
        raft.vote == message.from_
        or (raft.vote == 0 and raft.leader_id == 0)
        or (is_pre_vote and message.term > raft.term)
    )
    granted = may_vote and log.is_up_to_date(message.index, message.log_term)
    if raft.trace is not None:
        raft.trace(
            VoteAnswered(
                raft.id, log.last_term(), log.last_index(), raft.vote, granted, message, raft.term
            )
        )
    # A granted pre-vote answers with the term asked about, a refusal with the own term, so that
    # an outdated candidate learns it.
    raft.messages_after_append.append(
        Message(
            MessageKind.PRE_VOTE_RESP if is_pre_vote else MessageKind.VOTE_RESP,
            to=message.from_,
            from_=raft.id,
            term=message.term if granted else raft.term,
            reject=not granted,
        )
    )
    if granted and not is_pre_vote:
        raft.election_elapsed = 0
        raft.vote = message.from_


def count_vote(raft: Raft, message: Message) -> VoteResult:
    """Record an answer, each member's first one only, and return where the election stands."""
    granted = not message.reject
    raft.votes.setdefault(message.from_, granted)
    voters = raft.configuration.voters
    if raft.trace is not None:
        event = VoteReceived(raft.id, message.kind, granted, message.from_, raft.term)
        raft.trace(event)
        counted = [vote for voter, vote in raft.votes.items() if voter in voters.ids]
        yes = sum(counted)
        raft.trace(VotesCounted(raft.id, message.kind, yes, len(counted) - yes))
    return voters.vote_result(raft.votes)

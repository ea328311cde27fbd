"""The state of one member, its roles, and the rules about terms that come before any role."""

from __future__ import annotations

from typing import Final

from dqlite_py.raft import membership
from dqlite_py.raft.candidate import step_candidate
from dqlite_py.raft.confchange import Configuration, ProgressMap
from dqlite_py.raft.config import Config
from dqlite_py.raft.election import (
    TRANSFER_CONTEXT,
    Campaign,
    answer_vote_request,
    start_election,
)
from dqlite_py.raft.errors import InvariantBroken
from dqlite_py.raft.follower import step_follower
from dqlite_py.raft.leader import append_entries, step_leader
from dqlite_py.raft.log import RaftLog
from dqlite_py.raft.messages import (
    Entry,
    HardState,
    Message,
    MessageKind,
    ReadState,
    Role,
    Snapshot,
    payload_bytes,
    size_bytes,
)
from dqlite_py.raft.progress import Inflights, Progress
from dqlite_py.raft.read_only import PendingReads
from dqlite_py.raft.trace import (
    HigherTermReceived,
    LowerTermIgnored,
    MemberStarted,
    RoleChanged,
    VoteAnswered,
    VoteIgnored,
)

_STEP: Final = {
    Role.FOLLOWER: step_follower,
    Role.CANDIDATE: step_candidate,
    Role.PRE_CANDIDATE: step_candidate,
    Role.LEADER: step_leader,
}


class Raft:
    """One member's consensus state; the functions of this package's role modules work on it.

    ``messages`` may be sent at once. ``messages_after_append`` promise something about this
    member's log, term or vote, and may be sent only after those are durable.
    """

    def __init__(self, config: Config) -> None:
        config.check()
        self.config = config
        self.id = config.id
        self.trace = config.trace
        self.log = RaftLog(config.storage, config.max_committed_bytes_per_ready, config.trace)
        self.configuration = Configuration()
        self.applied_configuration = Configuration()
        self.progress: ProgressMap = {}
        self.peer_ids: tuple[int, ...] = ()
        self.is_learner = False
        self.term = 0
        self.vote = 0
        self.role = Role.FOLLOWER
        self.leader_id = 0
        self.lead_transferee = 0
        self.term_start_index = 0
        self.restored_index = 0
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.votes: dict[int, bool] = {}
        self.pending_reads = PendingReads()
        self.postponed_reads: list[Message] = []
        self.read_states: list[ReadState] = []
        self.messages: list[Message] = []
        self.messages_after_append: list[Message] = []
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.randomized_election_timeout = 0
        self._load(config)

    def _load(self, config: Config) -> None:
        hard_state, conf_state = config.storage.initial_state()
        membership.restore_configuration(self, conf_state)
        self.applied_configuration = self.configuration
        log = self.log
        if hard_state != HardState():
            # The log may start after the stored commit index: entries are applied, and the log
            # trimmed behind them, without waiting for the commit index to reach the disk.
            log.commit_to(hard_state.commit)
            self.term, self.vote = hard_state.term, hard_state.vote
        if config.applied:
            log.applied_to(config.applied, 0)
        self.become_follower(self.term, 0)
        if self.trace is not None:
            peers = tuple(sorted(self.configuration.voters.ids))
            self.trace(
                MemberStarted(
                    self.id,
                    peers,
                    self.term,
                    log.committed,
                    log.applied,
                    log.last_index(),
                    log.last_term(),
                )
            )

    def is_promotable(self) -> bool:
        """Tell whether this member is a voter whose log is whole."""
        own = self.progress.get(self.id)
        return own is not None and not own.is_learner and not self.log.has_pending_snapshot()

    def has_committed_in_term(self) -> bool:
        """Tell whether the entry at the commit index is of the current term."""
        return self.log.term_or_zero(self.log.committed) == self.term

    def _reset(self, term: int) -> None:
        if self.term != term:
            self.term = term
            self.vote = 0
        self.leader_id = 0
        self.lead_transferee = 0
        self.term_start_index = 0
        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self._draw_election_timeout()
        self.votes = {}
        self.pending_conf_index = 0
        self.uncommitted_bytes = 0
        self.pending_reads = PendingReads()
        self.postponed_reads = []
        config, last = self.config, self.log.last_index()
        for member, old in self.progress.items():
            inflights = Inflights(config.max_inflight_messages, config.max_inflight_bytes)
            fresh = Progress(0, last + 1, inflights, is_learner=old.is_learner)
            if member == self.id:
                fresh.match = last
            self.progress[member] = fresh

    def _draw_election_timeout(self) -> None:
        """Spread elections so that votes are rarely split (dissertation 3.4)."""
        tick = self.config.election_tick
        self.randomized_election_timeout = self.config.random.randrange(tick, 2 * tick)

    def _enter(self, role: Role) -> None:
        self.role = role
        if self.trace is not None:
            self.trace(RoleChanged(self.id, role, self.term))

    def become_follower(self, term: int, leader_id: int) -> None:
        """Follow ``leader_id`` (0: unknown) in ``term``."""
        self._reset(term)
        self.leader_id = leader_id
        self._enter(Role.FOLLOWER)

    def become_candidate(self) -> None:
        """Start a new term with a vote for itself."""
        if self.role is Role.LEADER:
            raise InvariantBroken("a leader cannot become candidate")
        self._reset(self.term + 1)
        self.vote = self.id
        self._enter(Role.CANDIDATE)

    def become_pre_candidate(self) -> None:
        """Ask whether an election could be won; term and vote stay."""
        if self.role is Role.LEADER:
            raise InvariantBroken("a leader cannot become pre-candidate")
        self.votes = {}
        self.leader_id = 0
        self._enter(Role.PRE_CANDIDATE)

    def become_leader(self) -> None:
        """Lead the current term, beginning with an empty entry (dissertation 6.4).

        Membership changes are refused until everything before that entry has been applied, since
        there may be one among it.
        """
        if self.role is Role.FOLLOWER:
            raise InvariantBroken("a follower cannot become leader")
        self._reset(self.term)
        self.leader_id = self.id
        self.role = Role.LEADER
        own = self.progress[self.id]
        own.become_replicate()
        own.recent_active = True
        self.pending_conf_index = self.log.last_index()
        self.term_start_index = self.log.last_index() + 1
        append_entries(self, (Entry(0, 0),))
        self._enter(Role.LEADER)

    def tick(self) -> None:
        """Let one unit of time pass."""
        self.election_elapsed += 1
        if self.role is Role.LEADER:
            self._tick_leader()
        elif self.election_elapsed >= self.randomized_election_timeout and self.is_promotable():
            self.election_elapsed = 0
            self.step(Message(MessageKind.HUP, from_=self.id))

    def _tick_leader(self) -> None:
        self.heartbeat_elapsed += 1
        if self.election_elapsed >= self.config.election_tick:
            self.election_elapsed = 0
            if self.config.check_quorum:
                self.step(Message(MessageKind.CHECK_QUORUM, from_=self.id))
            # A transfer that takes this long has failed; proposals are accepted again.
            self.lead_transferee = 0
            membership.leave_joint_if_due(self)
        if self.role is Role.LEADER and self.heartbeat_elapsed >= self.config.heartbeat_tick:
            self.heartbeat_elapsed = 0
            self.step(Message(MessageKind.BEAT, from_=self.id))

    def step(self, message: Message) -> None:
        """Handle one message; raises ProposalDropped for a proposal that has no effect.

        Order: rules about terms first (dissertation 3.3), then what every role does alike, then
        the role. Messages with term 0 come from this process or are judged by the leader.
        """
        term = message.term
        if term and term != self.term:
            if term < self.term:
                self._handle_lower_term(message)
                return
            if not self._accept_higher_term(message):
                return
        kind = message.kind
        common = _COMMON.get(kind)
        if common is not None:
            common(self, message)
        else:
            _STEP[self.role](self, message)

    def _accept_higher_term(self, message: Message) -> bool:
        """Take over a later term; return False if the message must have no effect."""
        kind = message.kind
        is_vote = kind in (MessageKind.VOTE, MessageKind.PRE_VOTE)
        if is_vote and self._is_in_lease() and message.context != TRANSFER_CONTEXT:
            # Someone removed or partitioned must not disturb a working leader (4.2.3).
            if self.trace is not None:
                self._trace_vote_ignored(message)
            return False
        if kind == MessageKind.PRE_VOTE:
            return True  # a rehearsal changes no term
        if kind == MessageKind.PRE_VOTE_RESP and not message.reject:
            return True  # it carries the term this member asked about
        if self.trace is not None:
            self.trace(HigherTermReceived(self.id, self.term, message))
        from_leader = kind in (MessageKind.APP, MessageKind.HEARTBEAT, MessageKind.SNAP)
        self.become_follower(message.term, message.from_ if from_leader else 0)
        return True

    def _is_in_lease(self) -> bool:
        return (
            self.config.check_quorum
            and self.leader_id != 0
            and self.election_elapsed < self.config.election_tick
        )

    def _trace_vote_ignored(self, message: Message) -> None:
        if self.trace is None:
            return
        log = self.log
        remaining = self.config.election_tick - self.election_elapsed
        last_term, last_index = log.last_term(), log.last_index()
        self.trace(
            VoteIgnored(self.id, last_term, last_index, self.vote, message, self.term, remaining)
        )

    def _handle_lower_term(self, message: Message) -> None:
        """Ignore a message of an earlier term, or tell its sender about the current one."""
        kind, config = message.kind, self.config
        answer = MessageKind.APP_RESP
        if kind in (MessageKind.HEARTBEAT, MessageKind.APP):
            # With pre-vote or check-quorum a member of a later term never calls an election that
            # would tell an older leader: answer so that the leader steps down instead of this
            # member staying cut off.
            if config.check_quorum or config.pre_vote:
                self.messages_after_append.append(
                    Message(answer, to=message.from_, from_=self.id, term=self.term)
                )
                return
        elif kind == MessageKind.PRE_VOTE:
            self._refuse_old_pre_vote(message)
            return
        elif kind == MessageKind.STORAGE_APPEND_RESP:
            # Writes of a later term may be under way for the same indexes, so only the snapshot,
            # which is committed whatever the term, counts.
            if message.index and self.trace is not None:
                self.trace(LowerTermIgnored(self.id, self.term, message))
            if message.snapshot is not None:
                self._applied_snapshot(message.snapshot)
            return
        if self.trace is not None:
            self.trace(LowerTermIgnored(self.id, self.term, message))

    def _refuse_old_pre_vote(self, message: Message) -> None:
        log = self.log
        if self.trace is not None:
            last_term, last_index = log.last_term(), log.last_index()
            self.trace(
                VoteAnswered(self.id, last_term, last_index, self.vote, False, message, self.term)
            )
        self.messages_after_append.append(
            Message(
                MessageKind.PRE_VOTE_RESP,
                to=message.from_,
                from_=self.id,
                term=self.term,
                reject=True,
            )
        )

    def _campaign(self, _message: Message) -> None:
        campaign = Campaign.PRE_ELECTION if self.config.pre_vote else Campaign.ELECTION
        start_election(self, campaign)

    def _appended(self, message: Message) -> None:
        if message.index:
            self.log.unstable.stable_to(message.index, message.log_term)
        if message.snapshot is not None:
            self._applied_snapshot(message.snapshot)

    def _applied(self, message: Message) -> None:
        entries = message.entries
        if entries:
            self.applied_to(entries[-1].index, size_bytes(entries))
            self.uncommitted_bytes = max(0, self.uncommitted_bytes - payload_bytes(entries))

    def _applied_snapshot(self, snapshot: Snapshot) -> None:
        self.log.unstable.stable_snapshot_to(snapshot.index)
        if not self.log.has_pending_snapshot():
            self.applied_configuration = Configuration.from_conf_state(snapshot.conf_state)
        self.applied_to(snapshot.index, 0)

    def applied_to(self, index: int, done_bytes: int) -> None:
        """Note that the application has applied up to ``index``."""
        self.log.applied_to(max(index, self.log.applied), done_bytes)
        if self.configuration.auto_leave:
            membership.leave_joint_if_due(self)

    COMMON_HANDLERS: Final = {
        MessageKind.HUP: _campaign,
        MessageKind.VOTE: answer_vote_request,
        MessageKind.PRE_VOTE: answer_vote_request,
        MessageKind.STORAGE_APPEND_RESP: _appended,
        MessageKind.STORAGE_APPLY_RESP: _applied,
    }


_COMMON: Final = Raft.COMMON_HANDLERS

"""The door to the core: feed it time, messages and proposals; take out work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dqlite_py.raft import ready as work
from dqlite_py.raft.changes import ConfChange, ConfChangeV2, as_v2, encode_conf_change
from dqlite_py.raft.config import Config
from dqlite_py.raft.core import Raft
from dqlite_py.raft.errors import InvariantBroken, LocalMessage, PeerNotFound
from dqlite_py.raft.membership import apply_conf_change
from dqlite_py.raft.messages import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    LOCAL_KINDS,
    RESPONSE_KINDS,
    TERMED_KINDS,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    Role,
    SoftState,
)
from dqlite_py.raft.progress import Progress
from dqlite_py.raft.ready import Ready

_NORMAL = EntryKind.NORMAL


class RawNode:
    """One Raft member. Single-threaded; performs no I/O; knows no clock but ``tick``."""

    def __init__(self, config: Config) -> None:
        self._raft = raft = Raft(config)
        self._async = config.async_storage_writes
        self._soft_state = (raft.leader_id, raft.role)
        self._hard_state = (raft.term, raft.vote, raft.log.committed)
        self._steps_on_advance: list[Message] = []
        self._outstanding: Ready | None = None

    @property
    def raft(self) -> Raft:
        """The core itself, for inspection; change it only through this class."""
        return self._raft

    @property
    def term(self) -> int:
        """The current term."""
        return self._raft.term

    @property
    def vote(self) -> int:
        """The member voted for in this term, 0 if none."""
        return self._raft.vote

    @property
    def role(self) -> Role:
        """The present role."""
        return self._raft.role

    @property
    def leader_id(self) -> int:
        """The leader of this term if known, else 0."""
        return self._raft.leader_id

    @property
    def lead_transferee(self) -> int:
        """The member that leadership is being handed to, 0 if none; proposals are dropped then."""
        return self._raft.lead_transferee

    @property
    def is_learner(self) -> bool:
        """Whether this member replicates without voting."""
        return self._raft.is_learner

    @property
    def commit(self) -> int:
        """The last index known to be committed."""
        return self._raft.log.committed

    @property
    def applied(self) -> int:
        """The last index reported applied."""
        return self._raft.log.applied

    @property
    def last_index(self) -> int:
        """The last index of the log, durable or not.

        Right after ``propose`` of n entries as leader these have indexes ``last_index - n + 1``
        and following, all of ``term``.
        """
        return self._raft.log.last_index()

    @property
    def term_start_index(self) -> int:
        """As leader, the index of the empty entry that began its term; otherwise 0."""
        return self._raft.term_start_index

    @property
    def has_pending_conf_change(self) -> bool:
        """Whether, as leader, the log may hold a membership change that is not applied yet.

        While it does, another one would be replaced by an empty entry.
        """
        raft = self._raft
        return raft.role is Role.LEADER and raft.pending_conf_index > raft.log.applied

    @property
    def progress(self) -> Mapping[int, Progress]:
        """What is known about each member; current only on the leader. Do not change it."""
        return self._raft.progress

    @property
    def conf_state(self) -> ConfState:
        """The applied membership configuration."""
        return self._raft.configuration.conf_state()

    @property
    def has_unstable_snapshot(self) -> bool:
        """Whether a received snapshot was taken over and is not yet reported stable."""
        return self._raft.log.unstable.snapshot is not None

    def tick(self) -> None:
        """Let one unit of time pass."""
        self._raft.tick()

    def campaign(self) -> None:
        """Start an election now, if this member may."""
        self._raft.step(Message(MessageKind.HUP))

    def propose(self, datas: Sequence[bytes]) -> None:
        """Propose one entry for each of ``datas``, all or none, in this order.

        On the leader they are appended before this returns; on a follower they are forwarded and
        may be lost. Raises ProposalDropped if they certainly have no effect.
        """
        entries = tuple([Entry(0, 0, _NORMAL, data) for data in datas])
        raft = self._raft
        raft.step(Message(MessageKind.PROP, from_=raft.id, entries=entries))

    def propose_conf_change(self, change: ConfChange | ConfChangeV2) -> None:
        """Propose a membership change; it takes effect by ``apply_conf_change`` once committed.

        If another one may be unapplied, or it does not fit a joint configuration, an empty entry
        is appended instead. Raises ProposalDropped if nothing was appended.
        """
        kind, data = encode_conf_change(change)
        raft = self._raft
        entry = Entry(0, 0, kind, data)
        raft.step(Message(MessageKind.PROP, from_=raft.id, entries=(entry,)))

    def apply_conf_change(self, change: ConfChange | ConfChangeV2, index: int = 0) -> ConfState:
        """Put a committed membership change into effect and return the configuration after it.

        Must be called for every committed membership entry, in order, before it is reported
        applied, with the entry's ``index``: a snapshot received while older entries are still
        being applied has already brought a later configuration, which those must not change.
        Raises InvalidConfChange if it does not fit; the configuration is then unchanged.
        """
        return apply_conf_change(self._raft, as_v2(change), index)

    def step(self, message: Message) -> None:
        """Handle a message from another member or from this member's storage.

        Raises LocalMessage for what must not come from another member (a local kind, or term 0
        where every member sends its term), PeerNotFound for an
        answer from outside the configuration, ProposalDropped for a forwarded proposal without
        effect, InvariantBroken if continuing would be unsafe.
        """
        kind, sender, raft = message.kind, message.from_, self._raft
        if sender not in (LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD):
            if kind in LOCAL_KINDS or (not message.term and kind in TERMED_KINDS):
                name = MessageKind(kind).name
                raise LocalMessage(f"{name} of term {message.term} from {sender}")
            if kind in RESPONSE_KINDS and sender not in raft.progress and sender != raft.id:
                raise PeerNotFound(f"{sender} is not in the configuration")
        raft.step(message)

    def read_index(self, context: bytes) -> None:
        """Ask for a linearizable read point; a ReadState with ``context`` may follow.

        It may also be lost, like any message, or be answered twice: choose a new ``context`` for
        each attempt. Source: Raft dissertation section 6.4.
        """
        raft = self._raft
        raft.step(Message(MessageKind.READ_INDEX, from_=raft.id, context=context))

    def report_unreachable(self, member_id: int) -> None:
        """Tell that the latest messages to ``member_id`` were not delivered."""
        self._raft.step(Message(MessageKind.UNREACHABLE, from_=member_id))

    def report_snapshot(self, member_id: int, ok: bool) -> None:
        """Tell how sending a snapshot to ``member_id`` ended; until then it gets nothing else."""
        self._raft.step(Message(MessageKind.SNAP_STATUS, from_=member_id, reject=not ok))

    def transfer_leader(self, member_id: int) -> None:
        """Ask the leader to hand over to ``member_id``; given up after an election timeout."""
        self._raft.step(Message(MessageKind.TRANSFER_LEADER, from_=member_id))

    def forget_leader(self) -> None:
        """As follower, forget the leader, so that pre-votes for others can be granted at once."""
        self._raft.step(Message(MessageKind.FORGET_LEADER))

    def has_ready(self) -> bool:
        """Tell whether ``ready`` would return any work."""
        raft = self._raft
        log = raft.log
        return bool(
            raft.messages
            or raft.messages_after_append
            or log.unstable.has_next_entries()
            or log.has_next_committed(not self._async)
            or self._soft_state != (raft.leader_id, raft.role)
            or self._hard_state != (raft.term, raft.vote, log.committed)
            or log.unstable.next_snapshot() is not None
            or raft.read_states
        )

    def ready(self) -> Ready:
        """Return the work to do next; the core regards it as begun.

        With synchronous storage ``advance`` must follow before the next call.
        """
        raft = self._raft
        log = raft.log
        entries = log.unstable.next_entries()
        snapshot = log.unstable.next_snapshot()
        allow_unstable = not self._async
        committed = log.next_committed(allow_unstable)
        soft_state = self._take_soft_state()
        hard_state, must_sync = self._take_hard_state()
        must_sync = must_sync or bool(entries)
        messages = raft.messages
        if self._async:
            if entries or hard_state or snapshot or raft.messages_after_append:
                messages.append(work.storage_append(raft, entries, hard_state, snapshot))
            if committed:
                messages.append(work.storage_apply(raft, committed))
        else:
            self._plan_advance(messages, committed, work.storage_append_response(raft, snapshot))
        reads = tuple(raft.read_states)
        if reads:
            raft.read_states = []
        raft.messages = []
        raft.messages_after_append = []
        log.unstable.accept_in_progress()
        if committed:
            log.accept_applying(committed, allow_unstable)
        ready = Ready(
            soft_state,
            hard_state,
            reads,
            entries,
            snapshot,
            committed,
            tuple(messages),
            must_sync,
        )
        if not self._async:
            self._outstanding = ready
        return ready

    def _take_soft_state(self) -> SoftState | None:
        raft = self._raft
        soft_state = (raft.leader_id, raft.role)
        if soft_state == self._soft_state:
            return None
        self._soft_state = soft_state
        return SoftState(*soft_state)

    def _take_hard_state(self) -> tuple[HardState | None, bool]:
        """Return the hard state if it changed, and whether it must be durable before answers.

        A commit index may be lost: it is learned again.
        """
        raft = self._raft
        new, old = (raft.term, raft.vote, raft.log.committed), self._hard_state
        if new == old:
            return None, False
        self._hard_state = new
        return HardState(*new), new[:2] != old[:2]

    def _plan_advance(
        self,
        messages: list[Message],
        committed: tuple[Entry, ...],
        append_response: Message | None,
    ) -> None:
        """Send what promises durability, but keep what is for this member until ``advance``."""
        if self._outstanding is not None:
            raise InvariantBroken("ready called twice without advance")
        raft = self._raft
        steps = self._steps_on_advance
        for message in raft.messages_after_append:
            (steps if message.to == raft.id else messages).append(message)
        if append_response is not None:
            steps.append(append_response)
        if committed:
            steps.append(work.storage_apply_response(raft, committed))

    def advance(self, ready: Ready) -> None:
        """Tell that all work of ``ready`` is durable, respectively applied.

        Raises InvariantBroken unless ``ready`` is what the last call returned, or with
        asynchronous storage, which reports by messages.
        """
        if ready is not self._outstanding:
            raise InvariantBroken("advance does not follow its ready")
        self._outstanding = None
        steps, self._steps_on_advance = self._steps_on_advance, []
        for message in steps:
            self._raft.step(message)

"""Several Raft members in one process, driven by transcript directives."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from dqlite_py.raft import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    NO_LIMIT,
    ConfChange,
    ConfChangeKind,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeV2,
    Config,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    MemoryStorage,
    Message,
    MessageKind,
    PeerNotFound,
    ProposalDropped,
    RawNode,
    ReadOnlyMode,
    Role,
    Snapshot,
    decode_conf_change,
)
from dqlite_py.raft.trace import TraceEvent
from tests.kit import raft_render as render
from tests.kit.datadriven import Directive

_LEVELS = ("debug", "info", "warn", "error", "none")
_KINDS = {"v": "ADD_NODE", "l": "ADD_LEARNER_NODE", "r": "REMOVE_NODE", "u": "UPDATE_NODE"}
_TRANSITIONS = {
    "auto": ConfChangeTransition.AUTO,
    "implicit": ConfChangeTransition.JOINT_IMPLICIT,
    "explicit": ConfChangeTransition.JOINT_EXPLICIT,
}
_ELECTION_TICK, _HEARTBEAT_TICK = 3, 1


def parse_changes(text: str) -> tuple[ConfChangeSingle, ...]:
    return tuple(
        ConfChangeSingle(ConfChangeKind[_KINDS[word[0]]], int(word[1:])) for word in text.split()
    )


class HistoryStorage(MemoryStorage):
    """Offers the state after the latest applied entry as its snapshot."""

    def __init__(self, first: Snapshot) -> None:
        super().__init__()
        self.history = [first]
        if first.index:
            self.apply_snapshot(first)

    def snapshot(self) -> Snapshot:
        return self.history[-1]


@dataclass
class Member:
    node: RawNode
    storage: HistoryStorage
    is_async: bool
    append_work: list[Message] = field(default_factory=list)
    apply_work: list[Message] = field(default_factory=list)


class Environment:
    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.messages: list[Message] = []
        self._level = 0
        self._lines: list[str] = []
        self._indent = ""

    def handle(self, directive: Directive) -> str:
        self._lines = []
        handler = getattr(self, "_do_" + directive.command.replace("-", "_"))
        try:
            handler(directive)
        except ProposalDropped:
            self._write("raft proposal dropped")
        if not self._lines or self._level == _LEVELS.index("none"):
            return "ok"
        return "\n".join(self._lines)

    def _write(self, text: str) -> None:
        self._lines += [self._indent + line for line in text.split("\n")]

    def _trace(self, event: TraceEvent) -> None:
        level, text = render.event(event)
        if level and _LEVELS.index(level.lower()) >= self._level:
            self._write(f"{level} {text}")

    @contextmanager
    def _indented(self, header: str) -> Iterator[None]:
        self._write(header)
        outer, self._indent = self._indent, self._indent + "  "
        try:
            yield
        finally:
            self._indent = outer

    def _first(self, directive: Directive) -> Member:
        return self.members[int(directive.positional[0])]

    # Set-up

    def _do_log_level(self, directive: Directive) -> None:
        self._level = _LEVELS.index(directive.positional[0])

    def _do_add_nodes(self, directive: Directive) -> None:
        index = int(directive.one("index", "0"))
        state = ConfState(directive.numbers("voters"), learners=directive.numbers("learners"))
        for _ in range(int(directive.positional[0])):
            self._add_node(directive, Snapshot(index, 1 if index else 0, state))

    def _add_node(self, directive: Directive, first: Snapshot) -> None:
        member_id = len(self.members) + 1
        storage = HistoryStorage(first)
        is_async = directive.flag("async-storage-writes")
        lease = directive.one("read-only") == "lease-based"
        config = Config(
            id=member_id,
            storage=storage,
            random=random.Random(member_id),
            election_tick=_ELECTION_TICK,
            heartbeat_tick=_HEARTBEAT_TICK,
            applied=first.index,
            async_storage_writes=is_async,
            max_size_per_message_bytes=NO_LIMIT,
            max_committed_bytes_per_ready=int(
                directive.one("max-committed-size-per-ready", str(NO_LIMIT))
            ),
            max_inflight_messages=int(directive.one("inflight", str(1 << 31))),
            check_quorum=directive.flag("checkquorum"),
            pre_vote=directive.flag("prevote"),
            read_only=ReadOnlyMode.LEASE_BASED if lease else ReadOnlyMode.SAFE,
            disable_conf_change_validation=directive.flag("disable-conf-change-validation"),
            step_down_on_removal=directive.flag("step-down-on-removal"),
            trace=self._trace,
        )
        self.members[member_id] = Member(RawNode(config), storage, is_async)

    # Input

    def _do_campaign(self, directive: Directive) -> None:
        self._first(directive).node.campaign()

    def _do_propose(self, directive: Directive) -> None:
        self._first(directive).node.propose([directive.positional[1].encode()])

    def _do_propose_conf_change(self, directive: Directive) -> None:
        changes = parse_changes(directive.input)
        change: ConfChange | ConfChangeV2
        if directive.flag("v1"):
            (step,) = changes
            change = ConfChange(step.kind, step.node_id)
        else:
            change = ConfChangeV2(_TRANSITIONS[directive.one("transition", "auto")], changes)
        self._first(directive).node.propose_conf_change(change)

    def _do_transfer_leadership(self, directive: Directive) -> None:
        source = self.members[int(directive.one("from"))]
        source.node.transfer_leader(int(directive.one("to")))

    def _do_forget_leader(self, directive: Directive) -> None:
        self._first(directive).node.forget_leader()

    def _do_report_unreachable(self, directive: Directive) -> None:
        self._first(directive).node.report_unreachable(int(directive.positional[1]))

    def _do_send_snapshot(self, directive: Directive) -> None:
        source, to = (int(word) for word in directive.positional)
        member = self.members[source]
        message = Message(
            MessageKind.SNAP,
            to=to,
            from_=source,
            term=member.node.term,
            snapshot=member.storage.snapshot(),
        )
        self.messages.append(message)
        self._write(render.message(message))

    def _do_tick_election(self, directive: Directive) -> None:
        for _ in range(_ELECTION_TICK):
            self._first(directive).node.tick()

    def _do_tick_heartbeat(self, directive: Directive) -> None:
        for _ in range(_HEARTBEAT_TICK):
            self._first(directive).node.tick()

    def _do_set_randomized_election_timeout(self, directive: Directive) -> None:
        raft = self._first(directive).node.raft
        raft.randomized_election_timeout = int(directive.one("timeout"))

    def _do_compact(self, directive: Directive) -> None:
        self._first(directive).storage.compact(int(directive.positional[1]))
        self._do_raft_log(directive)

    # Inspection

    def _do_raft_log(self, directive: Directive) -> None:
        storage = self._first(directive).storage
        first, last = storage.first_index(), storage.last_index()
        if last < first:
            self._write(f"log is empty: first index={first}, last index={last}")
            return
        for entry in storage.entries(first, last + 1, NO_LIMIT):
            self._write(render.entry(entry))

    def _do_raft_state(self, _directive: Directive) -> None:
        for member_id, member in self.members.items():
            node = member.node
            state = node.conf_state
            voter = member_id in (*state.voters, *state.voters_outgoing)
            self._write(
                f"{member_id}: {render.ROLE_NAMES[node.role]} "
                f"({'Voter' if voter else 'Non-Voter'}) "
                f"Term:{node.term} Lead:{node.leader_id}"
            )

    def _do_status(self, directive: Directive) -> None:
        node = self._first(directive).node
        if node.role is Role.LEADER:
            for member_id, progress in sorted(node.progress.items()):
                self._write(f"{member_id}: {progress}")

    # Work

    def _each(self, directive: Directive, what: str, work: Callable[[Member], None]) -> None:
        for word in directive.positional:
            if len(directive.positional) == 1:
                work(self.members[int(word)])
                continue
            with self._indented(f"> {word} {what}"):
                work(self.members[int(word)])

    def _do_process_ready(self, directive: Directive) -> None:
        self._each(directive, "handling Ready", self._process_ready)

    def _do_process_append_thread(self, directive: Directive) -> None:
        self._each(directive, "processing append thread", self._process_append_thread)

    def _do_process_apply_thread(self, directive: Directive) -> None:
        self._each(directive, "processing apply thread", self._process_apply_thread)

    def _process_ready(self, member: Member) -> None:
        ready = member.node.ready()
        self._write(render.ready(ready))
        if member.is_async:
            for message in ready.messages:
                if message.to == LOCAL_APPEND_THREAD:
                    member.append_work.append(message)
                elif message.to == LOCAL_APPLY_THREAD:
                    member.apply_work.append(message)
                else:
                    self.messages.append(message)
            return
        self._append(member, ready.hard_state, ready.entries, ready.snapshot)
        self._apply(member, ready.committed_entries)
        self.messages += ready.messages
        member.node.advance(ready)

    def _append(
        self,
        member: Member,
        hard_state: HardState | None,
        entries: Sequence[Entry],
        snapshot: Snapshot | None,
    ) -> None:
        storage = member.storage
        if hard_state is not None:
            storage.set_hard_state(hard_state)
        if snapshot is not None:
            storage.apply_snapshot(snapshot)
            storage.history.append(snapshot)
        storage.append(entries)

    def _apply(self, member: Member, entries: Sequence[Entry]) -> None:
        """Run a state machine whose state is the concatenation of all entries."""
        history = member.storage.history
        for entry in entries:
            before = history[-1]
            state, update = before.conf_state, entry.data
            if entry.kind != EntryKind.NORMAL:
                change = decode_conf_change(entry)
                state, update = member.node.apply_conf_change(change), change.context
            history.append(Snapshot(entry.index, entry.term, state, before.data + update))

    def _process_append_thread(self, member: Member) -> None:
        if not member.append_work:
            self._write("no append work to perform")
            return
        message = member.append_work.pop(0)
        self._write("Processing:")
        self._write(render.message(message).split(" Responses:[")[0])
        self._append(member, message.hard_state, message.entries, message.snapshot)
        self._respond(message)

    def _process_apply_thread(self, member: Member) -> None:
        if not member.apply_work:
            self._write("no apply work to perform")
            return
        message = member.apply_work.pop(0)
        self._write("Processing:")
        self._write(render.message(message).split(" Responses:[")[0])
        self._apply(member, message.entries)
        self._respond(message)

    def _respond(self, message: Message) -> None:
        self._write("Responses:")
        for response in message.responses:
            self._write(render.message(response))
        self.messages += message.responses

    def _do_deliver_msgs(self, directive: Directive) -> None:
        kind = directive.one("type")
        delivered = 0
        for word in directive.positional:
            delivered += self._deliver(int(word), kind, drop=False)
        for member_id in directive.numbers("drop"):
            delivered += self._deliver(member_id, kind, drop=True)
        if not delivered:
            self._write("no messages")

    def _take(self, member_id: int, kind: str, *, drop: bool) -> list[Message]:
        taken, left = [], []
        for message in self.messages:
            is_local = message.from_ in (message.to, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD)
            matches = message.to == member_id and kind in ("", render.KIND_NAMES[message.kind])
            (taken if matches and not (drop and is_local) else left).append(message)
        self.messages = left
        return taken

    def _deliver(self, member_id: int, kind: str, *, drop: bool) -> int:
        messages = self._take(member_id, kind, drop=drop)
        for message in messages:
            self._write(("dropped: " if drop else "") + render.message(message))
            if drop:
                continue
            try:
                self.members[member_id].node.step(message)
            except PeerNotFound:
                self._write("raft: cannot step as peer not found")
            except ProposalDropped:
                self._write("raft proposal dropped")
        return len(messages)

    def _do_stabilize(self, directive: Directive) -> None:
        outer = self._level
        if directive.one("log-level"):
            self._level = _LEVELS.index(directive.one("log-level"))
        chosen = [int(word) for word in directive.positional] or list(self.members)
        while self._stabilize_once(chosen):
            pass
        if self._level == _LEVELS.index("none"):
            self._lines = []
        self._level = outer

    def _stabilize_once(self, chosen: list[int]) -> bool:
        worked = False
        for member_id in chosen:
            member = self.members[member_id]
            if member.node.has_ready():
                worked = True
                with self._indented(f"> {member_id} handling Ready"):
                    self._process_ready(member)
        for member_id in chosen:
            if any(message.to == member_id for message in self.messages):
                worked = True
                with self._indented(f"> {member_id} receiving messages"):
                    self._deliver(member_id, "", drop=False)
        for what, name in (("append", "append_work"), ("apply", "apply_work")):
            process = getattr(self, f"_process_{what}_thread")
            for member_id in chosen:
                member = self.members[member_id]
                if getattr(member, name):
                    worked = True
                    with self._indented(f"> {member_id} processing {what} thread"):
                        while getattr(member, name):
                            process(member)
        return worked

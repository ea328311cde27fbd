"""Raft members on a hostile network and with crashes, all chosen by one seed.

After every step the safety properties of Raft are checked (dissertation figure 3.2): one leader a
term, matching logs, complete leaders, equal state machines; and that no read point is stale.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from dqlite_py.raft import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
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
    Message,
    PeerNotFound,
    ProgressState,
    ProposalDropped,
    RawNode,
    Role,
    Snapshot,
    decode_conf_change,
)
from tests.kit.raft_simulated_member import SimulatedMember, SimulatedStorage

_MAX_IN_NETWORK = 400


class Simulation:
    """``members`` of which the first ``voters`` vote at first; membership then changes freely."""

    def __init__(self, seed: int, *, members: int = 5, voters: int = 3) -> None:
        self.random = random.Random(seed)
        self.network: list[Message] = []
        self.partition: dict[int, int] = {}
        self.leaders: dict[int, int] = {}
        self.committed: dict[int, tuple[int, bytes]] = {1: (1, b"")}
        self.digests: dict[int, int] = {1: 0}
        self.written: dict[tuple[int, int], tuple[bytes, int]] = {}
        self.highest_commit = 1
        self.count: Counter[str] = Counter()
        self._proposed = 0
        self._settings = {
            "check_quorum": self.random.random() < 0.5,
            "pre_vote": self.random.random() < 0.5,
            "step_down_on_removal": self.random.random() < 0.5,
            "max_size_per_message_bytes": self.random.choice((1, 60, 1 << 20)),
            "max_inflight_messages": self.random.choice((1, 3, 256)),
            "max_committed_bytes_per_ready": self.random.choice((1, 100, 1 << 20)),
        }
        first = ConfState(tuple(range(1, voters + 1)))
        self.members: dict[int, SimulatedMember] = {}
        for member in range(1, members + 1):
            storage = SimulatedStorage()
            if member <= voters:
                storage.apply_snapshot(Snapshot(1, 1, first, b"0"))
                storage.set_hard_state(HardState(1, 0, 1))
            self._start(member, storage)
        self._actions = (
            (self._deliver, 60),
            (self._finish_write, 30),
            (self._finish_apply, 25),
            (self._tick, 25),
            (self._propose, 8),
            (self._read, 3),
            (self._drop, 3),
            (self._duplicate, 3),
            (self._compact, 2),
            (self._change_membership, 1),
            (self._transfer, 1),
            (self._report, 1),
            (self._crash, 0.5),
            (self._cut, 0.3),
            (self._heal, 0.6),
        )
        self._weights = [weight for _, weight in self._actions]

    def _start(self, member: int, storage: SimulatedStorage) -> None:
        storage.fresh = None
        snapshot = storage.stored()
        config = Config(
            id=member,
            storage=storage,
            random=self.random,
            applied=snapshot.index,
            async_storage_writes=True,
            **self._settings,  # type: ignore[arg-type]
        )
        self.members[member] = SimulatedMember(
            member,
            RawNode(config),
            storage,
            digest=int(snapshot.data or b"0"),
            conf_state=snapshot.conf_state,
            applied=snapshot.index,
        )

    def run(self, steps: int) -> None:
        for _ in range(steps):
            (action,) = self.random.choices([a for a, _ in self._actions], self._weights)
            action()

    def calm(self, rounds: int = 400) -> None:
        """End all trouble and let the members agree; checks that the cluster is still alive."""
        self._heal()
        for number in range(rounds):
            for member in self.members.values():
                member.node.tick()
                if number % 50 == 0:
                    self._report_lost_snapshots(member)
                self._work(member)
            while self.network or any(m.append_work or m.apply_work for m in self._all()):
                if self.network:
                    self._deliver_one(self.network.pop(0))
                for member in self._all():
                    self._write(member)
                    self._apply(member)

    @staticmethod
    def _report_lost_snapshots(member: SimulatedMember) -> None:
        if member.node.role is Role.LEADER:
            for other, progress in member.node.progress.items():
                if progress.state is ProgressState.SNAPSHOT:
                    member.node.report_snapshot(other, False)

    def _all(self) -> list[SimulatedMember]:
        return list(self.members.values())

    def _any(self) -> SimulatedMember:
        return self.random.choice(self._all())

    # Trouble

    def _cut(self) -> None:
        self.partition = {member: self.random.randrange(2) for member in self.members}
        self.count["partitions"] += 1

    def _heal(self) -> None:
        self.partition = {}

    def _drop(self) -> None:
        if self.network:
            self.network.pop(self.random.randrange(len(self.network)))

    def _duplicate(self) -> None:
        if self.network and len(self.network) < _MAX_IN_NETWORK:
            self.network.append(self.random.choice(self.network))

    def _crash(self) -> None:
        """Lose everything that was not written; sometimes part of what was being written too."""
        member = self._any()
        for _ in range(self.random.randrange(len(member.append_work) + 1)):
            self._store(member, member.append_work.pop(0))
        self._start(member.id, member.storage)
        self.count["crashes"] += 1

    # Work

    def _tick(self) -> None:
        member = self._any()
        member.node.tick()
        self._work(member)

    def _propose(self) -> None:
        member = self._any()
        self._proposed += 1
        datas = [b"%d.%d" % (self._proposed, n) for n in range(self.random.randrange(1, 4))]
        try:
            member.node.propose(datas)
        except ProposalDropped:
            return
        self._work(member)

    def _read(self) -> None:
        member = self._any()
        self._proposed += 1
        context = b"%d" % self._proposed
        member.reads[context] = self.highest_commit
        member.node.read_index(context)
        self._work(member)

    def _transfer(self) -> None:
        member = self._any()
        member.node.transfer_leader(self._any().id)
        self._work(member)

    def _report(self) -> None:
        member, other = self._any(), self._any().id
        if self.random.random() < 0.5:
            member.node.report_unreachable(other)
        else:
            member.node.report_snapshot(other, self.random.random() < 0.5)
        self._work(member)

    def _change_membership(self) -> None:
        leaders = [m for m in self._all() if m.node.role is Role.LEADER]
        if not leaders:
            return
        member = self.random.choice(leaders)
        kinds = (
            ConfChangeKind.ADD_NODE,
            ConfChangeKind.ADD_NODE,
            ConfChangeKind.ADD_LEARNER_NODE,
            ConfChangeKind.REMOVE_NODE,
        )
        steps = tuple(
            ConfChangeSingle(self.random.choice(kinds), self._any().id)
            for _ in range(self.random.randrange(4))
        )
        change: ConfChange | ConfChangeV2
        if len(steps) == 1 and self.random.random() < 0.5:
            change = ConfChange(steps[0].kind, steps[0].node_id)
        else:
            change = ConfChangeV2(self.random.choice(list(ConfChangeTransition)), steps)
        if not self._leaves_voters(member, steps):
            return
        try:
            member.node.propose_conf_change(change)
        except ProposalDropped:
            return
        self._work(member)

    @staticmethod
    def _leaves_voters(member: SimulatedMember, steps: tuple[ConfChangeSingle, ...]) -> bool:
        voters = set(member.node.conf_state.voters)
        changed = set(voters)
        for step in steps:
            changed.discard(step.node_id)
            if step.kind == ConfChangeKind.ADD_NODE:
                changed.add(step.node_id)
        return len(changed) >= 2

    def _compact(self) -> None:
        member = self._any()
        storage = member.storage
        if storage.stored().index < member.applied <= storage.last_index():
            storage.create_snapshot(member.applied, member.conf_state, b"%d" % member.digest)
            storage.compact(member.applied)
            self.count["compactions"] += 1

    def _deliver(self) -> None:
        if self.network:
            self._deliver_one(self.network.pop(self.random.randrange(len(self.network))))

    def _deliver_one(self, message: Message) -> None:
        sides = self.partition
        if sides and sides.get(message.from_) != sides.get(message.to):
            return
        member = self.members.get(message.to)
        if member is None:
            return
        try:
            member.node.step(message)
        except (PeerNotFound, ProposalDropped):
            return
        self._work(member)

    def _finish_write(self) -> None:
        self._write(self._any())

    def _finish_apply(self) -> None:
        self._apply(self._any())

    def _work(self, member: SimulatedMember) -> None:
        """Take out a member's Ready, queue its work, and check what became visible."""
        node = member.node
        while node.has_ready():
            ready = node.ready()
            for message in ready.messages:
                if message.to == LOCAL_APPEND_THREAD:
                    member.append_work.append(message)
                elif message.to == LOCAL_APPLY_THREAD:
                    member.apply_work.append(message)
                elif len(self.network) < _MAX_IN_NETWORK:
                    self.network.append(message)
            for read in ready.read_states:
                bound = member.reads.get(read.context, 0)
                assert read.index >= bound, f"stale read at {member.id}: {read} < {bound}"
                self.count["reads"] += 1
        if node.role is Role.LEADER:
            self._check_leader(member)
        self.highest_commit = max(self.highest_commit, node.commit)

    def _check_leader(self, member: SimulatedMember) -> None:
        """Election safety, and leader completeness when a term begins."""
        node = member.node
        known = self.leaders.setdefault(node.term, member.id)
        assert known == member.id, f"{known} and {member.id} lead term {node.term}"
        if node.term_start_index and self.count[f"checked {node.term}"] == 0:
            self.count[f"checked {node.term}"] = 1
            self.count["elections"] += 1
            log = node.raft.log
            for index, (term, _) in self.committed.items():
                if index >= log.first_index():
                    assert log.term_or_zero(index) == term, (
                        f"leader {member.id} of term {node.term} lacks entry {term}/{index}"
                    )

    def _write(self, member: SimulatedMember) -> None:
        if not member.append_work:
            return
        message = member.append_work.pop(0)
        self._store(member, message)
        if message.snapshot is not None:
            self._restore(member, message.snapshot)
        self._respond(member, message)

    def _store(self, member: SimulatedMember, message: Message) -> None:
        storage = member.storage
        snapshot = message.snapshot
        if snapshot is not None:
            storage.apply_snapshot(snapshot)
        for entry in message.entries:
            self._check_matching(message.entries, entry, storage)
        storage.append(message.entries)
        if message.hard_state is not None:
            storage.set_hard_state(message.hard_state)
        elif snapshot is not None:
            old, _ = storage.initial_state()
            storage.set_hard_state(replace(old, commit=max(old.commit, snapshot.index)))

    def _check_matching(
        self, entries: tuple[Entry, ...], entry: Entry, storage: SimulatedStorage
    ) -> None:
        """Log matching: the same term and index mean the same entry and the same predecessor."""
        if entry.index > entries[0].index:
            before = entries[entry.index - entries[0].index - 1].term
        elif entry.index - 1 >= storage.first_index() - 1:
            before = storage.term(entry.index - 1)
        else:
            return
        known = self.written.setdefault((entry.term, entry.index), (entry.data, before))
        assert known == (entry.data, before), f"two entries {entry.term}/{entry.index}"

    def _restore(self, member: SimulatedMember, snapshot: Snapshot) -> None:
        member.digest = int(snapshot.data or b"0")
        member.conf_state = snapshot.conf_state
        member.applied = snapshot.index
        member.storage.fresh = None
        assert self.digests[snapshot.index] == member.digest
        self.count["snapshots"] += 1

    def _apply(self, member: SimulatedMember) -> None:
        if not member.apply_work:
            return
        message = member.apply_work.pop(0)
        for entry in message.entries:
            self._apply_entry(member, entry)
        self._respond(member, message)

    def _apply_entry(self, member: SimulatedMember, entry: Entry) -> None:
        """State-machine safety: every member applies the same entry at an index."""
        if entry.index <= member.applied:
            return  # a snapshot installed meanwhile contains it
        assert entry.index == member.applied + 1, f"{member.id} skips to {entry.index}"
        value = (entry.term, entry.data)
        known = self.committed.setdefault(entry.index, value)
        assert known == value, f"{member.id} applies {value} at {entry.index}, not {known}"
        member.applied = entry.index
        member.digest = hash((member.digest, entry.term, entry.data))
        assert self.digests.setdefault(entry.index, member.digest) == member.digest
        self.count["applied"] += 1
        if entry.kind != EntryKind.NORMAL:
            member.conf_state = member.node.apply_conf_change(
                decode_conf_change(entry), entry.index
            )
            self.count["membership changes"] += 1
        member.storage.fresh = Snapshot(
            entry.index, entry.term, member.conf_state, b"%d" % member.digest
        )

    def _respond(self, member: SimulatedMember, message: Message) -> None:
        for response in message.responses:
            if response.to == member.id:
                member.node.step(response)
            elif len(self.network) < _MAX_IN_NETWORK:
                self.network.append(response)
        self._work(member)

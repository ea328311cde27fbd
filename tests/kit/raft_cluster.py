"""A few Raft members with a network that tests hold in their hands.

Members use asynchronous storage. By default writes and applications finish at once; a member in
``slow_disks`` finishes them only when ``finish_writes`` is called.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from dqlite_py.raft import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
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
    ReadState,
    Role,
    Snapshot,
    decode_conf_change,
)
from dqlite_py.raft.trace import TraceEvent

ELECTION_TICK = 10


def storage_with(
    conf_state: ConfState,
    terms: Iterable[int] = (),
    hard_state: HardState | None = None,
    *,
    start: int = 1,
) -> MemoryStorage:
    """Return storage that begins with a snapshot at ``start`` and holds entries of ``terms``."""
    storage = MemoryStorage()
    storage.apply_snapshot(Snapshot(start, 1, conf_state))
    entries = [
        Entry(term, index, EntryKind.NORMAL, f"{term}.{index}".encode())
        for index, term in enumerate(terms, start + 1)
    ]
    storage.append(entries)
    last_term = entries[-1].term if entries else 1
    storage.set_hard_state(hard_state or HardState(last_term, 0, start))
    return storage


class Cluster:
    """Members by id; ``network`` holds sent, undelivered messages."""

    def __init__(
        self,
        voters: Iterable[int] = (1, 2, 3),
        learners: Iterable[int] = (),
        logs: dict[int, Iterable[int]] | None = None,
        hard_states: dict[int, HardState] | None = None,
        **settings: object,
    ) -> None:
        self.conf_state = ConfState(tuple(voters), learners=tuple(learners))
        self.settings = settings
        self.storages: dict[int, MemoryStorage] = {}
        self.nodes: dict[int, RawNode] = {}
        self.network: list[Message] = []
        self.applied: dict[int, list[Entry]] = {}
        self.reads: dict[int, list[ReadState]] = {}
        self.events: list[TraceEvent] = []
        self.unfinished: dict[int, list[Message]] = {}
        self.slow_disks: set[int] = set()
        self.cut: set[tuple[int, int]] = set()
        for member in (*self.conf_state.voters, *self.conf_state.learners):
            log = (logs or {}).get(member, ())
            storage = storage_with(self.conf_state, log, (hard_states or {}).get(member))
            self.start(member, storage)

    def start(self, member: int, storage: MemoryStorage) -> RawNode:
        """Start, or after a crash restart, a member from what its storage holds."""
        config = Config(
            id=member,
            storage=storage,
            random=random.Random(member),
            election_tick=ELECTION_TICK,
            applied=storage.first_index() - 1,
            async_storage_writes=True,
            **{"trace": self.events.append, **self.settings},  # type: ignore[arg-type]
        )
        self.storages[member] = storage
        self.nodes[member] = RawNode(config)
        self.applied[member] = []
        self.reads.setdefault(member, [])
        self.unfinished[member] = []
        return self.nodes[member]

    def restart(self, member: int) -> RawNode:
        """Crash and restart: what was not written is lost."""
        return self.start(member, self.storages[member])

    def __getitem__(self, member: int) -> RawNode:
        return self.nodes[member]

    # Network

    def isolate(self, member: int) -> None:
        for other in self.nodes:
            self.cut |= {(member, other), (other, member)}

    def heal(self) -> None:
        self.cut.clear()

    def take(self, wanted: Callable[[Message], bool]) -> list[Message]:
        """Take matching messages out of the network."""
        taken = [message for message in self.network if wanted(message)]
        self.network = [message for message in self.network if not wanted(message)]
        return taken

    def deliver(self, message: Message) -> None:
        """Deliver one message and do the work that follows, leaving answers in the network."""
        try:
            self.nodes[message.to].step(message)
        except (PeerNotFound, ProposalDropped):
            return
        self.work(message.to)

    def settle(self, only: Callable[[Message], bool] = lambda _: True) -> None:
        """Deliver matching messages until none is left; those across ``cut`` are lost."""
        for member in self.nodes:
            self.work(member)
        while True:
            lost = self.take(lambda message: (message.from_, message.to) in self.cut)
            messages = self.take(lambda message: only(message) and message.to in self.nodes)
            if not messages and not lost:
                return
            for message in messages:
                self.deliver(message)

    # Work

    def work(self, member: int) -> None:
        """Handle a member's Ready until it has none."""
        node = self.nodes[member]
        while node.has_ready():
            ready = node.ready()
            self.reads[member] += ready.read_states
            for message in ready.messages:
                if message.to in (LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD):
                    self.unfinished[member].append(message)
                else:
                    self.network.append(message)
            if member not in self.slow_disks:
                self.finish_writes(member)

    def finish_writes(self, member: int, count: int = 1 << 30) -> None:
        """Finish a member's oldest ``count`` writes and applications."""
        while self.unfinished[member] and count:
            count -= 1
            message = self.unfinished[member].pop(0)
            if message.to == LOCAL_APPEND_THREAD:
                self._write(member, message)
            else:
                self._apply(member, message.entries)
            for response in message.responses:
                if response.to == member:
                    self.nodes[member].step(response)
                else:
                    self.network.append(response)

    def _write(self, member: int, message: Message) -> None:
        storage = self.storages[member]
        if message.snapshot is not None:
            storage.apply_snapshot(message.snapshot)
        storage.append(message.entries)
        if message.hard_state is not None:
            storage.set_hard_state(message.hard_state)

    def _apply(self, member: int, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.applied[member].append(entry)
            if entry.kind != EntryKind.NORMAL:
                self.nodes[member].apply_conf_change(decode_conf_change(entry))

    # Situations

    def elect(self, member: int) -> RawNode:
        """Make ``member`` leader and let everything settle."""
        node = self.nodes[member]
        node.campaign()
        self.settle()
        assert node.role is Role.LEADER, f"{member} is {node.role.name}"
        return node

    def tick(self, member: int, count: int = 1) -> None:
        for _ in range(count):
            self.nodes[member].tick()

    def log(self, member: int) -> list[tuple[int, int]]:
        """Return (term, index) of what is durable at ``member``."""
        storage = self.storages[member]
        first, last = storage.first_index(), storage.last_index()
        return [(storage.term(index), index) for index in range(first, last + 1)]

    def data(self, member: int) -> list[bytes]:
        """Return the data of the applied normal entries that carry any."""
        applied = self.applied[member]
        return [each.data for each in applied if each.data and each.kind == EntryKind.NORMAL]

    def compact(self, member: int) -> Snapshot:
        """Snapshot a member's applied state and drop the log before it."""
        storage, node = self.storages[member], self.nodes[member]
        snapshot = storage.create_snapshot(node.applied, node.conf_state)
        storage.compact(node.applied)
        return snapshot


def of_kind(*kinds: MessageKind) -> Callable[[Message], bool]:
    return lambda message: message.kind in kinds

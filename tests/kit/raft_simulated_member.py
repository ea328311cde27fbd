"""A simulated Raft member and its disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from dqlite_py.raft import ConfState, MemoryStorage, Message, RawNode, Snapshot


class SimulatedStorage(MemoryStorage):
    """Sends the state as it is now, but restarts from the snapshot made at the last compaction."""

    def __init__(self) -> None:
        super().__init__()
        self.fresh: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        return self.fresh or super().snapshot()

    def stored(self) -> Snapshot:
        return super().snapshot()


@dataclass
class SimulatedMember:
    """A node, its disk, and what it has begun but not finished."""

    id: int
    node: RawNode
    storage: SimulatedStorage
    append_work: list[Message] = field(default_factory=list)
    apply_work: list[Message] = field(default_factory=list)
    digest: int = 0
    conf_state: ConfState = field(default_factory=ConfState)
    applied: int = 0
    reads: dict[bytes, int] = field(default_factory=dict)

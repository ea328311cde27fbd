"""A replica that answers from memory, for tests of the layers above the node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dqlite_py.errors import DqliteError
from dqlite_py.node.contract import LeadershipListener, Member, Session, Status


class FakeReplica:
    """Implements ReplicaPort; tests set its attributes to say what the cluster looks like."""

    def __init__(self) -> None:
        self.member_id = 11
        self.cluster_id = 22
        self.term = 3
        self.leader_id = 11
        self.is_leader = True
        self.is_learner = False
        self.applied_index = 7
        self.session: Any = None  # handed to queries
        self.barrier_error: DqliteError | None = None
        self.calls: list[tuple[Any, ...]] = []
        self.member_records = [
            Member(11, "a", ("http://127.0.0.1:2380",), ("http://127.0.0.1:2379",), False)
        ]

    def status(self) -> Status:
        return Status(
            member_id=self.member_id,
            cluster_id=self.cluster_id,
            leader_id=self.leader_id,
            term=self.term,
            last_index=9,
            commit_index=8,
            applied_index=self.applied_index,
            is_learner=self.is_learner,
            db_size_bytes=8192,
            db_size_in_use_bytes=4096,
        )

    def members(self) -> list[Member]:
        return list(self.member_records)

    def write(self, command: Any) -> Awaitable[Any]:
        raise NotImplementedError(command)

    async def barrier(self) -> None:
        self.calls.append(("barrier",))
        if self.barrier_error is not None:
            raise self.barrier_error

    async def read(self, query: Callable[[Session], Any]) -> Any:
        return query(self.session)

    def read_now(self, query: Callable[[Session], Any]) -> Any:
        return query(self.session)

    async def read_gated(self, query: Callable[[Session], Any]) -> Any:
        return query(self.session)

    async def call_leader(self, method: str, payload: bytes, timeout_s: float) -> bytes:
        raise NotImplementedError(method)

    def register_call(self, method: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        raise NotImplementedError(method)

    def add_leadership_listener(self, listener: LeadershipListener) -> None:
        raise NotImplementedError

    async def wait_applied(self, index: int) -> None:
        assert index <= self.applied_index

    async def add_member(
        self, peer_urls: Sequence[str], *, is_learner: bool, name: str = "", token_id: str = ""
    ) -> Member:
        self.calls.append(("add", tuple(peer_urls), is_learner, name, token_id))
        member = Member(12, name, tuple(peer_urls), (), is_learner)
        self.member_records.append(member)
        return member

    async def remove_member(self, member_id: int) -> None:
        self.calls.append(("remove", member_id))
        self.member_records = [m for m in self.member_records if m.id != member_id]

    async def promote_member(self, member_id: int) -> None:
        self.calls.append(("promote", member_id))

    async def update_member(
        self,
        member_id: int,
        *,
        peer_urls: Sequence[str] | None = None,
        name: str | None = None,
        client_urls: Sequence[str] | None = None,
    ) -> None:
        self.calls.append(("update", member_id, peer_urls, name, client_urls))

    async def transfer_leadership(self, target_id: int) -> None:
        self.calls.append(("transfer", target_id))

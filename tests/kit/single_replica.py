"""A replica of one: executes commands at once on a plain SQLite connection, for unit tests.

It has the shape of ``ReplicaPort``, with savepoints, notes and leadership changes, but no log. The
tests of everything above the node run on it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import apsw

from dqlite_py import errors
from dqlite_py.node.contract import LeadershipListener, Machine, Member, Session, Status

T = TypeVar("T")


class SingleReplica:
    """``ReplicaPort`` over one connection; every write commits before its answer."""

    member_id = 0xA1
    cluster_id = 0xC1

    def __init__(self, machine: Machine, path: str = ":memory:") -> None:
        self.machine = machine
        self.session = apsw.Connection(path)
        self.term = 1
        self.is_leader = True
        self.is_learner = False
        self.applied_index = 0
        self.forwards = False  # whether commands pass through the codec, as on a follower
        self.barriers = 0
        self.written: list[Any] = []
        self.fail_writes: errors.DqliteError | None = None
        self.fail_barriers: errors.DqliteError | None = None
        self._listeners: list[LeadershipListener] = []
        self._calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        with self.session:
            machine.open(self.session)
        self._apply()

    @property
    def leader_id(self) -> int:
        return self.member_id if self.is_leader else 0

    def status(self) -> Status:
        index = self.applied_index
        return Status(
            member_id=self.member_id,
            cluster_id=self.cluster_id,
            leader_id=self.leader_id,
            term=self.term,
            last_index=index,
            commit_index=index,
            applied_index=index,
            is_learner=self.is_learner,
            db_size_bytes=0,
            db_size_in_use_bytes=0,
        )

    def members(self) -> list[Member]:
        return [Member(self.member_id, "single", (), (), self.is_learner)]

    async def write(self, command: Any) -> Any:
        if self.fail_writes is not None:
            raise self.fail_writes
        if not self.is_leader:
            raise errors.NoLeader
        if self.forwards:
            command = self.machine.decode_command(self.machine.encode_command(command))
        return self.write_batch([command])[0]

    def write_batch(self, batch: Sequence[Any]) -> list[Any]:
        """Execute commands as the leader's writer does: one transaction, a savepoint each.

        Raises the refusal of a single command; in a longer batch it becomes that one's result.
        """
        machine, results = self.machine, []
        with self.session:
            for command in batch:
                self.written.append(command)
                mark = machine.mark()
                try:
                    with self.session:
                        result = machine.execute(self.session, command)
                    results.append(machine.decode_result(machine.encode_result(result)))
                except errors.RequestRefused as refusal:
                    machine.restore(mark)
                    if len(batch) == 1:
                        raise
                    results.append(refusal)
        self._apply()
        return results

    def _apply(self) -> None:
        note = self.machine.note()
        self.applied_index += 1
        self.machine.before_apply(note)
        self.machine.applied(self.applied_index, note)

    async def barrier(self) -> None:
        if self.fail_barriers is not None:
            raise self.fail_barriers
        self.barriers += 1

    async def read(self, query: Callable[[Session], T]) -> T:
        return self.read_now(query)

    def read_now(self, query: Callable[[Session], T]) -> T:
        with self.session:
            return query(self.session)

    async def read_gated(self, query: Callable[[Session], T]) -> T:
        return self.read_now(query)

    async def call_leader(self, method: str, payload: bytes, timeout_s: float) -> bytes:
        return await self._calls[method](payload)

    def register_call(self, method: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._calls[method] = handler

    def add_leadership_listener(self, listener: LeadershipListener) -> None:
        self._listeners.append(listener)
        if self.is_leader:
            listener.leadership_started(self.term)

    def lose_leadership(self) -> None:
        """Stop leading: listeners are told, writes are refused."""
        self.is_leader = False
        for listener in self._listeners:
            listener.leadership_stopped()

    def gain_leadership(self) -> None:
        """Lead in a new term, from the state in the tables."""
        self.term += 1
        self.is_leader = True
        with self.session:
            self.machine.open(self.session)
        for listener in self._listeners:
            listener.leadership_started(self.term)

    async def wait_applied(self, index: int) -> None:
        assert index <= self.applied_index

    async def add_member(
        self, peer_urls: Sequence[str], *, is_learner: bool, name: str = "", token_id: str = ""
    ) -> Member:
        raise errors.UnhealthyCluster

    async def remove_member(self, member_id: int) -> None:
        raise errors.MemberNotFound

    async def promote_member(self, member_id: int) -> None:
        raise errors.MemberNotFound

    async def update_member(
        self,
        member_id: int,
        *,
        peer_urls: Sequence[str] | None = None,
        name: str | None = None,
        client_urls: Sequence[str] | None = None,
    ) -> None:
        raise errors.MemberNotFound

    async def transfer_leadership(self, target_id: int) -> None:
        raise errors.BadLeaderTransferee

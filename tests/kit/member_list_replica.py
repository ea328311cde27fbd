"""A replica that holds only a member list, for tests of the layers that change it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from dqlite_py.errors import DqliteError, NoLeader
from dqlite_py.node.contract import LeadershipListener, Member


class MemberListReplica:
    """Leads always, or points at ``leader``; membership changes apply at once."""

    cluster_id = 99

    def __init__(self, member_id: int = 1, leader: MemberListReplica | None = None) -> None:
        self.member_id = member_id
        self.leader = leader
        self.is_leader = leader is None
        self.records: list[Member] = [
            Member(1, "n1", ("http://127.0.0.1:1",), ("http://127.0.0.1:2",), False)
        ]
        self.token_ids: list[str] = []
        self.barriers = 0
        self.raised: list[DqliteError] = []  # errors of the next membership changes
        self.calls: dict[str, Callable[[bytes], Awaitable[bytes]]] = {}
        self.listeners: list[LeadershipListener] = []
        self.promoted: list[int] = []
        self.promotion = asyncio.Event()

    def members(self) -> list[Member]:
        return sorted(self.records, key=lambda one: one.id)

    async def barrier(self) -> None:
        self.barriers += 1

    def register_call(self, method: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        self.calls[method] = handler

    async def call_leader(self, method: str, payload: bytes, timeout_s: float) -> bytes:
        assert timeout_s > 0
        target = self.leader or self
        if not target.is_leader:
            raise NoLeader
        return await target.calls[method](payload)

    async def add_member(
        self, peer_urls: Sequence[str], *, is_learner: bool, name: str = "", token_id: str = ""
    ) -> Member:
        if self.raised:
            raise self.raised.pop(0)
        added = Member(len(self.records) + 1, name, tuple(peer_urls), (), is_learner)
        self.records.append(added)
        self.token_ids.append(token_id)
        return added

    async def promote_member(self, member_id: int) -> None:
        if self.raised:
            raise self.raised.pop(0)
        self.promoted.append(member_id)
        self.promotion.set()
        self.records = [
            replace(one, is_learner=False) if one.id == member_id else one for one in self.records
        ]

    def add_leadership_listener(self, listener: LeadershipListener) -> None:
        self.listeners.append(listener)

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"not expected of a replica here: {name}")

"""Changing who is in: checks on the leader, one change at a time, answers after application.

The member record travels inside the change's entry, so the member list and the Raft configuration
cannot disagree (design decision 5).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import msgpack

from dqlite_py.errors import (
    ConfChangeInProgress,
    LeaderChanged,
    LearnerNotReady,
    MemberExists,
    MemberNotEnoughStarted,
    MemberNotFound,
    MemberNotLearner,
    NotLeader,
    PeerUrlExists,
    RequestTimeout,
    TooManyLearners,
    UnhealthyCluster,
)
from dqlite_py.node.catalog import Catalog, pack_member, unpack_member
from dqlite_py.node.contract import Member
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.raft import ConfChange, ConfChangeKind, ProposalDropped, RawNode
from dqlite_py.seams import Random

_VERSION = 1
_REQUEST_ID_BYTES = 16
# etcd promotes a learner that has at least this share of the leader's log.
_READY_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class ChangeContext:
    """What a membership entry carries besides the change itself."""

    request_id: bytes
    member: Member | None
    token_id: str


def encode_context(context: ChangeContext) -> bytes:
    """Return the bytes that travel in the entry."""
    member = pack_member(context.member) if context.member is not None else None
    data: bytes = msgpack.packb([_VERSION, context.request_id, member, context.token_id])
    return data


def decode_context(data: bytes) -> ChangeContext:
    """Inverse of ``encode_context``."""
    _, request_id, member, token_id = msgpack.unpackb(data)
    return ChangeContext(request_id, unpack_member(member) if member else None, token_id)


def apply_change(catalog: Catalog, change: ConfChange, context: ChangeContext) -> Catalog:
    """Return the catalogue after ``change``; pure, the same on every member."""
    if change.kind is ConfChangeKind.REMOVE_NODE:
        return catalog.without_member(change.node_id)
    member = context.member
    assert member is not None
    if change.kind is ConfChangeKind.UPDATE_NODE and catalog.member(change.node_id) is None:
        return catalog
    return catalog.with_member(member)


def check_add(catalog: Catalog, member: Member, learners_max: int) -> None:
    """Raise what etcd would answer if ``member`` may not be added."""
    if catalog.member(member.id) is not None or member.id in catalog.removed:
        raise MemberExists
    taken = {url for m in catalog.members for url in m.peer_urls}
    if taken & set(member.peer_urls):
        raise PeerUrlExists
    if member.is_learner:
        if sum(m.is_learner for m in catalog.members) >= learners_max:
            raise TooManyLearners
        return
    voters = [m for m in catalog.members if not m.is_learner]
    started = sum(_started(m) for m in voters)
    if started == 1 and len(voters) == 1:
        return  # the first step from one member to two is always allowed
    if started < (len(voters) + 1) // 2 + 1:
        raise MemberNotEnoughStarted


def check_remove(catalog: Catalog, member_id: int, reachable: Callable[[int], bool]) -> None:
    """Raise what etcd would answer if the member may not be removed."""
    member = catalog.member(member_id)
    if member is None:
        raise MemberNotFound
    if member.is_learner:
        return
    rest = [m for m in catalog.members if not m.is_learner and m.id != member_id]
    if not rest:
        raise MemberNotEnoughStarted
    if sum(_started(m) for m in rest) < len(rest) // 2 + 1:
        raise MemberNotEnoughStarted
    if sum(reachable(m.id) for m in rest) < len(rest) // 2 + 1:
        raise UnhealthyCluster


def _started(member: Member) -> bool:
    return bool(member.name)


class Membership:
    """Leader-side membership changes. Event loop only."""

    def __init__(
        self,
        member_id: int,
        raw: RawNode,
        limits: ReplicaLimits,
        random: Random,
        *,
        catalog: Callable[[], Catalog],
        leads: Callable[[], bool],
        kick: Callable[[], None],
        reachable: Callable[[int], bool],
    ) -> None:
        self._member_id = member_id
        self._raw = raw
        self._limits = limits
        self._random = random
        self._catalog = catalog
        self._leads = leads
        self._kick = kick
        self._reachable = reachable
        self._turn = asyncio.Lock()
        self._waiting: dict[bytes, asyncio.Future[None]] = {}

    async def add(self, member: Member, token_id: str) -> None:
        """Add ``member`` as it is (voter or learner)."""
        kind = ConfChangeKind.ADD_LEARNER_NODE if member.is_learner else ConfChangeKind.ADD_NODE

        def check() -> Member:
            check_add(self._catalog(), member, self._limits.learners_max)
            if not member.is_learner:
                self._check_healthy()
            return member

        await self._change(kind, member.id, check, token_id)

    async def remove(self, member_id: int) -> None:
        """Remove a member; its id never comes back.

        A leader that is to go hands over first and raises NotLeader, so that the next leader is
        asked: it would stop as soon as it knows itself removed, and of two members the other could
        then neither learn of it nor win an election.
        """

        def check() -> None:
            check_remove(self._catalog(), member_id, self._is_reachable)
            if member_id == self._member_id:
                self._hand_over()
                raise NotLeader

        await self._change(ConfChangeKind.REMOVE_NODE, member_id, check, "")

    async def promote(self, member_id: int) -> None:
        """Make a learner that has caught up a voter."""

        def check() -> Member:
            member = self._catalog().member(member_id)
            if member is None:
                raise MemberNotFound
            if not member.is_learner:
                raise MemberNotLearner
            progress = self._raw.progress.get(member_id)
            if progress is None or not progress.recent_active:
                raise LearnerNotReady
            if progress.match < _READY_SHARE * self._raw.last_index:
                raise LearnerNotReady
            return replace(member, is_learner=False)

        await self._change(ConfChangeKind.ADD_NODE, member_id, check, "")

    async def update(self, member_id: int, change: Callable[[Member], Member]) -> None:
        """Replace a member's record by ``change(record)``."""

        def check() -> Member:
            member = self._catalog().member(member_id)
            if member is None:
                raise MemberNotFound
            changed = change(member)
            others = [m for m in self._catalog().members if m.id != member_id]
            if {u for m in others for u in m.peer_urls} & set(changed.peer_urls):
                raise PeerUrlExists
            return changed

        await self._change(ConfChangeKind.UPDATE_NODE, member_id, check, "")

    def _hand_over(self) -> None:
        """Begin to transfer leadership to the voter that has most of the log."""
        heirs = [
            m.id
            for m in self._catalog().members
            if not m.is_learner and self._reachable(m.id) and m.id in self._raw.progress
        ]
        if not heirs:
            raise UnhealthyCluster
        self._raw.transfer_leader(max(heirs, key=lambda heir: self._raw.progress[heir].match))
        self._kick()

    def _check_healthy(self) -> None:
        voters = [m.id for m in self._catalog().members if not m.is_learner]
        if sum(self._is_reachable(v) for v in voters) < len(voters) // 2 + 1:
            raise UnhealthyCluster

    def _is_reachable(self, member_id: int) -> bool:
        return member_id == self._member_id or self._reachable(member_id)

    async def _change(
        self,
        kind: ConfChangeKind,
        node_id: int,
        check: Callable[[], Member | None],
        token_id: str,
    ) -> None:
        """Check, propose and wait until applied; changes take turns, so each sees the last."""
        async with self._turn:
            if not self._leads():
                raise NotLeader
            member = check()
            request_id = self._random.randbytes(_REQUEST_ID_BYTES)
            context = encode_context(ChangeContext(request_id, member, token_id))
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[request_id] = done
            try:
                if self._raw.has_pending_conf_change:
                    raise ConfChangeInProgress
                try:
                    self._raw.propose_conf_change(ConfChange(kind, node_id, context))
                except ProposalDropped:
                    raise NotLeader from None
                self._kick()
                async with asyncio.timeout(self._limits.request_timeout_s):
                    await done
            except TimeoutError:
                raise RequestTimeout from None
            finally:
                self._waiting.pop(request_id, None)

    def applied(self, request_id: bytes) -> None:
        """The change asked for under ``request_id`` has been applied here."""
        done = self._waiting.get(request_id)
        if done is not None and not done.done():
            done.set_result(None)

    def leadership_lost(self) -> None:
        """Whether changes under way will happen is unknown now."""
        for done in self._waiting.values():
            if not done.done():
                done.set_exception(LeaderChanged())

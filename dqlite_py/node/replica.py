"""A running replica: core, disk, databases and network under one roof.

The parts are built and wired in ``assembly``; this class owns their tasks and is the face that the
layers above see (``contract.ReplicaPort``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgpack

from dqlite_py.errors import (
    BadLeaderTransferee,
    NoLeader,
    NotLeader,
    ReadInterrupted,
    RequestTimeout,
)
from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.catalog import pack_member, unpack_member
from dqlite_py.node.contract import LeadershipListener, Member, Session, Status
from dqlite_py.node.hosted import HostedDatabase
from dqlite_py.node.parts import Parts
from dqlite_py.raft import Role

T = TypeVar("T")
_PREPARE_BUSY_S = 0.01
_PREPARE_IDLE_S = 0.25


@dataclass(frozen=True, slots=True)
class DatabaseCheck:
    """What a look at one database found; ``problems`` is empty when it is sound."""

    name: str
    problems: list[str]
    sha256: bytes
    base_index: int
    page_count: int


class Replica:
    """One member of the cluster. Event loop only; see contract.ReplicaPort for the promises."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._limits = parts.settings.limits
        self._clock = parts.world.clock
        self._applied: AppliedIndex = parts.applied
        self._in_use_bytes = 0  # of the primary database, when last looked at
        register = parts.router.register
        register("member.add", self._serve_add)
        register("member.remove", self._serve_remove)
        register("member.promote", self._serve_promote)
        register("member.update", self._serve_update)
        register("leader.transfer", self._serve_transfer)
        register("snapshot.begin", parts.sink.begin)
        register("snapshot.chunk", parts.sink.chunk)
        register("snapshot.finish", parts.sink.finish)

    # --- life -------------------------------------------------------------------------------
    async def run(self, listening: Callable[[], None] | None = None) -> None:
        """Run until cancelled or until something fails that the replica must not survive.

        ``listening`` is called once peers can connect. Raises what failed.
        """
        parts = self._parts
        try:
            async with asyncio.TaskGroup() as tasks:
                parts.tasks.bind(tasks)
                tasks.create_task(parts.applier.run())
                tasks.create_task(parts.checkpointer.run())
                tasks.create_task(parts.snapshots.run())
                tasks.create_task(parts.transport.run(listening))
                tasks.create_task(self._tick())
                tasks.create_task(self._prepare_segments())
                tasks.create_task(parts.tasks.failure())
                await parts.changes.check_replayed()
                if parts.raw.conf_state.voters == (self.member_id,):
                    parts.raw.campaign()  # nobody else could win; do not wait for a timeout
                parts.driver.kick()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            parts.tasks.release()
            parts.driver.stop()
            parts.barrier.fail(NoLeader())
            parts.leadership.stop()

    async def _tick(self) -> None:
        """Drive the core's clock; a late tick is not made up for, so a pause is not a burst."""
        parts = self._parts
        interval_s = self._limits.tick_interval_s
        due_s = self._clock.now_s() + interval_s
        while True:
            await asyncio.sleep(max(0.0, due_s - self._clock.now_s()))
            due_s = max(due_s + interval_s, self._clock.now_s())
            parts.driver.tick()
            parts.barrier.check()
            pipeline = parts.leadership.pipeline
            if pipeline is not None:
                pipeline.expire()

    async def _prepare_segments(self) -> None:
        """Zero the log's next segment ahead of its use, in small steps."""
        parts = self._parts
        while True:
            more = await parts.files.run(parts.storage.prepare)
            await asyncio.sleep(_PREPARE_BUSY_S if more else _PREPARE_IDLE_S)

    async def ready(self) -> None:
        """Return when the primary database is open here."""
        await self._parts.primary_open.wait()

    async def close(self) -> None:
        """Close databases and threads; ``run`` has ended. Nothing is checkpointed."""
        parts = self._parts
        for hosted in parts.databases.hosted:
            if hosted.rolling_back:
                await hosted.finish_rollback()
        await parts.databases.close()
        await parts.log_worker.run(parts.storage.close)
        parts.log_worker.close()
        parts.files.close()

    async def removed(self) -> None:
        """Return when this member has been removed from the cluster."""
        await self._parts.removed.wait()

    # --- who we are -------------------------------------------------------------------------
    @property
    def member_id(self) -> int:
        """This member's id."""
        return self._parts.member_id

    @property
    def cluster_id(self) -> int:
        """The cluster's id."""
        return self._parts.cluster_id

    @property
    def term(self) -> int:
        """The current Raft term."""
        return self._parts.raw.term

    @property
    def leader_id(self) -> int:
        """The leader known to this member, 0 if none."""
        return self._parts.raw.leader_id

    @property
    def is_leader(self) -> bool:
        """Whether this member executes writes now."""
        return self._parts.leadership.serving

    @property
    def is_learner(self) -> bool:
        """Whether this member is a learner."""
        member = self._parts.history.latest.catalog.member(self.member_id)
        return member is None or member.is_learner

    @property
    def applied_index(self) -> int:
        """The last log index whose effect is visible to readers here."""
        return self._applied.index

    @property
    def leader_changes_seen(self) -> int:
        """How often this member has seen a new leader."""
        return self._parts.leadership.changes_seen

    @property
    def pending_writes(self) -> int:
        """How many writes wait for consensus on this member."""
        pipeline = self._parts.leadership.pipeline
        return pipeline.pending if pipeline is not None else 0

    def status(self) -> Status:
        """Return the current status."""
        raw, hosted = self._parts.raw, self._parts.primary
        if hosted is not None and hosted.sql_open:
            with suppress(ReadInterrupted):  # a rollback has the connection: the last value does
                self._in_use_bytes = hosted.db.size_in_use_bytes()
        return Status(
            member_id=self.member_id,
            cluster_id=self.cluster_id,
            leader_id=raw.leader_id,
            term=raw.term,
            last_index=raw.last_index,
            commit_index=raw.commit,
            applied_index=self._applied.index,
            is_learner=self.is_learner,
            db_size_bytes=hosted.db.size_bytes if hosted else 0,
            db_size_in_use_bytes=self._in_use_bytes,
        )

    def members(self) -> list[Member]:
        """Return the applied member list, ordered by id."""
        return list(self._parts.history.latest.catalog.members)

    def add_leadership_listener(self, listener: LeadershipListener) -> None:
        """Subscribe; told at once if this member already leads."""
        self._parts.leadership.add_listener(listener)

    # --- writes and calls -------------------------------------------------------------------
    def write(self, command: Any) -> Coroutine[Any, Any, Any]:
        """Execute ``command`` on the leader and answer after it is committed."""
        return self._parts.router.write(command)

    async def call_leader(self, method: str, payload: bytes, timeout_s: float) -> bytes:
        """Run a registered call on the leader, here or over the peer connection."""
        return await self._parts.router.call_leader(method, payload, timeout_s)

    def register_call(self, method: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Serve ``method`` for ``call_leader`` of all members."""
        self._parts.router.register(method, handler)

    # --- reads ------------------------------------------------------------------------------
    async def barrier(self) -> None:
        """Return when all writes acknowledged before this call are visible here."""
        await self._parts.barrier.wait()

    async def _primary(self) -> HostedDatabase:
        if self._parts.primary is None:
            await self._parts.primary_open.wait()
        hosted = self._parts.primary
        if hosted is None:
            raise NoLeader
        return hosted

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run ``query`` in one read transaction on a reader thread; may see speculation."""
        while True:
            try:
                with self._parts.tasks.stopping():
                    return await (await self._primary()).read(query)
            except ReadInterrupted:
                await asyncio.sleep(0)  # a snapshot is replacing the database

    def read_now(self, query: Callable[[Session], T]) -> T:
        """Run a query known to touch few rows on the event loop."""
        hosted = self._parts.primary
        if hosted is None or not hosted.sql_open:
            raise NoLeader
        with self._parts.tasks.stopping():
            return hosted.db.read_now(query)

    async def read_gated(self, query: Callable[[Session], T]) -> T:
        """Run ``query``; return once everything it saw is committed."""
        while True:
            try:
                with self._parts.tasks.stopping():
                    return await (await self._primary()).read_gated(query)
            except ReadInterrupted:
                await asyncio.sleep(0)

    async def wait_applied(self, index: int) -> None:
        """Return when ``applied_index >= index``."""
        await self._applied.wait(index)

    async def checkpoint(self) -> None:
        """Bring the database files up to the applied index; durable on return."""
        await self._parts.checkpointer.now()

    async def check_databases(self) -> list[DatabaseCheck]:
        """Look at every database: SQLite's integrity check, and the file's digest.

        The digest covers the main file as the last checkpoint left it.
        """
        parts = self._parts
        found = []
        async with parts.checkpointer.lock:
            for hosted in parts.databases.hosted:
                problems = await hosted.read_problems()
                digest, size_bytes = await hosted.image_digest()
                name = hosted.record.name
                pages = size_bytes // hosted.record.page_size
                found.append(DatabaseCheck(name, problems, digest, hosted.base, pages))
        return found

    # --- members ----------------------------------------------------------------------------
    async def _change(self, method: str, payload: Any) -> bytes:
        data = msgpack.packb(payload)
        answer = await self.call_leader(method, data, self._limits.request_timeout_s)
        index = int.from_bytes(answer[:8], "big")
        try:
            async with asyncio.timeout(self._limits.request_timeout_s):
                await self._applied.wait(index)
        except TimeoutError:
            raise RequestTimeout from None
        return answer[8:]

    def _reply(self, body: bytes = b"") -> bytes:
        return self._applied.index.to_bytes(8, "big") + body

    async def add_member(
        self, peer_urls: Sequence[str], *, is_learner: bool, name: str = "", token_id: str = ""
    ) -> Member:
        """Add a member; its id is made from its URLs and the time, as etcd does."""
        answer = await self._change("member.add", [list(peer_urls), is_learner, name, token_id])
        return unpack_member(msgpack.unpackb(answer))

    async def _serve_add(self, payload: bytes) -> bytes:
        peer_urls, is_learner, name, token_id = msgpack.unpackb(payload)
        catalog = self._parts.history.latest.catalog
        taken = [*catalog.removed, *(m.id for m in catalog.members)]
        make_id = self._parts.settings.make_member_id
        member_id = make_id(peer_urls, self._clock.wall_s(), taken)
        member = Member(member_id, name, tuple(peer_urls), (), is_learner)
        await self._parts.membership.add(member, token_id)
        return self._reply(msgpack.packb(pack_member(member)))

    async def remove_member(self, member_id: int) -> None:
        """Remove a member."""
        await self._change("member.remove", member_id)

    async def _serve_remove(self, payload: bytes) -> bytes:
        await self._parts.membership.remove(msgpack.unpackb(payload))
        return self._reply()

    async def promote_member(self, member_id: int) -> None:
        """Turn a caught-up learner into a voter."""
        await self._change("member.promote", member_id)

    async def _serve_promote(self, payload: bytes) -> bytes:
        await self._parts.membership.promote(msgpack.unpackb(payload))
        return self._reply()

    async def update_member(
        self,
        member_id: int,
        *,
        peer_urls: Sequence[str] | None = None,
        name: str | None = None,
        client_urls: Sequence[str] | None = None,
    ) -> None:
        """Replace the given fields of a member record."""
        fields = [
            list(peer_urls) if peer_urls is not None else None,
            name,
            list(client_urls) if client_urls is not None else None,
        ]
        await self._change("member.update", [member_id, *fields])

    async def _serve_update(self, payload: bytes) -> bytes:
        member_id, peer_urls, name, client_urls = msgpack.unpackb(payload)

        def change(member: Member) -> Member:
            return replace(
                member,
                peer_urls=member.peer_urls if peer_urls is None else tuple(peer_urls),
                name=member.name if name is None else name,
                client_urls=member.client_urls if client_urls is None else tuple(client_urls),
            )

        await self._parts.membership.update(member_id, change)
        return self._reply()

    async def transfer_leadership(self, target_id: int) -> None:
        """Hand leadership to ``target_id`` (0: the most caught-up voter); return when it leads."""
        await self.call_leader(
            "leader.transfer", msgpack.packb(target_id), self._limits.request_timeout_s
        )

    async def _serve_transfer(self, payload: bytes) -> bytes:
        target_id = msgpack.unpackb(payload)
        raw = self._parts.raw
        if raw.role is not Role.LEADER:
            raise NotLeader
        voters = [m.id for m in self.members() if not m.is_learner]
        if target_id == 0:
            others = [v for v in voters if v != self.member_id and v in raw.progress]
            if not others:
                raise BadLeaderTransferee
            target_id = max(others, key=lambda v: raw.progress[v].match)
        if target_id not in voters:
            raise BadLeaderTransferee
        if target_id == self.member_id:
            return b""
        raw.transfer_leader(target_id)
        self._parts.driver.kick()
        deadline_s = self._clock.now_s() + 3 * self._limits.election_timeout_s
        while raw.leader_id != target_id:
            if self._clock.now_s() > deadline_s:
                raise RequestTimeout
            await asyncio.sleep(self._limits.tick_interval_s / 10)
        return b""

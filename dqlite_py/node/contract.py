"""What the replica asks of the layers above it, and what it offers them.

The node replicates transactions of SQLite databases. It knows nothing of keys, revisions or
leases: a ``Machine`` executes opaque commands in the leader's SQLite transaction, and is told on
every member when an entry has been applied.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Session(Protocol):
    """A SQLite connection as seen by SQL code above ``db`` (an ``apsw.Connection`` fits)."""

    def execute(
        self, statements: str, bindings: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> Iterable[tuple[Any, ...]]:
        """Run one statement lazily; iterate the result to its end or call ``fetchall``."""

    def changes(self) -> int:
        """Return the number of rows changed by the latest statement."""


class Command(Protocol):
    """What the node must know of a command besides handing it on."""

    @property
    def size_bytes(self) -> int:
        """Its size when serialised, for the bounds of queues and batches."""

    @property
    def leader_bound(self) -> bool:
        """Whether it rests on this very leadership, so that it must not be sent elsewhere."""


class Machine(Protocol):
    """The state machine kept in one database. Methods marked (writer) run on its writer thread
    inside a transaction, on the leader only; those marked (loop) run on the event loop."""

    def encode_command(self, command: Any) -> bytes:
        """(loop) Serialise a command for forwarding to the leader."""

    def decode_command(self, data: bytes) -> Any:
        """(loop) Inverse of ``encode_command``."""

    def encode_result(self, result: Any) -> bytes:
        """(loop) Serialise a result for the member that forwarded the command."""

    def decode_result(self, data: bytes) -> Any:
        """(loop) Inverse of ``encode_result``."""

    def open(self, session: Session) -> None:
        """(writer) Create the schema if absent and load counters from SQLite.

        Called in a transaction of its own before the first batch of each term and again after
        every rollback.
        """

    def execute(self, session: Session, command: Any) -> Any:
        """(writer) Execute one command inside its savepoint and return its result.

        Raises ``RequestRefused`` for a definite refusal: the savepoint is rolled back and the
        error becomes the command's answer. Must not commit, roll back or open savepoints that it
        does not close.
        """

    def mark(self) -> Any:
        """(writer) Return counters to restore if the savepoint is rolled back."""

    def restore(self, mark: Any) -> None:
        """(writer) Restore counters; pairs with ROLLBACK TO."""

    def note(self) -> bytes:
        """(writer) Return what ``applied`` needs on every member about this batch; <= 1 KiB."""

    def applied(self, index: int, note: bytes) -> None:
        """(loop) The entry at ``index`` is committed and its pages are visible to readers here.

        Called on every member in log order, on the leader too. Must be quick and not raise.
        """

    def before_apply(self, note: bytes) -> None:
        """(loop) The entry is committed and its pages are about to become visible here.

        Lets a compact revision be raised before the rows below it vanish.
        """

    def reloaded(self, session: Session) -> None:
        """(loop) State was replaced: after start-up replay or snapshot install. Read counters."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of the cluster, as replicated inside membership-change entries."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True, slots=True)
class Status:
    """A snapshot of this replica's consensus state."""

    member_id: int
    cluster_id: int
    leader_id: int  # 0 when none is known
    term: int
    last_index: int
    commit_index: int
    applied_index: int
    is_learner: bool
    db_size_bytes: int
    db_size_in_use_bytes: int


class LeadershipListener(Protocol):
    """Told on the event loop when this member may start or must stop leader-only work."""

    def leadership_started(self, term: int) -> None:
        """The no-op of this member's own term is committed and applied."""

    def leadership_stopped(self) -> None:
        """This member no longer leads, or can no longer be sure."""


class ReplicaPort(Protocol):
    """What kv, lease, watch, cluster and api use of a running replica. Event loop only."""

    @property
    def member_id(self) -> int:
        """This member's id."""

    @property
    def cluster_id(self) -> int:
        """The cluster's id."""

    @property
    def term(self) -> int:
        """The current Raft term."""

    @property
    def leader_id(self) -> int:
        """The leader known to this member, 0 if none."""

    @property
    def is_leader(self) -> bool:
        """Whether this member leads and has applied the no-op of its own term."""

    @property
    def is_learner(self) -> bool:
        """Whether this member is a learner."""

    @property
    def applied_index(self) -> int:
        """The last log index whose effect is visible to readers here."""

    def status(self) -> Status:
        """Return the current status."""

    def members(self) -> list[Member]:
        """Return the applied member list, ordered by id."""

    def write(self, command: Any) -> Awaitable[Any]:
        """Execute ``command`` on the leader and answer after Raft committed what it rests on.

        From a follower the command is forwarded, and the answer waits until the entry is applied
        here too. Raises ``RequestRefused`` (no effect) or ``OutcomeUnknown``. Never retried.
        """

    async def barrier(self) -> None:
        """Return when all writes acknowledged before this call are visible to readers here.

        Source: Raft dissertation section 6.4 (ReadIndex). Raises NoLeader, LeaderChanged or
        RequestTimeout.
        """

    async def read(self, query: Callable[[Session], T]) -> T:
        """Run ``query`` in one read transaction on a reader thread; may see speculation.

        ``query`` may run more than once (after an interruption), so it must have no effects.
        """

    def read_now(self, query: Callable[[Session], T]) -> T:
        """Like ``read`` but on the event loop: only for queries known to touch few rows."""

    async def read_gated(self, query: Callable[[Session], T]) -> T:
        """Like ``read``, but return only once everything ``query`` saw is committed."""

    async def call_leader(self, method: str, payload: bytes, timeout_s: float) -> bytes:
        """Run a registered call on the leader, here or over the peer connection."""

    def register_call(self, method: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Serve ``method`` for ``call_leader`` of other members; handlers check leadership."""

    def add_leadership_listener(self, listener: LeadershipListener) -> None:
        """Subscribe; told at once if this member already leads."""

    async def wait_applied(self, index: int) -> None:
        """Return when ``applied_index >= index``."""

    async def add_member(
        self, peer_urls: Sequence[str], *, is_learner: bool, name: str = "", token_id: str = ""
    ) -> Member:
        """Add a member through the leader; the answer waits until the change is applied here."""

    async def remove_member(self, member_id: int) -> None:
        """Remove a member."""

    async def promote_member(self, member_id: int) -> None:
        """Turn a caught-up learner into a voter."""

    async def update_member(
        self,
        member_id: int,
        *,
        peer_urls: Sequence[str] | None = None,
        name: str | None = None,
        client_urls: Sequence[str] | None = None,
    ) -> None:
        """Replace the given fields of a member record."""

    async def transfer_leadership(self, target_id: int) -> None:
        """Hand leadership to ``target_id`` (0: the most caught-up voter)."""

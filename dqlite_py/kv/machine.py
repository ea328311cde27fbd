"""The etcd state machine: executes commands on the leader, and knows on every member what is
committed.

Two sets of counters live here. The writer's run ahead with speculation and belong to the writer
thread. The committed ones move on the event loop when entries are applied; other threads may read
them, each being one attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dqlite_py import errors
from dqlite_py.kv import alarms, commands, compaction, leases, schema, txn
from dqlite_py.kv.alarms import Alarms
from dqlite_py.kv.commands import Command, Kind, Result
from dqlite_py.kv.note import MOST_LEASES, REVOKED, Note, decode, encode
from dqlite_py.kv.schema import EVERYTHING, FIRST_REVISION, NEVER_COMPACTED, get_meta
from dqlite_py.kv.store import View
from dqlite_py.kv.validation import has_put
from dqlite_py.kv.writes import Changes, revoke
from dqlite_py.node.contract import Session
from dqlite_py.pb import rpc_pb2

Mark = tuple[int, int, int, int, Alarms, bool]
LeaseChanges = Sequence[tuple[int, int]] | None

_GROWING = frozenset((Kind.PUT, Kind.TXN, Kind.LEASE_GRANT))
_STOPPED_BY_CORRUPTION = frozenset(Kind) - {Kind.ALARM, Kind.COMPACT_STEP}


class EtcdMachine:
    """State machine of the database that holds etcd's keys, leases and alarms."""

    def __init__(self) -> None:
        # The writer's, speculative.
        self._revision = FIRST_REVISION
        self._compact_revision = NEVER_COMPACTED
        self._compact_finished = NEVER_COMPACTED
        self._alarms: Alarms = frozenset()
        self._lease_changes: list[tuple[int, int]] = []
        self._alarms_changed = False
        # Committed, the event loop's.
        self.revision = FIRST_REVISION
        self.compact_revision = NEVER_COMPACTED
        self.compact_finished = NEVER_COMPACTED
        self.alarms: Alarms = frozenset()
        self.has_schema = False
        self._revision_listeners: list[Callable[[int], None]] = []
        self._lease_listeners: list[Callable[[LeaseChanges], None]] = []
        self._compaction_listeners: list[Callable[[], None]] = []
        self._execute: dict[Kind, Callable[[Session, Any], Any]] = {
            Kind.PUT: self._put,
            Kind.DELETE_RANGE: self._delete_range,
            Kind.TXN: self._txn,
            Kind.COMPACT: self._compact,
            Kind.COMPACT_STEP: self._compact_step,
            Kind.LEASE_GRANT: self._lease_grant,
            Kind.LEASE_REVOKE: self._lease_revoke,
            Kind.LEASE_EXPIRE: self._lease_revoke,
            Kind.ALARM: self._alarm,
        }

    # --- subscriptions (loop) ------------------------------------------------------------------
    def subscribe(self, callback: Callable[[int], None]) -> None:
        """Call ``callback(revision)`` when the committed revision has moved; it must be quick."""
        self._revision_listeners.append(callback)

    def subscribe_leases(self, callback: Callable[[LeaseChanges], None]) -> None:
        """Call back with committed lease changes, (id, ttl_s or REVOKED) in order.

        None in place of the changes means: too many to tell, read the table.
        """
        self._lease_listeners.append(callback)

    def subscribe_compaction(self, callback: Callable[[], None]) -> None:
        """Call back when a compact revision has been committed or its rows are all gone."""
        self._compaction_listeners.append(callback)

    # --- codec ---------------------------------------------------------------------------------
    def encode_command(self, command: Command) -> bytes:
        """Serialise a command for forwarding."""
        return commands.encode_command(command)

    def decode_command(self, data: bytes) -> Command:
        """Inverse of ``encode_command``."""
        return commands.decode_command(data)

    def encode_result(self, result: Result) -> bytes:
        """Serialise a result for the member that forwarded the command."""
        return commands.encode_result(result)

    def decode_result(self, data: bytes) -> Result:
        """Inverse of ``encode_result``."""
        return commands.decode_result(data)

    # --- writer --------------------------------------------------------------------------------
    def open(self, session: Session) -> None:
        """Create the schema if absent and take the counters from the tables."""
        schema.create(session)
        self._revision = schema.current_revision(session)
        self._compact_revision = get_meta(session, schema.COMPACT_REVISION, NEVER_COMPACTED)
        self._compact_finished = get_meta(session, schema.COMPACT_FINISHED, NEVER_COMPACTED)
        self._alarms = alarms.load(session)
        self._lease_changes = []
        self._alarms_changed = False

    def execute(self, session: Session, command: Command) -> Result:
        """Execute one command; raises RequestRefused without effect.

        A guarded command that is no longer wanted does nothing.

        Alarms gate here, on the leader, so that a request which any member let through while an
        alarm was on its way is refused all the same.
        """
        kind = command.kind
        if command.guard is not None and not command.guard():
            return Result(kind, rpc_pb2.LeaseRevokeResponse(header=self._header()))
        if self._alarms:
            self._check_alarms(kind, command.request)
        return Result(kind, self._execute[kind](session, command.request))

    def mark(self) -> Mark:
        """Return the writer's counters."""
        return (
            self._revision,
            self._compact_revision,
            self._compact_finished,
            len(self._lease_changes),
            self._alarms,
            self._alarms_changed,
        )

    def restore(self, mark: Mark) -> None:
        """Put the writer's counters back."""
        self._revision, self._compact_revision, self._compact_finished = mark[:3]
        del self._lease_changes[mark[3] :]
        self._alarms, self._alarms_changed = mark[4:]

    def note(self) -> bytes:
        """Return the counters after this batch and what it changed; starts the next batch."""
        changed, self._lease_changes = self._lease_changes, []
        alarms_changed, self._alarms_changed = self._alarms_changed, False
        return encode(
            Note(
                self._revision,
                self._compact_revision,
                self._compact_finished,
                tuple(changed) if len(changed) <= MOST_LEASES else None,
                self._alarms if alarms_changed else None,
            )
        )

    def _check_alarms(self, kind: Kind, request: object) -> None:
        raised = {alarm for _, alarm in self._alarms}
        if rpc_pb2.CORRUPT in raised and kind in _STOPPED_BY_CORRUPTION:
            raise errors.CorruptCluster
        if rpc_pb2.NOSPACE in raised and kind in _GROWING:
            if isinstance(request, rpc_pb2.TxnRequest) and not has_put(request):
                return
            raise errors.NoSpace

    def _put(self, session: Session, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        changes = Changes(session, self._revision)
        response = changes.put(request)
        self._revision = changes.revision
        return response

    def _delete_range(
        self, session: Session, request: rpc_pb2.DeleteRangeRequest
    ) -> rpc_pb2.DeleteRangeResponse:
        changes = Changes(session, self._revision)
        response = changes.delete_range(request)
        self._revision = changes.revision
        return response

    def _txn(self, session: Session, request: rpc_pb2.TxnRequest) -> rpc_pb2.TxnResponse:
        view = View(session, EVERYTHING, self._revision, self._compact_revision)
        changes = Changes(session, self._revision)
        response = txn.execute(view, changes, request)
        self._revision = changes.revision
        return response

    def _compact(
        self, session: Session, request: rpc_pb2.CompactionRequest
    ) -> rpc_pb2.CompactionResponse:
        compaction.schedule(session, request.revision, self._compact_revision, self._revision)
        self._compact_revision = request.revision
        return rpc_pb2.CompactionResponse(header=self._header())

    def _compact_step(
        self, session: Session, request: rpc_pb2.CompactionRequest
    ) -> rpc_pb2.CompactionResponse:
        if request.revision > self.compact_revision:  # the committed one, not the writer's
            raise errors.FutureRevision
        if compaction.step(session, request.revision):
            self._compact_finished = max(self._compact_finished, request.revision)
        return rpc_pb2.CompactionResponse(header=self._header())

    def _lease_grant(
        self, session: Session, request: rpc_pb2.LeaseGrantRequest
    ) -> rpc_pb2.LeaseGrantResponse:
        if leases.exists(session, request.ID):
            raise errors.LeaseExists
        leases.grant(session, request.ID, request.TTL)
        self._lease_changes.append((request.ID, request.TTL))
        return rpc_pb2.LeaseGrantResponse(header=self._header(), ID=request.ID, TTL=request.TTL)

    def _lease_revoke(
        self, session: Session, request: rpc_pb2.LeaseRevokeRequest
    ) -> rpc_pb2.LeaseRevokeResponse:
        changes = Changes(session, self._revision)
        revoke(changes, request.ID)
        self._revision = changes.revision
        self._lease_changes.append((request.ID, REVOKED))
        return rpc_pb2.LeaseRevokeResponse(header=self._header())

    def _alarm(self, session: Session, request: rpc_pb2.AlarmRequest) -> rpc_pb2.AlarmResponse:
        before = self._alarms
        self._alarms, answer = alarms.change(session, before, request)
        self._alarms_changed |= self._alarms != before
        response = rpc_pb2.AlarmResponse(header=self._header())
        response.alarms.extend(alarms.messages(answer))
        return response

    def _header(self) -> rpc_pb2.ResponseHeader:
        return rpc_pb2.ResponseHeader(revision=self._revision)

    # --- loop ----------------------------------------------------------------------------------
    def before_apply(self, note: bytes) -> None:
        """Raise the compact revision before rows below it can vanish from readers' sight."""
        self.compact_revision = max(self.compact_revision, decode(note).compact_revision)

    def applied(self, index: int, note: bytes) -> None:  # noqa: ARG002 (the contract's shape)
        """Move the committed state and tell subscribers."""
        news = decode(note)
        self.has_schema = True
        if news.alarms is not None:
            self.alarms = news.alarms
        self._advance(news.revision, news.compact_revision, news.compact_finished)
        if news.leases is None or news.leases:
            for tell_leases in self._lease_listeners:
                tell_leases(news.leases)

    def reloaded(self, session: Session) -> None:
        """Take the committed state from the tables after start-up or snapshot install."""
        self.has_schema = schema.exists(session)
        if not self.has_schema:
            return
        self.alarms = alarms.load(session)
        self._advance(
            schema.current_revision(session),
            get_meta(session, schema.COMPACT_REVISION, NEVER_COMPACTED),
            get_meta(session, schema.COMPACT_FINISHED, NEVER_COMPACTED),
        )
        for tell_leases in self._lease_listeners:
            tell_leases(None)

    def _advance(self, revision: int, compact_revision: int, compact_finished: int) -> None:
        compacting = compact_revision > compact_finished or compact_finished > self.compact_finished
        self.compact_revision = max(self.compact_revision, compact_revision)
        self.compact_finished = max(self.compact_finished, compact_finished)
        if revision > self.revision:
            self.revision = revision
            for tell_revision in self._revision_listeners:
                tell_revision(revision)
        if compacting:
            for tell_compaction in self._compaction_listeners:
                tell_compaction()

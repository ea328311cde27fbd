"""Put and delete: one request's changes, all under one main revision."""

from __future__ import annotations

from collections.abc import Iterable

from dqlite_py import errors
from dqlite_py.kv import leases, schema, store
from dqlite_py.kv.ranges import key_value
from dqlite_py.kv.schema import EVERYTHING, SUB_LIMIT, TOMBSTONE
from dqlite_py.kv.store import Row
from dqlite_py.node.contract import Session
from dqlite_py.pb import rpc_pb2


class Changes:
    """The changes of one request, on top of revision ``begin``.

    All of them share the main revision ``begin + 1`` and are numbered in the order made. Without
    a change there is no new revision.
    """

    __slots__ = ("_next_sub", "begin", "session")

    def __init__(self, session: Session, begin: int) -> None:
        self.session = session
        self.begin = begin
        self._next_sub = 0

    @property
    def revision(self) -> int:
        """The revision of the store with the changes made so far."""
        return self.begin + 1 if self._next_sub else self.begin

    def put(self, request: rpc_pb2.PutRequest) -> rpc_pb2.PutResponse:
        """Put one key; only the header's revision is set.

        Raises KeyNotFound (``ignore_value`` or ``ignore_lease`` on an absent key) or LeaseNotFound.
        A put without a lease detaches the key from the one it had (etcd behaviour).
        """
        session, key, lease = self.session, request.key, request.lease
        needs_value = request.prev_kv or request.ignore_value
        previous = store.find(session, key, EVERYTHING, with_value=needs_value)
        value: bytes | None = request.value
        if previous is None:
            if request.ignore_value or request.ignore_lease:
                if lease and not leases.exists(session, lease):
                    raise errors.LeaseNotFound
                raise errors.KeyNotFound
        else:
            if request.ignore_value:
                value = previous.value
            if request.ignore_lease:
                lease = previous.lease
        main = self.begin + 1
        row_id = self._next_id(0)
        if previous is None:
            self._move(key, 0, lease)
            store.insert(session, row_id, key, main, 1, lease, value)
        else:
            self._move(key, previous.lease, lease)
            created, version = previous.create_revision, previous.version + 1
            store.insert(session, row_id, key, created, version, lease, value)
        response = rpc_pb2.PutResponse()
        response.header.revision = main
        if request.prev_kv and previous is not None:
            response.prev_kv.CopyFrom(key_value(previous))
        return response

    def delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> rpc_pb2.DeleteRangeResponse:
        """Delete an interval in key order; only the header's revision is set."""
        rows = list(
            store.select(
                self.session,
                request.key,
                request.range_end,
                EVERYTHING,
                limit=SUB_LIMIT + 1,  # one too many is refused below, not left out
                with_value=request.prev_kv,
            )
        )
        self.delete(rows)
        response = rpc_pb2.DeleteRangeResponse(deleted=len(rows))
        response.header.revision = self.revision
        if request.prev_kv:
            response.prev_kvs.extend([key_value(row) for row in rows])
        return response

    def delete(self, rows: Iterable[Row]) -> None:
        """Write a tombstone for each of ``rows``, the current state of live keys."""
        for row in rows:
            if row.lease:
                leases.detach(self.session, row.lease, row.key)
            store.insert(self.session, self._next_id(TOMBSTONE), row.key, 0, 0, 0, None)

    def _next_id(self, tombstone: int) -> int:
        sub = self._next_sub
        if sub >= SUB_LIMIT:
            raise errors.RequestTooLarge
        self._next_sub = sub + 1
        return schema.row_id(self.begin + 1, sub, tombstone)

    def _move(self, key: bytes, old: int, new: int) -> None:
        if old == new:
            return
        if new and not leases.exists(self.session, new):
            raise errors.LeaseNotFound
        if old:
            leases.detach(self.session, old, key)
        if new:
            leases.attach(self.session, new, key)


def revoke(changes: Changes, lease: int) -> None:
    """Delete the keys attached to ``lease``, in key order, and forget the lease.

    Raises LeaseNotFound. One revision for all keys, none if there are none (etcd behaviour).
    """
    session = changes.session
    if not leases.exists(session, lease):
        raise errors.LeaseNotFound
    attached = leases.keys(session, lease)
    found = (store.find(session, key, EVERYTHING, with_value=False) for key in attached)
    changes.delete([row for row in found if row is not None])
    leases.remove(session, lease)

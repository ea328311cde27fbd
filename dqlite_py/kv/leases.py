"""The lease tables: which leases exist, with which TTL, and which keys hang on them.

TTLs are stored, deadlines never: a deadline means something only to the clock of one leader.
"""

from __future__ import annotations

from dqlite_py.kv.schema import first
from dqlite_py.node.contract import Session


def exists(session: Session, lease: int) -> bool:
    """Tell whether a lease has been granted and not revoked."""
    return first(session, "SELECT 1 FROM leases WHERE id=?", (lease,)) is not None


def ttl_s(session: Session, lease: int) -> int | None:
    """Return a lease's granted TTL in seconds, None if there is no such lease."""
    row = first(session, "SELECT ttl_s FROM leases WHERE id=?", (lease,))
    return None if row is None else int(row[0])


def load(session: Session) -> list[tuple[int, int]]:
    """Return all leases as (id, ttl_s), ordered by id."""
    return [(row[0], row[1]) for row in session.execute("SELECT id, ttl_s FROM leases ORDER BY id")]


def keys(session: Session, lease: int) -> list[bytes]:
    """Return the keys attached to a lease, in key order."""
    query = "SELECT key FROM lease_keys WHERE lease=? ORDER BY key"
    return [row[0] for row in session.execute(query, (lease,))]


def grant(session: Session, lease: int, ttl_s: int) -> None:
    """Record a lease; the caller has checked that its id is free."""
    list(session.execute("INSERT INTO leases(id, ttl_s) VALUES(?, ?)", (lease, ttl_s)))


def remove(session: Session, lease: int) -> None:
    """Forget a lease and its attachments."""
    list(session.execute("DELETE FROM lease_keys WHERE lease=?", (lease,)))
    list(session.execute("DELETE FROM leases WHERE id=?", (lease,)))


def attach(session: Session, lease: int, key: bytes) -> None:
    """Attach a key; the caller has checked that the lease exists."""
    list(session.execute("INSERT INTO lease_keys(lease, key) VALUES(?, ?)", (lease, key)))


def detach(session: Session, lease: int, key: bytes) -> None:
    """Detach a key from the lease that its latest row names."""
    list(session.execute("DELETE FROM lease_keys WHERE lease=? AND key=?", (lease, key)))

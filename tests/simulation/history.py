"""The store's whole history as the members show it, and what answers must agree with.

Every write gets a revision of its own, so revisions order all operations. An answer is right if it
is what the state at its revision gives, and the whole is linearizable if revisions never run
against real time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dqlite_py.kv import schema
from dqlite_py.node.contract import Session
from dqlite_py.pb import kv_pb2
from tests.simulation.consensus import require

_ROWS = (
    "SELECT id, key, create_revision, version, lease, value FROM revisions "
    "WHERE id>=? AND id<? ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class Change:
    """What one revision did to one key."""

    revision: int
    key: bytes
    value: bytes | None  # None: deleted
    create_revision: int
    version: int
    lease: int


def rows_between(session: Session, first: int, last: int) -> list[Change]:
    """Return the rows of revisions ``first`` to ``last`` that compaction has left."""
    found = []
    bounds = (first << schema.MAIN_SHIFT, (last + 1) << schema.MAIN_SHIFT)
    for row_id, key, create_revision, version, lease, value in session.execute(_ROWS, bounds):
        revision = row_id >> schema.MAIN_SHIFT
        if row_id & schema.TOMBSTONE:
            found.append(Change(revision, key, None, 0, 0, 0))
        else:
            found.append(Change(revision, key, value or b"", create_revision, version, lease))
    return found


def inside(key: bytes, first: bytes, end: bytes) -> bool:
    if not end:
        return key == first
    return key >= first and (end == b"\x00" or key < end)


class History:
    """Filled by whichever member applies a revision first; the others must agree."""

    def __init__(self) -> None:
        self.revision = schema.FIRST_REVISION
        self.changes: list[Change] = []
        self.by_revision: dict[int, list[Change]] = {}
        self.by_value: dict[bytes, int] = {}  # values of requests, each unique
        self.applied_s: dict[int, float] = {}
        self.on_change: Callable[[Change, float], None] | None = None
        self.compact_asked = schema.NEVER_COMPACTED  # the highest anybody has asked for
        self._revisions: list[int] = []  # of ``changes``
        self._by_key: dict[bytes, list[Change]] = {}
        self._waiting: list[tuple[int, Callable[[], None]]] = []

    # --- what members show -----------------------------------------------------------------------
    def shown(self, member: str, first: int, last: int, rows: list[Change], now_s: float) -> None:
        """A member has applied revisions ``first`` to ``last``."""
        for row in rows:
            if row.revision <= self.revision:
                require(
                    row in self.by_revision.get(row.revision, ()),
                    f"{member} has {row}, others {self.by_revision.get(row.revision)}",
                )
        for row in rows:
            if row.revision > self.revision:
                self._add(row, now_s)
        present = {row.revision for row in rows}
        for revision in range(max(first, self.revision + 1), last + 1):
            require(revision in present, f"{member} has nothing of revision {revision}")
        self._check_whole(member, first, rows)
        self.revision = max(self.revision, last)
        self._wake()

    def _check_whole(self, member: str, first: int, rows: list[Change]) -> None:
        """A revision above every compaction must be there with all its changes."""
        present: dict[int, int] = {}
        for row in rows:
            present[row.revision] = present.get(row.revision, 0) + 1
        for revision, count in present.items():
            if revision > max(self.compact_asked, first - 1):
                require(
                    count == len(self.by_revision[revision]),
                    f"{member} has {count} changes of revision {revision}",
                )

    def _add(self, row: Change, now_s: float) -> None:
        self._check_against_model(row)
        self.changes.append(row)
        self._revisions.append(row.revision)
        self.by_revision.setdefault(row.revision, []).append(row)
        self._by_key.setdefault(row.key, []).append(row)
        self.applied_s.setdefault(row.revision, now_s)
        if row.value is not None:
            require(row.value not in self.by_value, f"{row.value!r} was executed twice")
            self.by_value[row.value] = row.revision
        if self.on_change is not None:
            self.on_change(row, now_s)

    def _check_against_model(self, row: Change) -> None:
        """A change must be what etcd would make of it, given all changes before."""
        before = self._by_key.get(row.key, [])
        live = before[-1] if before and before[-1].value is not None else None
        if row.value is None:
            require(live is not None, f"revision {row.revision} deletes {row.key!r}: not there")
        elif live is None:
            expected = (row.revision, 1)
            require((row.create_revision, row.version) == expected, f"{row} is not a first version")
        else:
            expected = (live.create_revision, live.version + 1)
            require((row.create_revision, row.version) == expected, f"{row} after {live}")

    def when_known(self, revision: int, check: Callable[[], None]) -> None:
        """Run ``check`` once the history reaches ``revision``."""
        if revision <= self.revision:
            check()
        else:
            self._waiting.append((revision, check))

    def _wake(self) -> None:
        if not self._waiting:
            return
        ready = [check for revision, check in self._waiting if revision <= self.revision]
        self._waiting = [item for item in self._waiting if item[0] > self.revision]
        for check in ready:
            check()

    @property
    def unsettled(self) -> int:
        """Checks that wait for a revision nobody has shown."""
        return len(self._waiting)

    # --- the model -------------------------------------------------------------------------------
    def at(self, key: bytes, revision: int) -> Change | None:
        """Return the live version of a key at a revision."""
        versions = self._by_key.get(key, [])
        position = bisect_right(versions, revision, key=lambda change: change.revision)
        if position == 0 or versions[position - 1].value is None:
            return None
        return versions[position - 1]

    def interval(self, first: bytes, end: bytes, revision: int) -> list[Change]:
        """Return the live versions of an interval at a revision, by key."""
        keys = sorted(key for key in self._by_key if inside(key, first, end))
        found = (self.at(key, revision) for key in keys)
        return [change for change in found if change is not None]

    def between(self, first: bytes, end: bytes, low: int, high: int) -> list[Change]:
        """Return the changes of an interval from revision ``low`` to ``high``, in order."""
        start = bisect_right(self._revisions, low - 1)
        stop = bisect_right(self._revisions, high)
        return [c for c in self.changes[start:stop] if inside(c.key, first, end)]

    def check_pairs(
        self, what: str, pairs: Iterable[kv_pb2.KeyValue], first: bytes, end: bytes, revision: int
    ) -> None:
        """``pairs`` were read from an interval at ``revision``."""
        found = [as_change(pair) for pair in pairs]
        expected = self.interval(first, end, revision)
        require(
            found == expected,
            f"{what} at revision {revision}: {_short(found)} instead of {_short(expected)}",
        )


def as_change(pair: kv_pb2.KeyValue) -> Change:
    return Change(
        pair.mod_revision, pair.key, pair.value, pair.create_revision, pair.version, pair.lease
    )


def _short(changes: list[Change]) -> str:
    return str([(c.revision, c.key, (c.value or b"")[:24]) for c in changes])

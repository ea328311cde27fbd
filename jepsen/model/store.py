"""etcd's key-value store as a pure function of the writes before it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from jepsen.history import Operation

FIRST_REVISION = 1
"""The revision of an empty store."""

_mod_of = itemgetter(0)


@dataclass(frozen=True, slots=True)
class Pair:
    """A key with its value and all that etcd tells about them."""

    key: str
    value: str
    create_revision: int
    mod_revision: int
    version: int
    lease: int = 0

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Pair:
        """Return the pair of a kv object of a history."""
        return cls(
            fields["key"],
            fields.get("value", ""),
            fields["create_revision"],
            fields["mod_revision"],
            fields["version"],
            fields.get("lease", 0),
        )


@dataclass(frozen=True, slots=True)
class Change:
    """What one revision did to one key; ``after`` is None if it deleted the key."""

    key: str
    after: Pair | None
    before: Pair | None


@dataclass(frozen=True, slots=True)
class Txn:
    """A request of the kv workload in its general form."""

    compare: tuple[Sequence[Any], ...]
    success: tuple[Mapping[str, Any], ...]
    failure: tuple[Mapping[str, Any], ...]

    @property
    def may_write(self) -> bool:
        """Whether some outcome of the comparisons changes the store."""
        return any(op["op"] != "range" for op in (*self.success, *self.failure))


def txn_of(operation: Operation) -> Txn:
    """Return the request of a kv operation: one op, or a transaction."""
    request = operation.request
    if operation.f == "txn":
        return Txn(
            tuple(request.get("compare", ())),
            tuple(request.get("success", ())),
            tuple(request.get("failure", ())),
        )
    if operation.f == "compact":
        return Txn((), (), ())
    return Txn((), (request,), ())


def in_range(key: str, start: str, range_end: str | None) -> bool:
    """Return whether etcd's [start, range_end) contains a key."""
    if range_end is None or range_end == "":
        return key == start
    return key >= start and (range_end == "\0" or key < range_end)


class Store:
    """All versions of all keys, with the newest revision; can be rolled back."""

    def __init__(self, revision: int = FIRST_REVISION) -> None:
        self.revision = revision
        self.changes: dict[int, list[Change]] = {}
        self._versions: dict[str, list[tuple[int, Pair | None]]] = {}

    def get(self, key: str, revision: int | None = None) -> Pair | None:
        """Return a key as it was at a revision, by default now."""
        versions = self._versions.get(key)
        if not versions:
            return None
        if revision is None or versions[-1][0] <= revision:
            return versions[-1][1]
        place = bisect_right(versions, revision, key=_mod_of)
        return versions[place - 1][1] if place else None

    def pairs(self, start: str, range_end: str | None, revision: int | None = None) -> list[Pair]:
        """Return the pairs of a range at a revision, sorted by key."""
        if range_end is None or range_end == "":
            pair = self.get(start, revision)
            return [] if pair is None else [pair]
        names = sorted(key for key in self._versions if in_range(key, start, range_end))
        return [pair for key in names if (pair := self.get(key, revision)) is not None]

    def apply(self, txn: Txn, revision: int) -> tuple[bool, list[dict[str, Any]], list[Change]]:
        """Run a transaction; what it changes is at ``revision``, which then is the newest.

        Returns whether the comparisons held, the responses, and the changes. Without changes
        the store stays at its revision.
        """
        held = all(self._holds(comparison) for comparison in txn.compare)
        changes: list[Change] = []
        responses = [
            self._run(op, revision, changes) for op in (txn.success if held else txn.failure)
        ]
        if changes:
            self.revision = revision
            self.changes[revision] = changes
        return held, responses, changes

    def rollback(self, revision: int) -> None:
        """Forget all revisions after ``revision``."""
        for newer in [each for each in self.changes if each > revision]:
            for change in reversed(self.changes.pop(newer)):
                self._versions[change.key].pop()
        self.revision = revision

    def undo(self, revision: int) -> None:
        """Forget the newest revision, which is ``revision``."""
        for change in reversed(self.changes.pop(revision, [])):
            self._versions[change.key].pop()
        self.revision = revision - 1

    def _run(self, op: Mapping[str, Any], revision: int, changes: list[Change]) -> dict[str, Any]:
        if op["op"] == "put":
            before = self._put(op, revision, changes)
            return {"prev_kv": before if op.get("prev_kv") else None}
        if op["op"] == "delete":
            found = self.pairs(op["key"], op.get("range_end"))
            for pair in found:
                self._set(Change(pair.key, None, pair), revision, changes)
            return {"deleted": len(found), "prev_kvs": found if op.get("prev_kv") else []}
        return self._range(op)

    def _put(self, op: Mapping[str, Any], revision: int, changes: list[Change]) -> Pair | None:
        before = self.get(op["key"])
        pair = Pair(
            op["key"],
            op["value"],
            revision if before is None else before.create_revision,
            revision,
            1 if before is None else before.version + 1,
            op.get("lease", 0),
        )
        self._set(Change(pair.key, pair, before), revision, changes)
        return before

    def _set(self, change: Change, revision: int, changes: list[Change]) -> None:
        self._versions.setdefault(change.key, []).append((revision, change.after))
        changes.append(change)

    def _range(self, op: Mapping[str, Any]) -> dict[str, Any]:
        found = self.pairs(op["key"], op.get("range_end"), op.get("revision") or None)
        if op.get("count_only"):
            return {"kvs": [], "count": len(found), "more": False}
        limit = op.get("limit") or len(found)
        return {"kvs": found[:limit], "count": len(found), "more": len(found) > limit}

    def _holds(self, comparison: Sequence[Any]) -> bool:
        key, target, relation, operand = comparison
        pair = self.get(key)
        if target == "value":
            if pair is None:
                return False
            actual: Any = pair.value
        else:
            actual = 0 if pair is None else getattr(pair, FIELDS[target])
        if relation == "=":
            return bool(actual == operand)
        if relation == "!=":
            return bool(actual != operand)
        return bool(actual < operand) if relation == "<" else bool(actual > operand)


FIELDS = {
    "version": "version",
    "create": "create_revision",
    "mod": "mod_revision",
    "lease": "lease",
}
"""The field that each target of a comparison looks at."""


def same_response(op: Mapping[str, Any], expected: Mapping[str, Any], got: Any) -> bool:
    """Return whether an answer in a history is the one that the model gives."""
    if not isinstance(got, Mapping):
        return False
    if op["op"] == "put":
        return _same_pair(expected["prev_kv"], got.get("prev_kv"))
    if op["op"] == "delete":
        if expected["deleted"] != got.get("deleted"):
            return False
        return _same_pairs(expected["prev_kvs"], got.get("prev_kvs"))
    if expected["count"] != got.get("count") or expected["more"] != bool(got.get("more")):
        return False
    return _same_pairs(expected["kvs"], got.get("kvs"), with_value=not op.get("keys_only"))


def _same_pairs(expected: Sequence[Pair], got: Any, *, with_value: bool = True) -> bool:
    pairs = got or []
    return len(pairs) == len(expected) and all(
        _same_pair(pair, fields, with_value=with_value)
        for pair, fields in zip(expected, pairs, strict=True)
    )


def _same_pair(expected: Pair | None, got: Any, *, with_value: bool = True) -> bool:
    if expected is None or got is None:
        return expected is None and got is None
    return bool(
        got["key"] == expected.key
        and (not with_value or got.get("value", "") == expected.value)
        and got["create_revision"] == expected.create_revision
        and got["mod_revision"] == expected.mod_revision
        and got["version"] == expected.version
        and got.get("lease", 0) == expected.lease
    )

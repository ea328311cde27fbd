"""What a history tells about single revisions of the store, whoever wrote them.

Every pair that a client was shown names the revision that wrote it, so reads, previous pairs
and watch events say what happened at revisions whose writers never got an answer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jepsen.history import Operation
from jepsen.model.store import Pair, in_range, txn_of


class Evidence:
    """Pairs seen with their revisions, and spans in which a key was certainly not written."""

    def __init__(self) -> None:
        self.puts: dict[int, dict[str, Pair]] = {}
        self.deletes: dict[int, set[str]] = {}
        self._quiet: dict[str, list[tuple[int, int]]] = {}
        self._sorted = True

    def saw(self, fields: Mapping[str, Any], at: int, *, with_value: bool = True) -> None:
        """Note that a kv object was the newest version of its key at revision ``at``."""
        if with_value:
            pair = Pair.from_json(fields)
            self.puts.setdefault(pair.mod_revision, {})[pair.key] = pair
        self._quiet.setdefault(fields["key"], []).append((at, fields["mod_revision"]))
        self._sorted = False

    def saw_change(self, event: Mapping[str, Any]) -> None:
        """Note an event of a watch."""
        fields = event["kv"]
        if event["type"] == "delete":
            self.deletes.setdefault(fields["mod_revision"], set()).add(fields["key"])
        else:
            self.saw(fields, fields["mod_revision"])

    def allows_write(self, key: str, revision: int) -> bool:
        """Return whether a write of a key at a revision agrees with what was seen later."""
        if not self._sorted:
            for spans in self._quiet.values():
                spans.sort()
            self._sorted = True
        spans = self._quiet.get(key, [])
        place = bisect_left(spans, (revision, 0))
        return place == len(spans) or spans[place][1] >= revision

    @property
    def last_revision(self) -> int:
        """The newest revision of which anything is known."""
        return max((*self.puts, *self.deletes), default=0)


def collect(operations: Iterable[Operation]) -> Evidence:
    """Return what the answers of kv operations and the events of watches tell."""
    evidence = Evidence()
    for operation in operations:
        if operation.f == "watch":
            for event in watch_events(operation):
                evidence.saw_change(event)
        elif operation.is_ok and operation.f != "compact":
            _collect_answer(operation, evidence)
    return evidence


def watch_events(operation: Operation) -> Iterator[Mapping[str, Any]]:
    """Yield all events that a watch delivered."""
    for response in (operation.answer or {}).get("responses", ()):
        yield from response.get("events", ())


def _collect_answer(operation: Operation, evidence: Evidence) -> None:
    revision = operation.revision
    if revision is None:
        return
    txn = txn_of(operation)
    ops = txn.success if operation.answer.get("succeeded", True) else txn.failure
    # Inside a transaction that writes, a read may stand before or after the write.
    before = revision - 1 if any(op["op"] != "range" for op in ops) else revision
    for op, response in zip(ops, operation.answer["responses"], strict=False):
        if op["op"] == "range":
            for fields in response.get("kvs") or ():
                at = op.get("revision") or max(before, fields["mod_revision"])
                evidence.saw(fields, at, with_value=not op.get("keys_only"))
            continue
        previous = response.get("prev_kvs") or [response.get("prev_kv")]
        for fields in previous:
            if fields is not None and in_range(fields["key"], op["key"], op.get("range_end")):
                evidence.saw(fields, max(before, fields["mod_revision"]))

"""Watches: ordered, unique, atomic, complete, resumable, bookmarkable, with the right past.

The truth is the replay of all writes (see whole_store.py), to which the events that watchers saw
are evidence. Where the replay fails, the union of what the watchers saw takes its place, so that
watchers are at least held to each other, and the failure of the replay is reported as well.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jepsen.checkers.evidence import watch_events
from jepsen.checkers.result import Result, brief
from jepsen.checkers.whole_store import Replay
from jepsen.history import NEMESIS, NEVER, Event, Operation
from jepsen.model.store import Change, Pair, Store, in_range

EventKey = tuple[int, str]
"""The revision and the key of an event: there is one event for each."""


@dataclass(slots=True)
class Truth:
    """What happened: events in order, and the key's pair before and after each."""

    order: list[EventKey] = field(default_factory=list)
    changes: dict[EventKey, Change] = field(default_factory=dict)
    places: dict[EventKey, int] = field(default_factory=dict)
    """The place of each event within its revision, if it is known."""
    knows_past: bool = True

    def between(self, low: int, high: int) -> list[EventKey]:
        """Return the events with low <= revision <= high."""
        start = bisect_left(self.order, (low, ""))
        return self.order[start : bisect_right(self.order, (high + 1, ""))]


def truth_of_store(store: Store) -> Truth:
    """Return all that a replay explained; events of one revision in the order of its ops."""
    truth = Truth()
    for revision in sorted(store.changes):
        for place, change in enumerate(store.changes[revision]):
            truth.places[revision, change.key] = place
            truth.order.append((revision, change.key))
            truth.changes[revision, change.key] = change
    truth.order.sort()
    return truth


def truth_of_watchers(watches: Iterable[Operation]) -> Truth:
    """Return the union of what watchers saw."""
    truth = Truth(knows_past=False)
    for watch in watches:
        for event in watch_events(watch):
            key = _event_key(event)
            truth.changes.setdefault(key, _change(event))
    truth.order = sorted(truth.changes)
    return truth


def check_watches(
    operations: Sequence[Operation], events: Iterable[Event] = (), *, time_limit_s: float = 60.0
) -> Result:
    """Check every watch of a history against its writes, and the writes themselves.

    ``events`` is the whole history, which tells what fault injection compacted.
    """
    began_s = time.monotonic()
    replay = Replay(operations, time_limit_s=time_limit_s)
    result = replay.run()
    result.checker = "watch"
    watches = [each for each in operations if each.f == "watch" and each.answer is not None]
    truth = truth_of_store(replay.store) if replay.complete else truth_of_watchers(watches)
    compactions = find_compactions(operations, events)
    delivered = 0
    for watch in watches:
        checked = OneWatch(watch, truth, compactions, result)
        checked.check()
        delivered += checked.delivered
    result.operations += len(watches)
    result.stats.update(watches=len(watches), events=delivered, replayed=replay.complete)
    result.seconds = time.monotonic() - began_s
    return result


def find_compactions(
    operations: Iterable[Operation], events: Iterable[Event]
) -> list[tuple[int, int]]:
    """Return (index of the request, revision) of every compaction that was asked for."""
    by_clients = [(each.start, int(each.request)) for each in operations if each.f == "compact"]
    by_faults = [
        (event.index, int(event.value["detail"]))
        for event in events
        if event.process == NEMESIS and event.f == "compact"
    ]
    return by_clients + by_faults


class OneWatch:
    """The check of one watch, response by response."""

    def __init__(
        self,
        watch: Operation,
        truth: Truth,
        compactions: Sequence[tuple[int, int]],
        result: Result,
    ) -> None:
        self._watch = watch
        self._request: Mapping[str, Any] = watch.request
        self._truth = truth
        self._result = result
        end = watch.completion.index if watch.completion is not None else NEVER
        self._compacted = max(
            (revision for start, revision in compactions if start < end), default=0
        )
        self._start = int(self._request.get("start_revision") or 0)
        self._seen: list[EventKey] = []
        self._unique: set[EventKey] = set()
        self._bookmark = 0
        self._created_at: int | None = None
        self.delivered = 0

    def check(self) -> None:
        """Go through the responses, then compare the whole with the truth."""
        canceled = False
        for response in self._watch.answer.get("responses", ()):
            kind = response["kind"]
            if canceled:
                self._report("response after cancel", str(response))
            if kind == "created":
                if self._created_at is not None:
                    self._report("created twice", "")
                self._created_at = response["revision"]
            elif kind == "events":
                self._check_events(response)
            elif kind == "progress":
                self._check_progress(response)
            canceled = canceled or kind == "canceled"
            self._check_cancel(response)
        self._check_complete()

    def _check_events(self, response: Mapping[str, Any]) -> None:
        if self._created_at is None:
            self._report("events before created", brief(response))
        events = response["events"]
        if events and self._seen and _revision(events[0]) == self._seen[-1][0]:
            text = f"revision {self._seen[-1][0]} is in two responses"
            self._report("not atomic", text)
        for event in events:
            key = _event_key(event)
            self.delivered += 1
            if self._seen and self._comes_before(key, self._seen[-1]):
                self._report("not ordered", f"{key} after {self._seen[-1]}")
            if key in self._unique:
                self._report("not unique", f"{key} twice")
            if key[0] <= self._bookmark:
                text = f"{key} after a progress notice of {self._bookmark}"
                self._report("not bookmarkable", text)
            if key[0] < self._start:
                self._report("not resumable", f"{key} though asked for from {self._start}")
            if key[0] > response["revision"]:
                text = f"{key} in a response of revision {response['revision']}"
                self._report("event from the future", text)
            self._check_event(key, event)
            self._seen.append(key)
            self._unique.add(key)

    def _comes_before(self, key: EventKey, other: EventKey) -> bool:
        if key[0] != other[0]:
            return key[0] < other[0]
        places = self._truth.places
        return places.get(key, 0) < places.get(other, 0)

    def _check_event(self, key: EventKey, event: Mapping[str, Any]) -> None:
        request = self._request
        if not in_range(key[1], request["key"], request.get("range_end")):
            self._report("outside of the range", str(key))
        if f"no{event['type']}" in (request.get("filters") or ()):
            self._report("not filtered", str(key))
        true = self._truth.changes.get(key)
        if true is None:
            self._report("event that did not happen", brief(event))
            return
        deleted = event["type"] == "delete"
        shown = None if deleted else Pair.from_json(event["kv"])
        if shown != true.after:
            self._report("wrong event", f"{brief(event)} instead of {true.after}")
        if self._truth.knows_past:
            self._check_previous(key, event, true.before)

    def _check_previous(self, key: EventKey, event: Mapping[str, Any], before: Pair | None) -> None:
        shown = event.get("prev_kv")
        if not self._request.get("prev_kv"):
            if shown is not None:
                self._report("prev_kv not asked for", brief(event))
            return
        if shown is None:
            # A pair from before a compaction may be gone.
            if before is not None and self._compacted < key[0] - 1:
                self._report("prev_kv missing", f"{key}: {before}")
        elif before is None or Pair.from_json(shown) != before:
            self._report("wrong prev_kv", f"{key}: {brief(shown)} instead of {before}")

    def _check_progress(self, response: Mapping[str, Any]) -> None:
        revision = response["revision"]
        if self._seen and revision < self._seen[-1][0]:
            self._report("not bookmarkable", f"progress {revision} after {self._seen[-1]}")
        if revision < self._bookmark:
            self._report("not bookmarkable", f"progress {revision} after {self._bookmark}")
        if revision < self._start - 1:
            self._report("not bookmarkable", f"progress {revision} before {self._start}")
        self._bookmark = max(self._bookmark, revision)

    def _check_cancel(self, response: Mapping[str, Any]) -> None:
        compacted = response.get("compact_revision") or 0
        if response["kind"] != "canceled" or not compacted:
            return
        expected = max([self._start, *(revision + 1 for revision, _ in self._seen[-1:])])
        if compacted > self._compacted:
            text = f"of {compacted}, but nobody compacted above {self._compacted}"
            self._report("canceled for a compaction", text)
        elif expected >= compacted:
            text = f"of {compacted}, but it had come to {expected}"
            self._report("canceled for a compaction", text)

    def _check_complete(self) -> None:
        """Everything that matches between the start and the newest sign must have come."""
        low = self._start or self._implicit_start()
        until = int(self._watch.extra.get("until") or 0)
        high = max([self._bookmark, until, *(revision for revision, _ in self._seen[-1:])])
        if low is None or high < low:
            return
        expected = [key for key in self._truth.between(low, high) if self._matches(key)]
        missing = [key for key in expected if key not in self._unique]
        if missing:
            text = f"{len(missing)} events between {low} and {high} did not come: "
            self._report("not complete", text + brief(missing))

    def _implicit_start(self) -> int | None:
        """Return where a watch from now on began: after its creation, or at its first event."""
        if self._created_at is None:
            return None
        first = [revision for revision, _ in self._seen[:1]]
        return min([self._created_at + 1, *first])

    def _matches(self, key: EventKey) -> bool:
        request = self._request
        if not in_range(key[1], request["key"], request.get("range_end")):
            return False
        kind = "delete" if self._truth.changes[key].after is None else "put"
        return f"no{kind}" not in (request.get("filters") or ())

    def _report(self, kind: str, text: str) -> None:
        who = f"{self._request.get('watcher')} on {self._watch.node} from {self._start}"
        self._result.add(kind, f"{who}: {text}", self._watch)


def _revision(event: Mapping[str, Any]) -> int:
    return int(event["kv"]["mod_revision"])


def _event_key(event: Mapping[str, Any]) -> EventKey:
    return _revision(event), event["kv"]["key"]


def _change(event: Mapping[str, Any]) -> Change:
    after = None if event["type"] == "delete" else Pair.from_json(event["kv"])
    return Change(event["kv"]["key"], after, None)

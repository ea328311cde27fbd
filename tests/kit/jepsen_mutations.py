"""Spoils real histories in ways in which a store would be wrong."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jepsen.history import FAIL, OK, Event, Operation, pair, parse

DATA = Path(__file__).resolve().parent.parent / "jepsen" / "data"
SAMPLES = 40
READS = ("read", "range", "list")
Mutation = Callable[[random.Random, list[Event]], list[Event] | None]
"""Returns None if the history has no place for it."""


def real(workload: str) -> list[Event]:
    """The beginning of a history that our servers left."""
    return list(
        parse(gzip.decompress((DATA / f"{workload}.jsonl.gz").read_bytes()).decode().split("\n"))
    )


def changed(events: Sequence[Event], *edits: Event) -> list[Event]:
    """Return the history with some events in place of those with their indexes."""
    by_index = {event.index: event for event in edits}
    return [by_index.get(event.index, event) for event in events]


def only_reads(operation: Operation) -> bool:
    if operation.f == "txn" and isinstance(operation.request, list):
        return all(name == "r" for name, _, _ in operation.request)
    return operation.f in READS


def stale_answer(rng: random.Random, events: list[Event]) -> list[Event] | None:
    """A read repeats an old answer although a newer one was given in between."""
    groups: dict[str, list[Operation]] = {}
    for each in pair(events):
        if each.is_ok and only_reads(each) and not each.serializable:
            groups.setdefault(json.dumps([each.f, each.key, each.request]), []).append(each)
    places = []
    for group in groups.values():
        for _ in range(SAMPLES if len(group) > 2 else 0):
            old, between, new = sorted(rng.sample(group, 3), key=lambda each: each.start)
            apart = old.end < between.start and between.end < new.start
            if apart and old.answer not in (between.answer, new.answer):
                places.append((old, new))
    if not places:
        return None
    old, new = rng.choice(places)
    assert old.completion is not None
    assert new.completion is not None
    spoilt = replace(new.completion, value=old.completion.value, extra=old.completion.extra)
    return changed(events, spoilt)


def refused_write(rng: random.Random, events: list[Event]) -> list[Event] | None:
    """A client is told that its write did not happen, although others saw it."""
    shown = Counter(
        number
        for each in pair(events)
        if each.is_ok
        for number in set(re.findall(r"\b\d+\b", json.dumps(each.answer)))
    )
    places = []
    for each in pair(events):
        if not each.is_ok or only_reads(each) or not each.extra.get("succeeded", True):
            continue
        value = written_value(each)
        if value is not None and shown[value] > 1:
            places.append(each)
    if not places:
        return None
    completion = rng.choice(places).completion
    assert completion is not None
    return changed(events, replace(completion, type=FAIL, value=None, extra={}))


def written_value(operation: Operation) -> str | None:
    """Return a number that another answer has if and only if this write was seen."""
    request = operation.request
    if operation.f == "put":
        return str(operation.revision)
    if operation.f == "txn" and isinstance(request, list):
        return next((str(value) for name, _, value in request if name in ("append", "w")), None)
    return None


def lost_element(rng: random.Random, events: list[Event]) -> list[Event] | None:
    """A read lacks an element that a read before it had."""
    reads = [each for each in pair(events) if each.f == "read" and each.is_ok]
    places = [
        (new, element)
        for old in reads
        if isinstance(old.answer, list)
        for new in reads
        if new.key == old.key and old.end < new.start and not new.serializable
        for element in old.answer
    ]
    if not places:
        return None
    new, element = rng.choice(places)
    assert new.completion is not None
    return changed(events, replace(new.completion, value=[e for e in new.answer if e != element]))


def watch_response(
    rng: random.Random, events: list[Event], edit: Callable[[list[Any], int], None]
) -> list[Event] | None:
    """Edit the responses of a watch around an event that is neither its first nor its last."""
    places = []
    for event in events:
        if event.type == OK and event.f == "watch":
            rows = [i for i, r in enumerate(event.value["responses"]) if r["kind"] == "events"]
            places += [(event, row) for row in rows[1:-1] if row + 1 in rows]
    if not places:
        return None
    event, row = rng.choice(places)
    responses = list(event.value["responses"])
    edit(responses, row)
    return changed(events, replace(event, value={**event.value, "responses": responses}))


def dropped_response(rng: random.Random, events: list[Event]) -> list[Event] | None:
    return watch_response(rng, events, lambda responses, row: responses.pop(row))


def swapped_responses(rng: random.Random, events: list[Event]) -> list[Event] | None:
    def edit(responses: list[Any], row: int) -> None:
        responses[row : row + 2] = responses[row : row + 2][::-1]

    return watch_response(rng, events, edit)


def repeated_response(rng: random.Random, events: list[Event]) -> list[Event] | None:
    return watch_response(rng, events, lambda rs, row: rs.insert(row, rs[row]))


def vanished_key(rng: random.Random, events: list[Event]) -> list[Event] | None:
    """A key on a lease is not there, although it is seen afterwards."""
    seen = [each for each in pair(events) if each.f == "observe" and each.is_ok and each.answer]
    keys = {each.key for each in pair(events) if each.f == "put" and each.is_ok}
    places = [
        each
        for each in seen
        if each.key in keys and any(o.key == each.key and o.start > each.end for o in seen)
    ]
    if not places:
        return None
    completion = rng.choice(places).completion
    assert completion is not None
    return changed(events, replace(completion, value=None))

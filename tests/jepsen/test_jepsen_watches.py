from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from jepsen.checkers.watches import check_watches
from jepsen.history import INVOKE, OK, Event, pair
from tests.kit.jepsen_world import SmallStore, Weather, renumber, simulate, whole_store

Response = dict[str, Any]


def world(seed: int, count: int = 200, unknown: float = 0.05) -> tuple[list[Event], SmallStore]:
    """A history of writes, and the store behind it."""
    rng = random.Random(seed)
    asks = whole_store(rng, count)
    events = simulate(rng, asks, weather=Weather(unknown=unknown))
    return events, store_behind(seed, count, unknown)


def store_behind(seed: int, count: int, unknown: float) -> SmallStore:
    """Run the same simulation again, with a hand on its store."""
    rng = random.Random(seed)
    made: list[SmallStore] = []
    original = SmallStore.__init__

    def remember(store: SmallStore) -> None:
        original(store)
        made.append(store)

    SmallStore.__init__ = remember  # type: ignore[method-assign]
    try:
        simulate(rng, whole_store(rng, count), weather=Weather(unknown=unknown))
    finally:
        SmallStore.__init__ = original  # type: ignore[method-assign]
    return made[0]


def responses(
    store: SmallStore, start: int, end: int, key: str, range_end: str | None
) -> list[Response]:
    """What a correct watch says from one revision to another, with progress on the way."""
    found: list[Response] = [
        {"kind": "created", "revision": store.revision, "events": [], "compact_revision": 0}
    ]
    for revision in range(start, end + 1):
        events = [
            event
            for event in store.events
            if event["kv"]["mod_revision"] == revision
            and (event["kv"]["key"] == key or (range_end and key <= event["kv"]["key"] < range_end))
        ]
        if events:
            found.append(response("events", revision, events))
        if revision % 10 == 0:
            found.append(response("progress", revision, []))
    return found


def response(kind: str, revision: int, events: list[Any]) -> Response:
    return {"kind": kind, "revision": revision, "events": events, "compact_revision": 0}


def watch(
    events: list[Event], answers: list[Response], start: int, key: str = "k", end: str | None = "l",
    *, prev_kv: bool = True, name: str = "w", extra: dict[str, Any] | None = None,
) -> list[Event]:  # fmt: skip
    request = {
        "watcher": name, "key": key, "range_end": end, "start_revision": start, "prev_kv": prev_kv,
        "progress_notify": True, "filters": [],
    }  # fmt: skip
    value = {**request, "responses": answers}
    who = 90_000 + len(events)
    began = Event(0, 0, INVOKE, who, "watch", None, request, "n1")
    ended = Event(0, 0, OK, who, "watch", None, value, "n1", extra=extra or {})
    return renumber([*events, began, ended])


def kinds(events: list[Event]) -> set[str]:
    return check_watches(pair(events)).kinds()


@pytest.mark.parametrize("seed", range(4))
def test_watches_of_a_correct_store_pass(seed: int) -> None:
    events, store = world(seed)
    middle = store.revision // 2
    events = watch(events, responses(store, 2, middle, "k", "l"), 2)
    events = watch(events, responses(store, middle + 1, store.revision, "k", "l"), middle + 1)
    one = responses(store, 2, store.revision, "k3", None)
    events = watch(events, one, 2, "k3", None, extra={"until": store.revision})
    result = check_watches(pair(events))
    assert result.valid is True, result
    assert result.stats["events"] > 100
    assert result.stats["replayed"]


def rows(answers: list[Response], kind: str = "events") -> list[int]:
    return [place for place, each in enumerate(answers) if each["kind"] == kind]


def middle_of(places: list[int]) -> int:
    return places[len(places) // 2]


def swap(answers: list[Response]) -> None:
    place = next(p for p in rows(answers) if p > 20 and answers[p + 1]["kind"] == "events")
    answers[place : place + 2] = answers[place : place + 2][::-1]


def drop(answers: list[Response]) -> None:
    del answers[middle_of(rows(answers))]


def repeat(answers: list[Response]) -> None:
    place = middle_of(rows(answers))
    answers.insert(place, answers[place])


def split(answers: list[Response]) -> None:
    place = next(place for place in rows(answers) if len(answers[place]["events"]) > 1)
    first, *others = answers[place]["events"]
    halves = [{**answers[place], "events": half} for half in ([first], others)]
    answers[place : place + 1] = halves


def turn_around(answers: list[Response]) -> None:
    place = next(place for place in rows(answers) if len(answers[place]["events"]) > 1)
    answers[place] = {**answers[place], "events": answers[place]["events"][::-1]}


def promise_too_much(answers: list[Response]) -> None:
    place = middle_of(rows(answers))
    revision = answers[place]["revision"]
    answers.insert(place, response("progress", revision, []))


def with_previous(answers: list[Response]) -> tuple[int, dict[str, Any]]:
    return next(
        (place, answers[place]["events"][0])
        for place in rows(answers)
        if answers[place]["events"][0]["prev_kv"]
    )


def lose_previous(answers: list[Response]) -> None:
    place, event = with_previous(answers)
    answers[place]["events"] = [{**event, "prev_kv": None}, *answers[place]["events"][1:]]


def wrong_previous(answers: list[Response]) -> None:
    place, event = with_previous(answers)
    wrong = {**event["prev_kv"], "value": "other"}
    answers[place]["events"] = [{**event, "prev_kv": wrong}, *answers[place]["events"][1:]]


def before_the_start(answers: list[Response]) -> None:
    event = {"type": "delete", "kv": {"key": "k0", "mod_revision": 1}, "prev_kv": None}
    answers.insert(1, response("events", 1, [event]))


def invent(answers: list[Response]) -> None:
    place = middle_of(rows(answers))
    event = answers[place]["events"][0]
    kv = {"key": "kx", "mod_revision": event["kv"]["mod_revision"]}
    events = [*answers[place]["events"], {"type": "delete", "kv": kv, "prev_kv": None}]
    answers[place] = {**answers[place], "events": events}


def cancel_for_nothing(answers: list[Response]) -> None:
    answers.append({**response("canceled", 0, []), "compact_revision": 7})


def talk_after_the_end(answers: list[Response]) -> None:
    answers.insert(3, response("canceled", 0, []))


@pytest.mark.parametrize(
    ("mutation", "kind"),
    [
        (swap, "not ordered"),
        (turn_around, "not ordered"),
        (drop, "not complete"),
        (repeat, "not unique"),
        (split, "not atomic"),
        (promise_too_much, "not bookmarkable"),
        (lose_previous, "prev_kv missing"),
        (wrong_previous, "wrong prev_kv"),
        (before_the_start, "not resumable"),
        (invent, "event that did not happen"),
        (cancel_for_nothing, "canceled for a compaction"),
        (talk_after_the_end, "response after cancel"),
    ],
)
@pytest.mark.parametrize("seed", range(2))
def test_every_broken_promise_has_its_name(
    mutation: Callable[[list[Response]], None], kind: str, seed: int
) -> None:
    events, store = world(seed, 120, unknown=0.0)
    answers = responses(store, 2, store.revision, "k", "l")
    mutation(answers)
    assert kind in kinds(watch(events, answers, 2))


def test_an_event_that_no_watcher_saw_is_missed_all_the_same() -> None:
    events, store = world(1, 120, unknown=0.0)
    answers = responses(store, 2, store.revision, "k", "l")
    drop(answers)
    events = watch(watch(events, answers, 2), answers, 2)
    assert kinds(events) == {"not complete"}


def test_a_watch_that_was_waited_for_must_have_come_so_far() -> None:
    events, store = world(2, 120, unknown=0.0)
    answers = responses(store, 2, store.revision - 20, "k", "l")
    assert kinds(watch(events, answers, 2)) == set()
    late = watch(events, answers, 2, extra={"until": store.revision})
    assert kinds(late) == {"not complete"}


def test_a_compaction_excuses_a_missing_previous_pair() -> None:
    events, store = world(0, 120, unknown=0.0)
    answers = responses(store, 2, store.revision, "k", "l")
    lose_previous(answers)
    template = Event(0, 0, INVOKE, -2, "compact", None, store.revision, "n1")
    compaction = [template, replace(template, type=OK, extra={"revision": store.revision})]
    assert kinds(watch(renumber([*events, *compaction]), answers, 2)) == set()


def test_watchers_are_held_to_each_other_even_if_the_writes_are_wrong() -> None:
    events, store = world(1, 120, unknown=0.0)
    place = next(i for i, e in enumerate(events) if e.type == OK and e.f == "put")
    events[place] = replace(events[place], extra={"revision": store.revision + 50})
    answers = responses(store, 2, store.revision, "k", "l")
    short = responses(store, 2, store.revision, "k", "l")
    drop(short)
    assert "not complete" in kinds(watch(watch(events, answers, 2), short, 2))

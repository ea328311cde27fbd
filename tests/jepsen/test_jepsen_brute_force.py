"""The search against the definition: try every order of every subset."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import pytest

from jepsen.checkers.linearizable import check_registers
from jepsen.checkers.list_append import check_list_append
from jepsen.checkers.whole_store import check_store
from jepsen.history import FAIL, INFO, INVOKE, OK, Event, Operation, pair
from tests.kit.jepsen_world import SmallStore, Weather, simulate, whole_store

HISTORIES = 400


def random_history(rng: random.Random, count: int, *, revisions: bool) -> list[Operation]:
    """A few overlapping operations with answers that may or may not be possible."""
    moments = sorted((rng.random(), number) for number in range(count) for _ in range(2))
    kinds = [rng.choice(["read", "write", "cas"]) for _ in range(count)]
    asked: list[Any] = [
        {"read": None, "write": rng.randrange(3), "cas": [rng.randrange(3), rng.randrange(3)]}[kind]
        for kind in kinds
    ]
    events: list[Event] = []
    begun: set[int] = set()
    for _, number in moments:
        f, index = kinds[number], len(events)
        if number not in begun:
            begun.add(number)
            events.append(Event(index, index, INVOKE, number, f, "x", asked[number]))
            continue
        outcome = rng.choices([OK, INFO, FAIL], [8, 3, 1])[0]
        value, extra = asked[number], {}
        if f == "read":
            value = rng.choice([None, 0, 1, 2])
        if f == "cas":
            extra = {"succeeded": rng.random() < 0.6}
        if revisions and outcome == OK:
            extra = {**extra, "revision": rng.randrange(2, 5)}
        extra = extra if outcome == OK else {}
        events.append(Event(index, index, outcome, number, f, "x", value, extra=extra))
    return pair(events)


def possible(operations: list[Operation]) -> bool:
    """Return whether some order of the answered and some of the unknown operations is legal."""
    answered = [each for each in operations if each.is_ok]
    unknown = [each for each in operations if each.type == INFO and each.f != "read"]
    return any(
        legal(order)
        for count in range(len(unknown) + 1)
        for chosen in combinations(unknown, count)
        for order in permutations([*answered, *chosen])
    )


def legal(order: tuple[Operation, ...]) -> bool:
    value: int | None = None
    seen = 0
    for place, each in enumerate(order):
        if any(later.end < each.start for later in order[place + 1 :]):
            return False
        wrote = True
        if each.f == "write":
            value = each.request
        elif each.f == "read":
            wrote = False
            if each.answer != value:
                return False
        else:
            old, new = each.request
            succeeded = bool(each.extra.get("succeeded", True)) if each.is_ok else value == old
            if succeeded != (value == old):
                return False
            wrote = succeeded
            value = new if succeeded else value
        if each.revision is None:
            seen += wrote
        elif each.revision < seen + wrote:
            return False
        else:
            seen = each.revision
    return True


@pytest.mark.parametrize("revisions", [False, True])
@pytest.mark.parametrize("count", [3, 4, 5])
def test_the_search_agrees_with_the_definition(count: int, revisions: bool) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(HISTORIES):
        operations = random_history(random.Random(seed), count, revisions=revisions)
        expected = possible(operations)
        verdicts[expected] += 1
        assert check_registers(operations).valid is expected, (seed, operations)
    assert min(verdicts.values()) > HISTORIES / 50


def random_lists(rng: random.Random) -> list[Operation]:
    """Three or four transactions of which all reads are prefixes of one order."""
    order = {"x": [1, 2, 3], "y": [4, 5]}
    appends = [["append", key, value] for key, values in order.items() for value in values]
    rng.shuffle(appends)
    transactions: list[list[list[Any]]] = [[] for _ in range(rng.randint(3, 4))]
    for append in appends:
        rng.choice(transactions).append(append)
    for transaction in transactions:
        for key in rng.sample(["x", "y"], rng.randint(0, 2)):
            if all(name != key for _, name, _ in transaction):
                length = rng.randint(0, len(order[key]))
                transaction.insert(0, ["r", key, order[key][:length]])
    # Somebody must have read everything, or the order of the rest would be unknown.
    transactions.append([["r", key, values] for key, values in order.items()])
    events: list[Event] = []
    moments = sorted((rng.random(), n) for n in range(len(transactions)) for _ in range(2))
    begun: set[int] = set()
    for _, number in moments:
        kind = OK if number in begun else INVOKE
        begun.add(number)
        index = len(events)
        events.append(Event(index, index, kind, number, "txn", None, transactions[number]))
    return pair(events)


def serializable_lists(operations: list[Operation]) -> bool:
    return any(legal_lists(order) for order in permutations(operations))


def legal_lists(order: tuple[Operation, ...]) -> bool:
    lists: dict[str, list[int]] = {"x": [], "y": []}
    for place, each in enumerate(order):
        if any(later.end < each.start for later in order[place + 1 :]):
            return False
        for name, key, value in each.answer:
            if name == "append":
                lists[key] = [*lists[key], value]
            elif lists[key] != value:
                return False
    return True


def test_the_search_for_cycles_agrees_with_the_definition() -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(HISTORIES * 3):
        operations = random_lists(random.Random(seed))
        expected = serializable_lists(operations)
        verdicts[expected] += 1
        assert check_list_append(operations).valid is expected, (seed, operations)
    assert min(verdicts.values()) > 3


def random_store(rng: random.Random) -> list[Operation]:
    """A few operations of a correct store; one answer may be spoilt."""
    weather = Weather(unknown=0.35, refused=0.05, pause=0.1)
    events = simulate(rng, whole_store(rng, 6, keys=2), clients=4, weather=weather)
    answered = [event for event in events if event.type == OK]
    if answered and rng.random() < 0.8:
        event = rng.choice(answered)
        extra = {"revision": max(1, event.extra["revision"] + rng.choice([-1, 1]))}
        spoilt = replace(event, extra=extra)
        donors = [each for each in answered if each.f == event.f and each is not event]
        if donors and rng.random() < 0.5:
            spoilt = replace(event, value=rng.choice(donors).value)
        events[event.index] = spoilt
    return pair(events)


def possible_store(operations: list[Operation]) -> bool:
    answered = [each for each in operations if each.is_ok]
    unknown = [each for each in operations if each.type == INFO and each.f != "range"]
    return any(
        legal_store(order)
        for count in range(len(unknown) + 1)
        for chosen in combinations(unknown, count)
        for order in permutations([*answered, *chosen])
    )


def legal_store(order: tuple[Operation, ...]) -> bool:
    store = SmallStore()
    for place, each in enumerate(order):
        if any(later.end < each.start for later in order[place + 1 :]):
            return False
        request = each.request
        parts = ([], [request], []) if each.f != "txn" else tuple(request.values())
        value, extra = store.txn(*parts)
        if each.is_ok and (value != each.answer or extra["revision"] != each.revision):
            return False
    return True


def test_the_replay_agrees_with_the_definition() -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(HISTORIES):
        operations = random_store(random.Random(seed))
        expected = possible_store(operations)
        verdicts[expected] += 1
        assert check_store(operations).valid is expected, (seed, operations)
    assert min(verdicts.values()) > HISTORIES / 20

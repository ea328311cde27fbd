"""The check of read-write transactions against the definition: try every order."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

from jepsen.checkers.read_write import check_read_write
from jepsen.history import INFO, OK, Event, Operation, pair
from tests.kit.jepsen_world import Answer, Ask, Weather, simulate

HISTORIES = 1_000
Micro = list[list[Any]]


class Registers:
    """A correct store of transactions."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Any, int]] = {}
        self.revision = 1

    def run(self, asked: Micro) -> Answer:
        self.revision += any(name == "w" for name, _, _ in asked)
        answer: Micro = []
        mods: list[int | None] = []
        for name, key, value in asked:
            if name == "w":
                self.rows[key] = (value, self.revision)
            found, mod = self.rows.get(key, (None, 0))
            answer.append([name, key, found])
            mods.append(mod if name == "r" else None)
        return answer, {"revision": self.revision, "mod_revisions": mods}


def transactions(rng: random.Random) -> Iterator[Ask]:
    store = Registers()
    values = iter(range(100))
    for _ in range(5):
        asked: Micro = []
        for key in rng.sample("wxyz", rng.randint(1, 4)):
            asked.append(["w", key, next(values)] if rng.random() < 0.5 else ["r", key, None])
        yield Ask("txn", asked, lambda asked=asked: store.run(asked))


def random_transactions(rng: random.Random) -> list[Operation]:
    """A correct history; one read of it may show another version of its key."""
    weather = Weather(unknown=0.25, refused=0.05, pause=0.1)
    events = simulate(rng, transactions(rng), clients=4, weather=weather)
    reads = [
        (event, place)
        for event in events
        if event.type == OK
        for place, (name, _, _) in enumerate(event.value)
        if name == "r"
    ]
    if reads and rng.random() < 0.8:
        event, place = rng.choice(reads)
        key = event.value[place][1]
        events[event.index] = show(event, place, rng.choice([(None, 0), *versions(events, key)]))
    return pair(events)


def versions(events: list[Event], key: str) -> Iterator[tuple[Any, int]]:
    for event in events:
        if event.type == OK:
            for (name, k, value), mod in zip(
                event.value, event.extra["mod_revisions"], strict=True
            ):
                if k == key:
                    yield value, event.extra["revision"] if name == "w" else mod


def show(event: Event, place: int, version: tuple[Any, int]) -> Event:
    value = [list(each) for each in event.value]
    mods = list(event.extra["mod_revisions"])
    value[place][2], mods[place] = version
    return replace(event, value=value, extra={**event.extra, "mod_revisions": mods})


def possible(operations: list[Operation]) -> bool:
    answered = [each for each in operations if each.is_ok]
    unknown = [each for each in operations if each.type == INFO]
    return any(
        legal(order)
        for count in range(len(unknown) + 1)
        for chosen in combinations(unknown, count)
        for order in permutations([*answered, *chosen])
    )


def legal(order: tuple[Operation, ...]) -> bool:
    """Values alone: the revisions may only make the checker find more."""
    store = Registers()
    for place, each in enumerate(order):
        if any(later.end < each.start for later in order[place + 1 :]):
            return False
        answer, _ = store.run(each.request)
        if each.is_ok and answer != each.answer:
            return False
    return True


def test_every_impossible_history_is_found_and_no_correct_one_is_refused() -> None:
    impossible = 0
    for seed in range(HISTORIES):
        rng = random.Random(seed)
        correct = simulate(rng, transactions(rng), clients=4, weather=Weather(unknown=0.25))
        assert check_read_write(pair(correct)).valid is True, seed
        operations = random_transactions(random.Random(seed))
        if not possible(operations):
            impossible += 1
            assert check_read_write(operations).valid is False, (seed, operations)
    assert impossible > HISTORIES / 10

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from jepsen.checkers.list_append import check_list_append
from jepsen.checkers.read_write import check_read_write
from jepsen.checkers.result import Result
from jepsen.history import FAIL, INFO, INVOKE, OK, Event, pair
from tests.kit.jepsen_world import Answer, Ask, Weather, simulate

Micro = list[list[Any]]


def micro(text: str) -> Micro:
    """Parse ``ax1 rx[1,2]`` (append) or ``wx1 rx2 rx_`` (registers)."""
    found: Micro = []
    for part in text.split():
        name = {"a": "append", "r": "r", "w": "w"}[part[0]]
        rest = part[2:]
        if rest.startswith("["):
            value: Any = [int(each) for each in rest[1:-1].split(",") if each]
        else:
            value = None if rest == "_" else int(rest)
        found.append([name, part[1], value])
    return found


def together(*texts: str, outcomes: dict[int, str] | None = None, **extras: Any) -> list[Event]:
    """All transactions overlap."""
    events: list[Event] = []
    for process, text in enumerate(texts):
        asked = [[name, key, None if name == "r" else value] for name, key, value in micro(text)]
        events.append(Event(len(events), len(events), INVOKE, process, "txn", None, asked))
    for process, text in enumerate(texts):
        kind = (outcomes or {}).get(process, OK)
        value = micro(text) if kind == OK else None
        index = len(events)
        extra = extras.get(f"t{process}", {})
        events.append(Event(index, index, kind, process, "txn", None, value, extra=extra))
    return events


def one_by_one(*texts: str, outcomes: dict[int, str] | None = None) -> list[Event]:
    """Each transaction ends before the next begins; all from different processes."""
    events: list[Event] = []
    for process, text in enumerate(texts):
        kind = (outcomes or {}).get(process, OK)
        for event in together(text, outcomes={0: kind}):
            events.append(replace(event, index=len(events), process=process))
    return events


def append_kinds(events: list[Event]) -> set[str]:
    return check_list_append(pair(events)).kinds()


@pytest.mark.parametrize(
    ("events", "kinds"),
    [
        (together("ax1 rx[1]", "ax2", "rx[1,2]"), set()),
        (together("ax1 ay2", "ax2 ay1", "rx[1,2]", "ry[1,2]"), {"G0"}),
        (together("ax1 ry[1]", "ay1 rx[1]"), {"G1c"}),
        (together("ax1 ay1", "rx[1] ry[]"), {"G-single"}),
        (together("rx[] ay1", "ry[] ax1", "rx[1] ry[1]"), {"G2-item"}),
        (together("ax1", "rx[1]", outcomes={0: FAIL}), {"G1a"}),
        (together("ax1 ax2", "rx[1]", "rx[1,2]"), {"G1b", "G-single"}),
        (together("ax1", "rx[1,1]"), {"duplicate elements", "G-single"}),
        (together("rx[7]"), {"phantom"}),
        (together("ax1", "ax2", "rx[1,2]", "rx[2]"), {"incompatible order"}),
        (together("ax1 rx[]"), {"internal"}),
        (together("rx[1] rx[]", "ax1"), {"internal"}),
        (together("ax1", "ax2", "rx[1,2]", outcomes={0: FAIL}), {"G1a", "dirty update"}),
        (together("rx[] ax1", "rx[] ax2", "rx[1,2]"), {"lost update", "G-single"}),
        (together("ax1", "rx[1]", outcomes={0: INFO}), set()),
        (one_by_one("ax1", "rx[]"), {"G-single-realtime"}),
        (one_by_one("ax1", "rx[]", outcomes={0: INFO}), set()),
        (one_by_one("ax1", "rx[1]", "ax2", "rx[1]", "rx[1,2]"), {"G-single-realtime"}),
        (one_by_one("ax1", "ax2", "rx[2,1]"), {"G0-realtime"}),
        (one_by_one("rx[1]", "ax1"), {"phantom", "G1c-realtime"}),
    ],
)
def test_each_anomaly_of_lists_has_its_name(events: list[Event], kinds: set[str]) -> None:
    assert append_kinds(events) == kinds


def test_one_client_that_goes_back_in_time_breaks_the_order_of_its_process() -> None:
    events = together("ax1", "rx[1]")
    late = [replace(event, index=event.index + 4) for event in together("", "rx[]")[1::2]]
    assert append_kinds([*events, *late]) == {"G-single-process"}


def test_registers_are_ordered_by_revisions() -> None:
    read = {"revision": 3, "mod_revisions": [2, 0]}
    torn = together("wx1 wy1", "rx1 ry_", t0={"revision": 2}, t1=read)
    assert check_read_write(pair(torn)).kinds() == {
        "G-single", "wrong at its revision",
    }  # fmt: skip
    wrong = {"revision": 3, "mod_revisions": [3]}
    moved = together("wx1", "rx1", t0={"revision": 2}, t1=wrong)
    assert "incompatible order" in check_read_write(pair(moved)).kinds()
    aborted = together("wx1", "rx1", outcomes={0: FAIL}, t1={"revision": 2, "mod_revisions": [2]})
    assert "G1a" in check_read_write(pair(aborted)).kinds()
    late = one_by_one("wx1", "rx_")
    late[1] = replace(late[1], extra={"revision": 2})
    late[3] = replace(late[3], extra={"revision": 1, "mod_revisions": [0]})
    assert check_read_write(pair(late)).kinds() == {"G-single-realtime", "real-time order"}


class Lists:
    def __init__(self) -> None:
        self.lists: dict[str, list[int]] = {}

    def run(self, asked: Micro) -> Answer:
        answer = []
        for name, key, value in asked:
            values = self.lists.setdefault(key, [])
            if name == "append":
                values.append(value)
            answer.append([name, key, list(values) if name == "r" else value])
        return answer, {}


class Registers:
    def __init__(self) -> None:
        self.rows: dict[str, tuple[int, int]] = {}
        self.revision = 1

    def run(self, asked: Micro) -> Answer:
        answer, revisions = [], []
        revision = self.revision + any(name == "w" for name, _, _ in asked)
        for name, key, value in asked:
            if name == "w":
                self.rows[key] = (value, revision)
            found, mod = self.rows.get(key, (None, 0))
            answer.append([name, key, found])
            revisions.append(mod if name == "r" else None)
        self.revision = revision
        return answer, {"revision": revision, "mod_revisions": revisions}


def transactions(rng: random.Random, count: int, store: Any, write: str) -> Iterator[Ask]:
    fresh = iter(range(1 << 60))
    for number in range(count):
        asked: Micro = []
        for key in rng.sample(range(4), rng.randint(1, 4)):
            name = write if rng.random() < 0.5 else "r"
            # New keys from time to time, so that lists stay short.
            key_name = f"{number // 200}.{key}"
            asked.append([name, key_name, next(fresh) if name == write else None])
        yield Ask("txn", asked, lambda asked=asked: store.run(asked))


KINDS: dict[str, tuple[Callable[[], Any], str, Callable[..., Result]]] = {
    "lists": (Lists, "append", check_list_append),
    "registers": (Registers, "w", check_read_write),
}


def generated(kind: str, seed: int, count: int = 500) -> list[Event]:
    store, write, _ = KINDS[kind]
    rng = random.Random(seed)
    return simulate(rng, transactions(rng, count, store(), write), weather=Weather(unknown=0.1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_histories_of_a_correct_store_pass(kind: str, seed: int) -> None:
    result = KINDS[kind][2](pair(generated(kind, seed)))
    assert result.valid is True, result


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(8))
def test_a_read_from_the_past_is_found(kind: str, seed: int) -> None:
    """One read answers nothing, long after its key was written and read."""
    rng = random.Random(seed)
    events = generated(kind, seed)
    places = [
        (index, place)
        for index, event in enumerate(events)
        if event.type == OK and event.index % 400 > 200
        for place, (name, key, value) in enumerate(event.value)
        if name == "r" and value and [k for _, k, _ in event.value].count(key) == 1
    ]
    index, place = rng.choice(places)
    event = events[index]
    value = [list(each) for each in event.value]
    value[place][2] = [] if kind == "lists" else None
    extra = dict(event.extra)
    if kind == "registers":
        extra["mod_revisions"] = list(extra["mod_revisions"])
        extra["mod_revisions"][place] = 0
    events[index] = replace(event, value=value, extra=extra)
    assert KINDS[kind][2](pair(events)).valid is False


@pytest.mark.parametrize("kind", KINDS)
def test_five_thousand_transactions_take_seconds(kind: str) -> None:
    operations = pair(generated(kind, 1, 5_000))
    began_s = time.process_time()
    assert KINDS[kind][2](operations).valid is True
    assert time.process_time() - began_s < 15

from __future__ import annotations

from typing import Any

import pytest

from jepsen.checkers.linearizable import check_registers
from jepsen.checkers.set_full import check_sets
from jepsen.history import INFO, INVOKE, OK, Event, pair


def history(*lines: tuple[Any, ...]) -> list[Event]:
    """Each line: (f, request, answer, extra of the answer[, outcome]); one after the other."""
    events: list[Event] = []
    for process, (f, request, answer, extra, *outcome) in enumerate(lines):
        asked = {"serializable": True} if f == "stale" else {}
        f = "read" if f == "stale" else f
        kind = outcome[0] if outcome else OK
        index = len(events)
        events.append(Event(index, index, INVOKE, process, f, "x", request, extra=asked))
        told = answer if kind == OK else None
        events.append(Event(index + 1, index, kind, process, f, "x", told, extra=extra))
    return events


WRITES = [("write", 1, 1, {"revision": 2}), ("write", 2, 2, {"revision": 4})]


@pytest.mark.parametrize(
    ("value", "revision", "mod", "kinds"),
    [
        (2, 4, 4, set()),
        (1, 3, 2, set()),
        (1, 2, 2, set()),
        (None, 1, 0, set()),
        (1, 4, 2, {"wrong at its revision"}),
        (None, 2, 0, {"wrong at its revision"}),
        (2, 3, 2, {"wrong value"}),
        (3, 6, 5, {"never written"}),
        (1, 1, 2, {"impossible read"}),
    ],
)
def test_a_stale_read_shows_the_register_as_it_was(
    value: int | None, revision: int, mod: int, kinds: set[str]
) -> None:
    read = ("stale", None, value, {"revision": revision, "mod_revision": mod})
    assert check_registers(pair(history(*WRITES, read))).kinds() == kinds


def test_a_stale_read_may_show_an_unknown_write_but_nothing_that_comes_later() -> None:
    read = ("stale", None, 3, {"revision": 5, "mod_revision": 5})
    unknown = ("write", 3, None, {}, INFO)
    assert check_registers(pair(history(*WRITES, unknown, read))).kinds() == set()
    assert check_registers(pair(history(*WRITES, read, unknown))).kinds() == {"never written"}
    known = ("write", 3, 3, {"revision": 5})
    assert check_registers(pair(history(*WRITES, read, known))).kinds() == {"read from the future"}


def test_stale_reads_are_counted() -> None:
    old = ("stale", None, 1, {"revision": 2, "mod_revision": 2})
    result = check_registers(pair(history(*WRITES, old)))
    assert result.stats["stale_serializable_reads"] == 1


def test_a_set_is_what_its_revision_says() -> None:
    adds = [("add", 1, 1, {"revision": 2}), ("add", 2, 2, {"revision": 3})]

    def kinds(f: str, elements: list[int], revision: int) -> set[str]:
        read = (f, None, elements, {"revision": revision})
        return check_sets(pair(history(*adds, read))).kinds()

    assert kinds("stale", [1], 2) == set()
    assert kinds("stale", [1], 3) == {"wrong at its revision"}
    assert kinds("stale", [1, 2], 2) == {"wrong at its revision"}
    assert kinds("read", [1, 2], 3) == set()
    assert kinds("read", [1], 2) == {"lost", "real-time order"}

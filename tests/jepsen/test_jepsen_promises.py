"""Sets, banks, locks and leases."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from jepsen.checkers.bank import check_bank
from jepsen.checkers.leases import check_leases
from jepsen.checkers.locks import check_locks
from jepsen.checkers.set_full import check_sets
from jepsen.history import FAIL, INFO, INVOKE, NEMESIS, OK, Event, Operation, pair
from tests.kit.jepsen_world import Answer, Ask, Weather, simulate

SECOND_NS = 1_000_000_000


class Log:
    """Writes a history by hand, one operation after the other, one second each."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.now_s = 0.0
        self._process = 0

    def do(
        self,
        f: str,
        request: Any = None,
        answer: Any = None,
        *,
        key: str | None = None,
        kind: str = OK,
        process: int | None = None,
        takes_s: float = 0.0,
        **extra: Any,
    ) -> None:
        self._process += 1
        who = self._process if process is None else process
        for event_type, value in ((INVOKE, request), (kind, answer)):
            index = len(self.events)
            at_ns = int(self.now_s * SECOND_NS)
            more = extra if event_type == kind else {}
            self.events.append(Event(index, at_ns, event_type, who, f, key, value, extra=more))
            self.now_s += takes_s if event_type == INVOKE else 0

    def fault(self) -> None:
        at_ns = int(self.now_s * SECOND_NS)
        self.events.append(Event(len(self.events), at_ns, INFO, NEMESIS, "stop", value={}))

    @property
    def operations(self) -> list[Operation]:
        return pair(self.events)


def sets(*lines: tuple[Any, ...]) -> set[str]:
    log = Log()
    for f, value, *kind in lines:
        log.do(
            f, *((value, value) if f == "add" else (None, value)), key="s", kind=(kind or [OK])[0]
        )
    return check_sets(log.operations).kinds()


def test_elements_of_sets_are_kept() -> None:
    assert sets(("add", 1), ("read", [1]), ("add", 2), ("read", [2, 1])) == set()
    assert sets(("add", 1), ("read", [])) == {"lost"}
    assert sets(("add", 1), ("read", []), ("read", [1])) == {"stale"}
    assert sets(("add", 1, INFO), ("read", [1]), ("read", []), ("read", [])) == {"lost"}
    assert sets(("add", 1, INFO), ("read", []), ("read", [1])) == set()
    assert sets(("add", 1), ("read", [1, 1])) == {"duplicated"}
    assert sets(("read", [1]), ("add", 1)) == {"phantom"}
    assert sets(("add", 1, FAIL), ("read", [1])) == {"aborted"}


def test_an_element_that_nobody_could_read_is_only_counted() -> None:
    log = Log()
    log.do("read", None, [], key="s")
    log.do("add", 1, 1, key="s")
    result = check_sets(log.operations)
    assert result.valid is True
    assert result.stats["never_read"] == 1


def set_asks(rng: random.Random, count: int) -> Iterator[Ask]:
    elements: set[int] = set()

    def add(element: int) -> Answer:
        elements.add(element)
        return element, {}

    for number in range(count):
        if rng.random() < 0.7:
            yield Ask("add", number, lambda number=number: add(number), "s")
        else:
            yield Ask("read", None, lambda: (sorted(elements), {}), "s")


@pytest.mark.parametrize("seed", range(5))
def test_a_generated_set_passes_until_a_known_element_is_taken_away(seed: int) -> None:
    rng = random.Random(seed)
    events = simulate(rng, set_asks(rng, 400), weather=Weather(unknown=0.1))
    assert check_sets(pair(events)).valid is True
    reads = [place for place, e in enumerate(events) if e.type == OK and e.f == "read" and e.value]
    place = rng.choice(reads[len(reads) // 2 :])
    # Whatever a read at the beginning saw is known by now.
    element = events[reads[0]].value[0]
    events[place] = replace(events[place], value=[e for e in events[place].value if e != element])
    assert check_sets(pair(events)).valid is False


def test_money_is_neither_made_nor_lost() -> None:
    log = Log()
    log.do("read", None, {"a": 5, "b": 5})
    log.do("transfer", {"from": "a", "to": "b", "amount": 3}, succeeded=True)
    log.do("read", None, {"a": 2, "b": 8})
    assert check_bank(log.operations).valid is True
    log.do("read", None, {"a": 2, "b": 5})
    log.do("read", None, {"a": -1, "b": 11})
    log.do("read", None, {"a": 10})
    assert check_bank(log.operations).kinds() == {
        "wrong total", "negative balance", "wrong accounts",
    }  # fmt: skip
    assert check_bank([]).valid == "unknown"


def hold(log: Log, f: str, token: int, process: int) -> None:
    held = {"lock_key": f"l/{token}", "token": token}
    log.do(f, None if f == "acquire" else held, held, key="l", process=process)


def fenced(log: Log, token: int, process: int, revision: int, *, succeeded: bool = True) -> None:
    value = {"lock": "l", "lock_key": f"l/{token}", "token": token, "value": 1}
    log.do("fenced", value, value, key="x", process=process, revision=revision, succeeded=succeeded)


def test_a_fence_keeps_old_holders_out() -> None:
    log = Log()
    hold(log, "acquire", 5, 1)
    fenced(log, 5, 1, 6)
    hold(log, "acquire", 7, 2)
    fenced(log, 5, 1, 8, succeeded=False)
    fenced(log, 7, 2, 9)
    result = check_locks(log.operations)
    assert result.valid is True
    assert result.stats["overlapping_holds"] == 1
    fenced(log, 5, 1, 10)
    assert check_locks(log.operations).kinds() == {"write after loss", "token went back"}


def test_a_released_lock_guards_nothing_and_a_token_has_one_owner() -> None:
    log = Log()
    hold(log, "acquire", 5, 1)
    hold(log, "release", 5, 1)
    fenced(log, 5, 1, 9)
    assert check_locks(log.operations).kinds() == {"write after release"}
    hold(log, "acquire", 5, 2)
    assert "one token for two holders" in check_locks(log.operations).kinds()


def lease(ttl_s: int = 2) -> Log:
    log = Log()
    log.do("grant", {"id": "1", "ttl_s": ttl_s}, {"id": "1", "ttl_s": ttl_s})
    log.do("put", {"id": "1", "value": "v"}, key="a", revision=2)
    return log


def keepalive(log: Log, ttl_s: int = 2, **more: Any) -> None:
    log.do("keepalive", {"id": "1"}, {"id": "1", "ttl_s": ttl_s}, **more)


def observe(log: Log, there: bool, key: str = "a", revision: int | None = None) -> None:
    extra = {} if revision is None else {"revision": revision}
    log.do("observe", None, {"key": key} if there else None, key=key, **extra)


def lease_kinds(log: Log, **options: Any) -> set[str]:
    return check_leases(log.operations, log.events, **options).kinds()


def test_a_lease_lives_for_its_ttl_after_the_last_renewal() -> None:
    log = lease()
    log.now_s = 1.9
    observe(log, there=False)
    assert lease_kinds(log) == {"expired early"}
    assert lease_kinds(log, early_s=0.2) == set()
    log = lease()
    log.now_s = 1.5
    keepalive(log)
    log.now_s = 3.0
    observe(log, there=False)
    assert lease_kinds(log) == {"expired early"}
    log = lease()
    log.now_s = 2.1
    observe(log, there=False)
    keepalive(log, ttl_s=0)
    assert lease_kinds(log) == set()


def test_a_renewal_that_took_long_promises_only_from_when_it_was_asked_for() -> None:
    log = lease()
    log.now_s = 1.0
    keepalive(log, takes_s=1.5)
    log.now_s = 3.1
    observe(log, there=False)
    assert lease_kinds(log) == set()


def test_a_lease_does_not_come_back() -> None:
    log = lease()
    log.now_s = 4
    keepalive(log, ttl_s=0)
    keepalive(log, ttl_s=2)
    assert lease_kinds(log) == {"revived"}


def test_a_lease_ends_within_a_bound() -> None:
    log = lease()
    log.now_s = 11.9
    observe(log, there=True)
    assert lease_kinds(log) == set()
    log.now_s = 12.1
    observe(log, there=True)
    assert lease_kinds(log) == {"kept past expiry"}


def test_a_fault_or_a_renewal_of_unknown_outcome_gives_the_lease_more_time() -> None:
    for more in (Log.fault, lambda log: keepalive(log, kind=INFO)):
        log = lease()
        log.now_s = 9.0
        more(log)
        log.now_s = 20.0
        observe(log, there=True)
        assert lease_kinds(log) == set()
        log.now_s = 21.5
        observe(log, there=True)
        assert lease_kinds(log) == {"kept past expiry"}


def test_a_revoked_lease_is_gone_at_once() -> None:
    log = lease()
    log.do("revoke", {"id": "1"}, {"id": "1"})
    observe(log, there=False)
    assert lease_kinds(log) == set()
    observe(log, there=True)
    assert lease_kinds(log) == {"alive after revoke"}


def test_nothing_can_be_put_on_a_lease_that_is_gone() -> None:
    log = lease()
    log.do("revoke", {"id": "1"}, {"id": "1"})
    log.do("put", {"id": "1", "value": "v"}, key="b", revision=9)
    assert lease_kinds(log) == {"alive after revoke"}


def test_the_keys_of_a_lease_go_together() -> None:
    log = lease()
    log.do("put", {"id": "1", "value": "v"}, key="b", revision=3)
    log.now_s = 3.0
    observe(log, there=False, key="a", revision=4)
    observe(log, there=True, key="b", revision=4)
    assert lease_kinds(log) == {"torn expiry"}


def test_a_grant_is_not_shorter_than_asked_for() -> None:
    log = Log()
    log.do("grant", {"id": "1", "ttl_s": 5}, {"id": "1", "ttl_s": 2})
    assert lease_kinds(log) == {"granted for less"}

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

import pytest

from jepsen.checkers.linearizable import check_membership, check_partitions, check_registers
from jepsen.history import FAIL, INFO, INVOKE, OK, Event, Operation, pair
from jepsen.model.members import Membership
from tests.kit.jepsen_world import Weather, registers, simulate

Line = tuple[Any, ...]


def history(*lines: Line) -> list[Operation]:
    """Each line: (type, process, f, value) and, for answers with a revision, its extra."""
    return pair(
        Event(index, index, kind, process, f, "x", value, extra=extra[0] if extra else {})
        for index, (kind, process, f, value, *extra) in enumerate(lines)
    )


def verdict(*lines: Line) -> bool | str:
    return check_registers(history(*lines)).valid


def test_a_read_after_a_write_sees_it() -> None:
    write = [(INVOKE, 0, "write", 1), (OK, 0, "write", 1)]
    assert verdict(*write, (INVOKE, 1, "read", None), (OK, 1, "read", 1)) is True
    assert verdict(*write, (INVOKE, 1, "read", None), (OK, 1, "read", None)) is False


def test_concurrent_operations_take_effect_in_any_order() -> None:
    for seen in (None, 1):
        assert verdict(
            (INVOKE, 0, "write", 1), (INVOKE, 1, "read", None), (OK, 1, "read", seen),
            (OK, 0, "write", 1),
        ) is True  # fmt: skip


def test_reads_do_not_go_back() -> None:
    write = (INVOKE, 0, "write", 1)
    new = [(INVOKE, 1, "read", None), (OK, 1, "read", 1)]
    old = [(INVOKE, 2, "read", None), (OK, 2, "read", None)]
    assert verdict(write, *old, *new) is True
    assert verdict(write, *new, *old) is False


def test_an_unknown_write_takes_effect_late_or_never_but_once() -> None:
    unknown = [(INVOKE, 0, "write", 1), (INFO, 0, "write", None)]
    other = [(INVOKE, 1, "write", 2), (OK, 1, "write", 2)]

    def read(value: int | None) -> list[Line]:
        return [(INVOKE, 2, "read", None), (OK, 2, "read", value)]

    assert verdict(*unknown, *read(None), *other, *read(2), *read(1)) is True
    assert verdict(*unknown, *read(None), *other, *read(2)) is True
    assert verdict(*unknown, *read(1), *other, *read(1)) is False


def test_a_refused_write_is_never_seen() -> None:
    refused = [(INVOKE, 0, "write", 1), (FAIL, 0, "write", None)]
    assert verdict(*refused, (INVOKE, 1, "read", None), (OK, 1, "read", 1)) is False


def test_only_one_of_two_swaps_from_the_same_value_succeeds() -> None:
    write = [(INVOKE, 0, "write", 1), (OK, 0, "write", 1)]

    def swaps(*, second: bool) -> list[Line]:
        return [
            (INVOKE, 0, "cas", [1, 2]),
            (INVOKE, 1, "cas", [1, 3]),
            (OK, 0, "cas", [1, 2], {"succeeded": True}),
            (OK, 1, "cas", [1, 3], {"succeeded": second}),
        ]

    assert verdict(*write, *swaps(second=False)) is True
    assert verdict(*write, *swaps(second=True)) is False


def test_a_failed_comparison_must_be_explained() -> None:
    write = [(INVOKE, 0, "write", 1), (OK, 0, "write", 1)]
    failed = [(INVOKE, 0, "cas", [1, 2]), (OK, 0, "cas", [1, 2], {"succeeded": False})]
    assert verdict(*write, *failed) is False


def test_revisions_order_what_values_alone_would_allow() -> None:
    lines: list[Line] = [
        (INVOKE, 0, "write", 1), (INVOKE, 1, "write", 1),
        (OK, 0, "write", 1, {"revision": 2}), (OK, 1, "write", 1, {"revision": 3}),
        (INVOKE, 2, "read", None),
    ]  # fmt: skip
    good = (OK, 2, "read", 1, {"revision": 3, "mod_revision": 3})
    stale = (OK, 2, "read", 1, {"revision": 2, "mod_revision": 2})
    assert verdict(*lines, good) is True
    assert verdict(*lines, stale) is False


def test_revisions_order_operations_of_different_keys_too() -> None:
    told = [("a", "write", 3), ("b", "read", 2)]
    events = []
    for process, (key, f, revision) in enumerate(told):
        value = 1 if f == "write" else None
        extra = {"revision": revision, "mod_revision": 0}
        index = len(events)
        events.append(Event(index, index, INVOKE, process, f, key, value))
        events.append(Event(index + 1, index, OK, process, f, key, value, extra=extra))
    assert check_registers(pair(events)).kinds() == {"real-time order"}


def test_the_violation_names_the_answer_that_nothing_explains() -> None:
    result = check_registers(
        history(
            (INVOKE, 0, "write", 1), (OK, 0, "write", 1),
            (INVOKE, 1, "read", None), (OK, 1, "read", 7),
        )
    )  # fmt: skip
    (violation,) = result.violations
    assert {2, 3} <= set(violation.indexes)
    assert "7" in violation.message


@pytest.mark.parametrize("revisions", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_histories_of_a_correct_store_pass(seed: int, revisions: bool) -> None:
    rng = random.Random(seed)
    events = simulate(rng, registers(rng, 400, keys=4), weather=Weather(unknown=0.06))
    operations = pair(events if revisions else map(without_revision, events))
    result = check_registers(operations)
    assert result.valid is True, result
    assert result.operations > 300


def without_revision(event: Event) -> Event:
    kept = {name: value for name, value in event.extra.items() if name == "succeeded"}
    return replace(event, extra=kept)


@pytest.mark.parametrize("seed", range(12))
def test_a_read_of_a_value_from_the_past_is_found(seed: int) -> None:
    rng = random.Random(seed)
    events = simulate(rng, registers(rng, 400, keys=4, unique=True))
    operations = pair(events)
    stale = make_stale(rng, operations)
    assert check_registers(stale).valid is False


def make_stale(rng: random.Random, operations: list[Operation]) -> list[Operation]:
    """Let one read answer as if it had been asked before a write that had ended already."""
    reads = [place for place, each in enumerate(operations) if each.f == "read" and each.is_ok]
    rng.shuffle(reads)
    for place in reads:
        read = operations[place]
        mod = read.extra["mod_revision"]
        writes = [
            each
            for each in operations
            if each.key == read.key and each.is_ok and each.f == "write" and each.end < read.start
        ]
        older = [each for each in writes if each.revision is not None and each.revision < mod]
        if len(older) > 1:
            chosen = older[0]
            assert read.completion is not None
            value = chosen.request
            lie = replace(read.completion, value=value, extra={})
            plain = [Operation(each.invocation, each.completion) for each in operations]
            plain[place] = Operation(read.invocation, lie)
            return plain
    raise AssertionError("no read to spoil")


def test_many_unknown_operations_of_one_key_do_not_explode() -> None:
    rng = random.Random(5)
    weather = Weather(unknown=0.3)
    events = simulate(rng, registers(rng, 600, keys=1), clients=10, weather=weather)
    began_s = time.process_time()
    assert check_registers(pair(events), time_limit_s=20).valid is True
    assert time.process_time() - began_s < 5


def test_a_search_that_takes_too_long_is_unknown() -> None:
    rng = random.Random(1)
    operations = pair(simulate(rng, registers(rng, 100)))
    result = check_registers(operations, time_limit_s=-1)
    assert result.valid == "unknown"
    assert result.undecided


def members(*lines: Line) -> bool | str:
    return check_membership(history(*lines)).valid


def test_membership_changes_are_linearizable() -> None:
    def listed(*names: str) -> list[Line]:
        answer = [{"peer": name, "learner": False} for name in names]
        return [(INVOKE, 9, "list", None), (OK, 9, "list", answer)]

    add: list[Line] = [
        (INVOKE, 0, "add", {"peer": "d", "learner": False}), (OK, 0, "add", None),
    ]  # fmt: skip
    remove: list[Line] = [(INVOKE, 0, "remove", {"peer": "a"}), (INFO, 0, "remove", None)]
    start = listed("a", "b", "c")
    assert members(*start, *add, *listed("a", "b", "c", "d")) is True
    assert members(*start, *add, *listed("a", "b", "c")) is False
    assert members(*start, *remove, *listed("a", "b", "c"), *listed("b", "c")) is True
    assert members(*start, *remove, *listed("b", "c"), *listed("a", "b", "c")) is False
    assert members(*add) == "unknown"


def unknown_changes(count: int) -> list[Line]:
    """Return changes of unknown outcome to as many members, none of whom anybody saw."""
    lines: list[Line] = []
    for number in range(count):
        asked = {"peer": f"lost{number}", "learner": True}
        lines += [(INVOKE, 100 + number, "add", asked), (INFO, 100 + number, "add", asked)]
    return lines


def listed(process: int, *names: str) -> list[Line]:
    answer = [{"peer": name, "learner": True} for name in names]
    return [(INVOKE, process, "list", None), (OK, process, "list", answer)]


def test_changes_to_members_that_nobody_saw_do_not_explode() -> None:
    add = {"peer": "b", "learner": True}
    lines = [*listed(0, "a"), *unknown_changes(60), (INVOKE, 1, "add", add), (OK, 1, "add", add)]
    result = check_membership(history(*lines, *listed(0, "a", "b")), time_limit_s=20.0)
    assert result.valid is True
    assert result.stats["configurations"] < 50
    assert check_membership(history(*lines, *listed(0, "a"))).valid is False


def test_a_change_of_unknown_outcome_that_was_seen_cannot_be_unseen() -> None:
    seen = [*listed(0, "a"), *unknown_changes(30), *listed(0, "a", "lost7")]
    assert members(*seen) is True
    assert members(*seen, *listed(0, "a")) is False


def changing_members(rng: random.Random, *, lies: bool) -> list[Line]:
    """Return changes of few members and lists of them, one of which may be made up."""
    lines, present = listed(0, "a"), {"a"}
    lists = [number for number in range(12) if rng.random() < 0.5] or [11]
    lie = rng.choice(lists) if lies else None
    for number in range(12):
        peer = rng.choice("bcd")
        change = "remove" if peer in present else "add"
        asked = {"peer": peer, "learner": True}
        outcome = rng.choice([OK, INFO, INFO, FAIL])
        lines += [(INVOKE, number + 1, change, asked), (outcome, number + 1, change, asked)]
        if outcome == OK or (outcome == INFO and rng.random() < 0.3):
            present ^= {peer}
        if number in lists:
            shown = {"a", *rng.sample("bc", rng.randint(0, 2))} if number == lie else present
            lines += listed(0, *sorted(shown))
    return lines


def test_leaving_out_members_that_nobody_saw_changes_no_verdict() -> None:
    verdicts = []
    for seed in range(200):
        lines = changing_members(random.Random(seed), lies=seed % 2 == 1)
        operations = history(*lines)
        whole = check_partitions(
            "whole", [("m", operations)], lambda _: Membership([("a", True)]), time_limit_s=30.0
        )
        verdicts.append(whole.valid)
        assert check_membership(operations).valid == whole.valid, seed
    assert verdicts.count(True) >= 100
    assert verdicts.count(False) >= 30

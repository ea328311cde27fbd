"""Histories of real runs pass, and what is done to them is found.

Each mutation is made at many places of each history. Where the checker can decide, every one
must be found; the rate is stated where another order may explain the spoilt answer as well.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from jepsen.checkers.leases import check_leases
from jepsen.checkers.linearizable import check_membership, check_registers
from jepsen.checkers.list_append import check_list_append
from jepsen.checkers.read_write import check_read_write
from jepsen.checkers.result import Result
from jepsen.checkers.set_full import check_sets
from jepsen.checkers.watches import check_watches
from jepsen.checkers.whole_store import check_store
from jepsen.history import Event, Operation, pair
from tests.kit.jepsen_mutations import (
    Mutation,
    dropped_response,
    lost_element,
    real,
    refused_write,
    repeated_response,
    stale_answer,
    swapped_responses,
    vanished_key,
)

TRIES = 12
Check = Callable[[Sequence[Operation]], Result]
CHECKS: dict[str, Check] = {
    "register": check_registers,
    "kv": check_store,
    "set": check_sets,
    "append": check_list_append,
    "wr": check_read_write,
    "watch": check_watches,
    "lease": check_leases,
    "membership": check_membership,
}


@pytest.mark.parametrize("workload", CHECKS)
def test_the_history_of_a_real_run_passes(workload: str) -> None:
    result = CHECKS[workload](pair(real(workload)))
    assert result.valid is True, result
    assert result.operations > 50


@pytest.mark.parametrize(
    ("workload", "mutation", "least_rate"),
    [
        ("register", stale_answer, 1.0),
        ("kv", stale_answer, 1.0),
        ("kv", refused_write, 1.0),
        ("set", stale_answer, 1.0),
        ("set", lost_element, 1.0),
        ("append", stale_answer, 1.0),
        ("append", refused_write, 1.0),
        ("wr", stale_answer, 1.0),
        ("wr", refused_write, 1.0),
        ("watch", dropped_response, 1.0),
        ("watch", swapped_responses, 1.0),
        ("watch", repeated_response, 1.0),
        ("watch", refused_write, 1.0),
        ("lease", vanished_key, 1.0),
        ("membership", stale_answer, 0.9),
    ],
)
def test_what_was_done_to_a_real_history_is_found(
    workload: str, mutation: Mutation, least_rate: float
) -> None:
    events = real(workload)
    found = [_found(workload, mutation, events, seed) for seed in range(TRIES)]
    assert sum(found) / TRIES >= least_rate, f"seeds {[s for s, f in enumerate(found) if not f]}"


def _found(workload: str, mutation: Mutation, events: list[Event], seed: int) -> bool:
    spoilt = mutation(random.Random(seed), events)
    assert spoilt is not None, "the history has no place for this mutation"
    return CHECKS[workload](pair(spoilt)).valid is False

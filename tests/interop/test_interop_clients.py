"""Real clients of gRPC and of etcd, in three languages, against one server process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.programs import PROGRAMS, Expectations, outcome
from tests.interop.scenarios import LONG, QUICK, Counts
from tests.kit.processes import ServerProcess
from tests.kit.products import under_test

pytestmark = pytest.mark.process

Built = Callable[[Callable[[], Expectations]], Expectations]
REPEATING = ("sequential", "concurrent")
CASES = [
    (program.name, scenario)
    for program in PROGRAMS.values()
    for scenario in program.expected(QUICK)
]


@pytest.fixture(scope="module")
def seen() -> dict[str, Expectations]:
    """What each program saw; it runs its quick scenarios once for all tests."""
    return {}


@pytest.mark.parametrize(("name", "scenario"), CASES)
def test_a_client_sees_what_grpc_and_etcd_promise(
    name: str,
    scenario: str,
    server: ServerProcess,
    seen: dict[str, Expectations],
    built: Built,
    may_build: bool,
) -> None:
    if scenario == "deadline" and under_test().name == "etcd":
        pytest.skip("etcd ends a watch with UNKNOWN when its own clock is the first")
    wanted = PROGRAMS[name].expected(QUICK)
    if name not in seen:
        seen[name] = built(lambda: ask(server, name, list(wanted), QUICK, build=may_build))
    assert seen[name][scenario] == wanted[scenario]


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_thousands_of_streams_on_one_connection(
    name: str, server: ServerProcess, built: Built, may_build: bool
) -> None:
    every = PROGRAMS[name].expected(LONG)
    wanted = {scenario: every[scenario] for scenario in REPEATING}
    found = built(lambda: ask(server, name, ["unary", *wanted], LONG, build=may_build))
    assert {scenario: found[scenario] for scenario in REPEATING} == wanted
    assert server.running


def ask(
    server: ServerProcess, name: str, scenarios: list[str], counts: Counts, **build: Any
) -> Expectations:
    return outcome(PROGRAMS[name], server.address.client, scenarios, counts, **build)

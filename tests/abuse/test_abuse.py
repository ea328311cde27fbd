"""Attacks on the client port: the attacker is stopped or contained, nobody else notices much.

What it costs the others in time and memory is measured by ``python -m tests.abuse.table``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.abuse.attacks import ATTACKS, UNDER_TLS
from tests.abuse.victim import Bystander, attacked, victim
from tests.kit.processes import ServerProcess
from tests.kit.products import under_test

pytestmark = pytest.mark.process

SECONDS = 0.7
QUICK = ("rapid_reset", "continuation_flood", "settings_flood", "header_bomb", "ping_flood")
CALM = "GOAWAY ENHANCE_YOUR_CALM"
THROWN_OUT = (CALM, "closed")  # "closed": the GOAWAY was lost with what the attacker still sent
# What must happen to the attacker's first connection; the rest may hold on for a while.
ENDS = {
    "rapid_reset": THROWN_OUT,
    "made_resets": THROWN_OUT,
    "continuation_flood": THROWN_OUT,
    "empty_continuation_flood": THROWN_OUT,
    "settings_flood": THROWN_OUT,
    "ping_flood": THROWN_OUT,
    "empty_data_flood": THROWN_OUT,
    "window_update_flood": THROWN_OUT,
    "priority_flood": THROWN_OUT,
    "header_bomb": (*THROWN_OUT, "GOAWAY COMPRESSION_ERROR"),
}
GROWTH_MB = 350.0  # of which 128 MiB are answers that nobody takes


@pytest.fixture(scope="module")
def in_the_clear(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServerProcess, Bystander]]:
    if under_test().name == "etcd":
        pytest.skip("about this project's own port")
    with victim(tmp_path_factory.mktemp("abuse"), tls=False) as pair:
        yield pair


@pytest.fixture(scope="module")
def under_tls(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServerProcess, Bystander]]:
    if under_test().name == "etcd":
        pytest.skip("about this project's own port")
    with victim(tmp_path_factory.mktemp("abuse"), tls=True) as pair:
        yield pair


@pytest.mark.parametrize(
    "attack",
    [
        attack if attack in QUICK else pytest.param(attack, marks=pytest.mark.long)
        for attack in ATTACKS
    ],
)
def test_an_attack_hurts_nobody_else(attack: str, request: pytest.FixtureRequest) -> None:
    name = "under_tls" if attack in UNDER_TLS else "in_the_clear"
    server, bystander = request.getfixturevalue(name)
    result = attacked(attack, server, bystander, SECONDS, calm_s=0.1)
    assert result.alive
    assert result.during.failures == []
    assert max(result.during.rss_mb) - result.before.rss_mb[0] < GROWTH_MB
    if attack in ENDS:
        assert result.outcome.first in ENDS[attack], result.outcome
    bystander.once(0)
    assert b"Traceback" not in server.log()

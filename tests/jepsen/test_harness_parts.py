"""Parts of the tester that need no servers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from jepsen.history import FAIL, INFO
from jepsen.matrix import NO_PROMISE, SENSELESS, cells
from jepsen.nemesis import all_nemeses
from jepsen.net import grudges
from jepsen.nodes import ledger as ledgers
from jepsen.nodes.ledger import Ledger
from jepsen.workloads import all_workloads
from jepsen.workloads.outcome import classify
from tests.kit.etcd_client import Refused

FIVE = ["n1", "n2", "n3", "n4", "n5"]
SEEDS = range(20)


def sees(pairs: list[grudges.Pair], name: str, names: list[str]) -> set[str]:
    """Return whom a member can talk with in both directions, itself included."""
    return {o for o in names if (name, o) not in pairs and (o, name) not in pairs}


@pytest.mark.parametrize("seed", SEEDS)
def test_halves_leave_one_majority(seed: int) -> None:
    pairs = grudges.halves(FIVE, Random(seed))
    assert sorted(len(sees(pairs, name, FIVE)) for name in FIVE) == [2, 2, 3, 3, 3]


@pytest.mark.parametrize("seed", SEEDS)
def test_on_a_bridge_one_member_sees_all(seed: int) -> None:
    pairs = grudges.bridge(FIVE, Random(seed))
    assert sorted(len(sees(pairs, name, FIVE)) for name in FIVE) == [3, 3, 3, 3, 5]


@pytest.mark.parametrize("seed", SEEDS)
def test_on_a_ring_everyone_sees_another_majority(seed: int) -> None:
    pairs = grudges.ring(FIVE, Random(seed))
    views = [frozenset(sees(pairs, name, FIVE)) for name in FIVE]
    assert {len(view) for view in views} == {3}
    assert len(set(views)) == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_one_way_cuts_one_direction_only(seed: int) -> None:
    pairs = grudges.one_way(FIVE, Random(seed))
    assert len(pairs) == 4
    assert not {(target, source) for source, target in pairs} & set(pairs)


@pytest.mark.parametrize(
    ("code", "text", "outcome"),
    [
        ("UNAVAILABLE", "etcdserver: leader changed", INFO),
        ("UNAVAILABLE", "etcdserver: request timed out", INFO),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", INFO),
        ("UNAVAILABLE", "Socket closed", INFO),
        ("UNKNOWN", "anything", INFO),
        ("UNAVAILABLE", "failed to connect to all addresses; last error: refused", FAIL),
        ("NOT_FOUND", "etcdserver: requested lease not found", FAIL),
        ("UNKNOWN", "etcdserver: too many requests", FAIL),
        ("OUT_OF_RANGE", "etcdserver: mvcc: required revision has been compacted", FAIL),
    ],
)
def test_errors_leave_the_outcome_open_unless_they_are_refusals(
    code: str, text: str, outcome: str
) -> None:
    assert classify(Refused(code, text)) == outcome
    assert classify(Refused(code, text), reads_only=True) == FAIL


def test_every_pair_is_in_the_matrix_and_the_senseless_ones_say_why() -> None:
    found = cells()
    assert len(found) == len(all_workloads()) * len(all_nemeses())
    left_out = {(cell.workload, cell.nemesis) for cell in found if cell.reason}
    beyond = {(workload, nemesis) for workload in all_workloads() for nemesis in NO_PROMISE}
    assert left_out == set(SENSELESS) | beyond


def test_cleaning_ends_what_a_dead_run_left_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "FOLDER", tmp_path / "ledgers")
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    left, other = subprocess.Popen(sleeper), subprocess.Popen(sleeper)
    try:
        dead = Ledger.claim()
        dead.add_process(left.pid)
        dead.add("folders", str(tmp_path / "gone"))
        (tmp_path / "gone").mkdir()
        assert ledgers.clean() == []  # its owner lives
        text = (tmp_path / "ledgers" / f"{dead.slot}.json").read_text()
        owner = f'"owner": [{os.getpid()}, {ledgers.start_time(os.getpid())}]'
        assert owner in text
        dead_owner = text.replace(owner, f'"owner": [{os.getpid()}, 1]')
        (tmp_path / "ledgers" / f"{dead.slot}.json").write_text(dead_owner)
        assert len(ledgers.clean()) == 3
        assert left.poll() is not None
        assert not (tmp_path / "gone").exists()
        assert other.poll() is None
    finally:
        for process in (left, other):
            process.kill()
            process.wait()


def test_a_process_whose_id_was_given_to_another_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "FOLDER", tmp_path / "ledgers")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        try:
            entries = {"processes": {str(other.pid): 1}, "mounts": [], "namespaces": []}
            assert ledgers.undo({**entries, "links": [], "folders": []}) == []
            assert other.poll() is None
        finally:
            other.kill()

"""Safety and liveness under random faults; a seed reproduces a run."""

from __future__ import annotations

from collections import Counter

import pytest

from dqlite_py.raft import Role
from tests.kit.raft_simulation import Simulation

_SHORT = range(24)
_LONG_BLOCKS = [range(start, start + 50) for start in range(1000, 1400, 50)]
_STEPS = 12_000


def _run(seed: int, steps: int) -> Counter[str]:
    print(f"seed {seed}")
    simulation = Simulation(seed)
    simulation.run(steps)
    before = simulation.highest_commit
    simulation.calm()
    leaders = [m for m in simulation.members.values() if m.node.role is Role.LEADER]
    newest = max(leaders, key=lambda member: member.node.term)
    assert newest.node.commit >= before
    state = newest.node.conf_state
    for member in (*state.voters, *state.learners):
        assert simulation.members[member].applied == newest.applied, f"{member} does not catch up"
    return simulation.count


@pytest.mark.parametrize("seed", _SHORT)
def test_safety_holds_and_the_cluster_recovers(seed: int) -> None:
    _run(seed, _STEPS)


@pytest.mark.long
@pytest.mark.parametrize("seeds", _LONG_BLOCKS, ids=lambda seeds: f"from-{seeds.start}")
def test_safety_holds_and_the_cluster_recovers_at_length(seeds: range) -> None:
    for seed in seeds:
        _run(seed, 60_000)


def test_the_faults_are_reached() -> None:
    total: Counter[str] = Counter()
    for seed in range(4):
        total += _run(seed, _STEPS)
    for what in ("elections", "applied", "crashes", "partitions", "compactions", "snapshots"):
        assert total[what], f"no {what} in any run"
    assert total["reads"]
    assert total["membership changes"]

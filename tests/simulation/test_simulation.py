"""A few seeds of the whole simulation; ``python -m tests.simulation`` runs as many as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.course import simulate


def run(seed: int, folder: Path, virtual_seconds: float, operations: int) -> tuple[object, ...]:
    outcome = simulate(seed, folder, virtual_seconds=virtual_seconds, operations=operations)
    print(f"seed {seed}: {dict(outcome.coverage)}")
    assert not outcome.failure, f"seed {seed}\n{outcome.failure}\n" + "\n".join(outcome.transcript)
    return (outcome.fingerprint, dict(outcome.coverage))


@pytest.mark.parametrize("seed", [101, 102, 103])
def test_no_invariant_breaks(tmp_path: Path, seed: int) -> None:
    run(seed, tmp_path / "run", 20.0, 500)


def test_one_seed_is_one_run(tmp_path: Path) -> None:
    assert run(7, tmp_path / "a", 8.0, 200) == run(7, tmp_path / "b", 8.0, 200)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(200, 220))
def test_no_invariant_breaks_for_long(tmp_path: Path, seed: int) -> None:
    run(seed, tmp_path / "run", 60.0, 2000)

"""Two short runs with real servers: what `make jepsen` does, for a few seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from jepsen.history import pair, read_history
from jepsen.run import Options, execute

SECONDS = 8.0


@pytest.mark.process
@pytest.mark.parametrize(
    ("workload", "nemesis"), [("kv", "kill-one"), ("register", "partition-leader")]
)
def test_a_short_run_is_valid(workload: str, nemesis: str, tmp_path: Path) -> None:
    seed = 1
    print("seed", seed)
    outcome = execute(
        Options(
            workload=workload,
            nemesis=nemesis,
            time_limit_s=SECONDS,
            seed=seed,
            clients=6,
            rate_per_s=60.0,
            directory=tmp_path / "run",
        )
    )
    assert outcome["verdict"] == "valid", (outcome["results"], outcome["errors"])
    assert outcome["operations"]["ok"] > 20
    assert outcome["availability"]["faults"] >= 1
    operations = pair(read_history(outcome["history"]))
    assert len(operations) == outcome["operations"]["total"]

"""Checking a recorded history again."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from jepsen.recheck import recheck

DATA = Path(__file__).parent / "data"


def outcome_of(folder: Path, workload: str, **more: Any) -> Path:
    history = folder / "history.jsonl"
    history.write_bytes(gzip.decompress((DATA / f"{workload}.jsonl.gz").read_bytes()))
    unknown = {"checker": workload, "undecided": "no time", "violation_count": 0, "violations": []}
    outcome = {
        "workload": workload,
        "verdict": "unknown",
        "clients": 12,
        "rate_per_s": 120.0,
        "time_limit_s": 60.0,
        "tester_commit": "earlier",
        "results": [unknown],
        "errors": [],
        "crashes": [],
        "history": str(history),
    }
    file = folder / "outcome.json"
    file.write_text(json.dumps(outcome | more))
    return file


def test_what_was_undecided_is_decided_and_the_first_verdict_is_kept(tmp_path: Path) -> None:
    file = outcome_of(tmp_path, "membership")
    recheck(file, 60.0)
    written = json.loads(file.read_text())
    assert written["verdict"] == "valid"
    (before,) = written["checked_before"]
    assert (before["verdict"], before["undecided"]) == ("unknown", ["no time"])


def test_errors_of_the_run_stay(tmp_path: Path) -> None:
    file = outcome_of(tmp_path, "membership", errors=["did not recover"])
    assert recheck(file, 60.0)["verdict"] == "failed"


def test_what_only_the_run_could_say_stays(tmp_path: Path) -> None:
    late = {"checker": "watchers converge", "undecided": "late", "violation_count": 0}
    file = outcome_of(tmp_path, "membership", results=[late | {"violations": []}])
    assert recheck(file, 60.0)["verdict"] == "unknown"

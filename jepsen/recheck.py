"""Checking a recorded history again: after a checker became better, or with more time."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from jepsen.history import pair, read_history
from jepsen.run import commit, verdict
from jepsen.workloads import all_workloads
from jepsen.workloads.workload import Scale


def recheck(file: Path, check_limit_s: float) -> dict[str, Any]:
    """Check the history that an outcome names, and write the new verdict into the outcome's file.

    The run is not done again: what its clients were told stays as it is, and so do errors and
    crashes. The verdict that was is kept as ``checked_before``. A result that only the run itself
    could give, such as watchers that did not converge, is kept too.
    """
    outcome: dict[str, Any] = json.loads(file.read_text())
    events = read_history(outcome["history"])
    scale = Scale(outcome["clients"], outcome["rate_per_s"], outcome["time_limit_s"], check_limit_s)
    workload = all_workloads()[outcome["workload"]](Random(0), scale)
    results = [result.to_json() for result in workload.check(pair(events), events)]
    checkers = {result["checker"] for result in results}
    results += [each for each in outcome["results"] if each["checker"] not in checkers]
    before = {
        "verdict": outcome["verdict"],
        "tester_commit": outcome["tester_commit"],
        "undecided": [each["undecided"] for each in outcome["results"] if each["undecided"]],
        "violations": sum(each["violation_count"] for each in outcome["results"]),
    }
    outcome |= {
        "results": results,
        "verdict": verdict(results, outcome["errors"], outcome["crashes"]),
        "tester_commit": commit("jepsen"),
        "checked_before": [*outcome.get("checked_before", []), before],
    }
    fresh = file.with_suffix(".new")
    fresh.write_text(json.dumps(outcome, indent=1) + "\n")
    fresh.replace(file)
    return outcome

"""The matrix: cells in processes of their own, resumable, none tried again in silence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jepsen import cell as cell_module
from jepsen import matrix as matrix_module
from jepsen.matrix import CORE, NO_PROMISE, Cell, Matrix, cells
from jepsen.nemesis import all_nemeses
from jepsen.run import CANNOT_RUN_EXIT, Options
from jepsen.workloads import all_workloads

CELLS = [Cell("kv", "none"), Cell("set", "none"), Cell("set", "kill-all")]

TESTER = """
import json, pathlib, sys
flags = dict(flag[2:].split("=", 1) for flag in sys.argv[1:] if "=" in flag)
directory = pathlib.Path(flags["out"])
with open(directory.parent / "calls", "a") as calls:
    calls.write(flags["workload"] + "." + flags["nemesis"] + "\\n")
verdict = json.loads((directory.parent.parent / "verdicts").read_text())[flags["workload"]]
if verdict == "cannot":
    print("cannot run: no such tool")
    sys.exit(CANNOT)
if verdict == "dies":
    print("Traceback: out of luck")
    sys.exit(7)
counted = {"total": 10, "ok": 9, "fail": 1, "info": 0, "by_kind": {}}
outcome = {"workload": flags["workload"], "nemesis": flags["nemesis"], "commit": "c1",
           "time_limit_s": float(flags["time-limit"]), "verdict": verdict, "operations": counted,
           "availability": {}, "results": [], "errors": [], "crashes": []}
directory.mkdir(exist_ok=True)
(directory / "outcome.json").write_text(json.dumps(outcome))
""".replace("CANNOT", str(CANNOT_RUN_EXIT))


class Bench:
    """A matrix whose testers are scripts that say what they are told to."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.options = Options(workload="", time_limit_s=60.0)
        self.folder = folder / "matrix" / "dqlite-c1"
        self.folder.mkdir(parents=True)

    def run(self, verdicts: dict[str, str], **more: Any) -> list[dict[str, Any]]:
        (self.folder / "verdicts").write_text(json.dumps(verdicts))
        fields = {"resume": True, "again_failed": False, **more}
        matrix = Matrix(self.options, 2, say=self.said.append, commit="c1", **fields)
        return matrix.run(CELLS)

    def calls(self) -> list[str]:
        """Return the cells that were run since the last call, in order of their names."""
        file = self.folder / "runs" / "calls"
        found = sorted(file.read_text().split()) if file.exists() else []
        file.unlink(missing_ok=True)
        return found


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    script = tmp_path / "tester.py"
    script.write_text(TESTER)
    real = cell_module.command
    monkeypatch.setattr(
        cell_module,
        "command",
        lambda options, directory: [sys.executable, str(script), *real(options, directory)[4:]],
    )
    monkeypatch.setattr(matrix_module, "results_directory", lambda: tmp_path)
    return Bench(tmp_path)


def verdicts_of(outcomes: list[dict[str, Any]]) -> list[str]:
    return [each.get("verdict", "skipped") for each in outcomes]


def test_outcomes_come_back_in_the_order_of_the_cells(bench: Bench) -> None:
    outcomes = bench.run({"kv": "valid", "set": "violation"})
    assert [(each["workload"], each["nemesis"]) for each in outcomes] == [
        (cell.workload, cell.nemesis) for cell in CELLS
    ]
    assert verdicts_of(outcomes) == ["valid", "violation", "violation"]
    assert bench.calls() == sorted(cell.name for cell in CELLS)


def test_a_resumed_matrix_runs_no_cell_again_even_if_it_failed(bench: Bench) -> None:
    bench.run({"kv": "valid", "set": "violation"})
    bench.calls()
    outcomes = bench.run({"kv": "valid", "set": "valid"})
    assert verdicts_of(outcomes) == ["valid", "violation", "violation"]
    assert bench.calls() == []


def test_cells_that_ran_for_less_time_are_run_again(bench: Bench) -> None:
    bench.run({"kv": "valid", "set": "valid"})
    bench.calls()
    bench.options = Options(workload="", time_limit_s=90.0)
    bench.run({"kv": "valid", "set": "valid"})
    assert len(bench.calls()) == len(CELLS)


def test_a_second_try_of_failed_cells_is_told_of(bench: Bench) -> None:
    bench.run({"kv": "valid", "set": "violation"})
    bench.calls()
    outcomes = bench.run({"kv": "valid", "set": "valid"}, again_failed=True)
    assert bench.calls() == ["set.kill-all", "set.none"]
    assert verdicts_of(outcomes) == ["valid", "valid", "valid"]
    (earlier,) = outcomes[1]["earlier"]
    assert earlier["verdict"] == "violation"
    assert Path(earlier["kept"], "outcome.json").exists()
    assert verdicts_of(bench.run({}, again_failed=True)) == ["valid", "valid", "valid"]


def test_a_tester_that_breaks_is_a_failed_cell_that_says_why(bench: Bench) -> None:
    outcomes = bench.run({"kv": "dies", "set": "valid"})
    assert verdicts_of(outcomes) == ["failed", "valid", "valid"]
    assert "out of luck" in outcomes[0]["errors"][0]


def test_what_cannot_run_is_left_out_with_its_reason_and_tried_at_the_next_time(
    bench: Bench,
) -> None:
    outcomes = bench.run({"kv": "cannot", "set": "valid"})
    assert outcomes[0]["skipped"] == "no such tool"
    bench.calls()
    assert verdicts_of(bench.run({"kv": "valid", "set": "valid"})) == ["valid"] * 3
    assert bench.calls() == ["kv.none"]


def test_a_cell_of_another_commit_is_not_counted_as_valid(bench: Bench) -> None:
    (bench.folder / "verdicts").write_text(json.dumps({"kv": "valid", "set": "valid"}))
    bench.folder.rename(bench.folder.with_name("dqlite-c2"))
    matrix = Matrix(bench.options, 1, True, False, bench.said.append, commit="c2")
    assert verdicts_of(matrix.run(CELLS)) == ["failed"] * 3


def test_the_ten_minute_run_has_every_workload_and_every_nemesis() -> None:
    assert {workload for workload, _ in CORE} == set(all_workloads())
    assert {nemesis for _, nemesis in CORE} == set(all_nemeses()) - set(NO_PROMISE)
    assert not [cell for cell in cells(CORE) if cell.reason]

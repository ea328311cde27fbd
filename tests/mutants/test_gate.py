"""The gate itself, on a project of one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants import table
from tests.mutants.gate import Verdict, gate
from tests.mutants.mutant import Mutant, NotApplicable

CODE = "def double(number):\n    return number * 2\n"
TESTS = """
from dqlite_py.raft.sums import double

def test_four():
    assert double(2) == 4

def test_that_fails_anyway():
    assert double(0) == 1
"""


def breakage(new: str, *, old: str = "* 2") -> Mutant:
    likely = ("raft/test_sums.py::test_four",)
    return Mutant(f"by{new}", "raft/sums.py", old, new, "a slip", "a promise", "code", likely)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for path, text in (("dqlite_py/raft/sums.py", CODE), ("tests/raft/test_sums.py", TESTS)):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(text)
    (root / "dqlite_py/__init__.py").touch()
    (root / "docs").mkdir()
    return root


def test_a_mutant_is_killed_only_by_a_test_that_passes_without_it(project: Path) -> None:
    mutants = [breakage("* 3"), breakage("** 2")]
    told: list[Verdict] = []
    with gate(project, jobs=1) as opened:
        noticed, unnoticed = opened.judge_all(mutants, told.append)
    assert noticed.killed
    assert noticed.killer == "tests/raft/test_sums.py::test_four"
    assert not unnoticed.killed
    assert unnoticed.killer == "tests/raft/test_sums.py::test_that_fails_anyway"
    assert unnoticed.trouble.endswith("fails without the breakage too")
    assert [verdict.mutant for verdict in told] == mutants
    assert (project / "dqlite_py/raft/sums.py").read_text() == CODE
    table.write(project, [noticed, unnoticed])
    rows = (project / table.PATH).read_text().splitlines()[-2:]
    assert rows[0].endswith("| `raft/test_sums.py::test_four` |")
    assert "survives" in rows[1]


@pytest.mark.parametrize("old", ["* 4", "number"])
def test_a_text_that_is_not_there_exactly_once_is_refused(old: str) -> None:
    with pytest.raises(NotApplicable):
        breakage("x", old=old).mutated(CODE)

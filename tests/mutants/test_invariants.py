"""The table from invariants to tests is complete, and names what exists."""

from __future__ import annotations

import re

import pytest

from tests.mutants.catalogue import CATALOGUE
from tests.mutants.invariant_table import INVARIANTS, PATH, ROOT, location, render
from tests.mutants.invariants import Invariant

PACKAGES = ("raft", "storage", "vfs", "db", "node")


def design(package: str) -> str:
    return (ROOT / "dqlite_py" / package / "DESIGN.md").read_text()


def promised(package: str) -> list[str]:
    """Return the invariants that a DESIGN.md lists in a table or numbers."""
    found = []
    in_table = False
    for line in design(package).splitlines():
        if not line.startswith("|"):
            in_table = False
        elif re.match(r"\| *invariant *\|", line, re.IGNORECASE):
            in_table = True
        elif in_table and not line.startswith("|---"):
            found.append(line.split("|")[1].strip())
    if not found:
        section = design(package).partition("## Invariants\n")[2]
        found = re.findall(r"^(\d+\. .+)", section, re.MULTILINE)
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_invariant_of_a_design_has_its_row(package: str) -> None:
    rows = [invariant.text for invariant in INVARIANTS if invariant.package == package]
    assert rows
    for text in promised(package):
        assert any(text.startswith(row) or row.startswith(text) for row in rows), text


@pytest.mark.parametrize("invariant", INVARIANTS, ids=lambda invariant: invariant.text[:50])
def test_a_row_names_a_promise_tests_and_breakages_that_exist(invariant: Invariant) -> None:
    assert " ".join(invariant.text.split()) in " ".join(design(invariant.package).split())
    assert invariant.tests
    for test in invariant.tests:
        path, function = location(invariant, test)
        assert not function or f"def {function}(" in path.read_text(), test
        assert path.exists()
    assert set(invariant.mutants) <= {mutant.name for mutant in CATALOGUE}


def test_the_table_in_the_docs_is_this_one() -> None:
    assert PATH.read_text() == render()

"""Every breakage can still be put into the code as it is now."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants import table
from tests.mutants.catalogue import CATALOGUE
from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
LEAST = 30
COLUMNS = 6


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.name)
def test_the_text_to_replace_is_there_exactly_once(mutant: Mutant) -> None:
    ast.parse(mutant.mutated(mutant.path(ROOT).read_text()))


@pytest.mark.parametrize("mutant", CATALOGUE, ids=lambda mutant: mutant.name)
def test_the_tests_tried_first_exist(mutant: Mutant) -> None:
    for node_id in mutant.likely:
        path, _, name = node_id.partition("::")
        text = (ROOT / "tests" / path).read_text()
        assert not name or f"def {name.partition('[')[0]}(" in text, node_id


def test_names_are_unique_and_half_were_chosen_from_the_design() -> None:
    assert len({mutant.name for mutant in CATALOGUE}) == len(CATALOGUE) >= LEAST
    from_design = [mutant for mutant in CATALOGUE if mutant.chosen_from == "design"]
    assert 2 * len(from_design) >= len(CATALOGUE)


def test_the_table_in_the_docs_knows_every_mutant_and_its_killer() -> None:
    rows = [line.split(" | ") for line in (ROOT / table.PATH).read_text().splitlines()]
    judged = {row[0].removeprefix("| "): row[-1] for row in rows if len(row) == COLUMNS}
    del judged["mutant"]
    assert list(judged) == [mutant.name for mutant in CATALOGUE], "run make mutants"
    for killer in judged.values():
        path, _, name = killer.strip("`| ").partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / "tests" / path).read_text()

"""The list of untaken branches itself, on a source of a few lines."""

from __future__ import annotations

import json
from pathlib import Path

import coverage
import pytest

from tests.branches import reasons
from tests.branches.gaps import NEVER, FileCoverage, Gap, Totals, gaps, measured
from tests.branches.measuring import PACKAGES
from tests.branches.page import page

SOURCE = """
class Shop:
    def sell(self, count):
        if count < 0:
            raise ValueError(count)
        for _ in range(count):
            if count == 2:
                break
        try:
            count += 1
        except OverflowError:
            count = 0
            return None
        return count

    def close(self):
        if self:
            return 1
        return 2

    def open(self):  # pragma: no cover
        return 3

def use(shop):
    shop.sell(1)
    shop.sell(2)
"""
SELL_NEGATIVE = Gap("raft/shop.py", "Shop.sell", "if count < 0:", "true")
OVERFLOW = Gap("raft/shop.py", "Shop.sell", "except OverflowError:", NEVER)
CLOSE = Gap("raft/shop.py", "Shop.close", "if self:", NEVER)
OPEN = Gap("raft/shop.py", "Shop.open", "return 3", NEVER)


def shop(tmp_path: Path, text: str) -> FileCoverage:
    path = tmp_path / "shop.py"
    path.write_text(text)
    measuring = coverage.Coverage(
        data_file=None, config_file=False, branch=True, include=[str(path)]
    )
    measuring.set_option("report:exclude_lines", ["(?!)"])
    names: dict[str, object] = {}
    measuring.start()
    try:
        exec(compile(text, str(path), "exec"), names)
        names["use"](names["Shop"]())  # type: ignore[operator]
    finally:
        measuring.stop()
    report = tmp_path / "report.json"
    measuring.json_report(outfile=str(report))
    (part,) = json.loads(report.read_text())["files"].values()
    return measured("raft/shop.py", text, part)


def test_what_no_test_takes_is_named_by_function_text_and_way(tmp_path: Path) -> None:
    loop_ends = Gap("raft/shop.py", "Shop.sell", "for _ in range(count):", "the end")
    assert gaps(shop(tmp_path, SOURCE)) == [SELL_NEGATIVE, OVERFLOW, CLOSE, OPEN]
    always_left = SOURCE.replace("if count == 2", "if count")
    assert loop_ends in gaps(shop(tmp_path, always_left))


def test_names_survive_changes_elsewhere(tmp_path: Path) -> None:
    moved = "import json\n\n\n" + SOURCE.replace("def close", "x = 1\n\n    def close")
    assert gaps(shop(tmp_path, moved)) == gaps(shop(tmp_path, SOURCE))


def test_a_pragma_hides_nothing(tmp_path: Path) -> None:
    assert OPEN in gaps(shop(tmp_path, SOURCE))


def test_branches_inside_a_block_that_never_runs_count_as_not_taken(tmp_path: Path) -> None:
    assert shop(tmp_path, SOURCE).totals.branches == 8
    assert shop(tmp_path, SOURCE).totals.branches_taken == 5


def test_a_gap_needs_a_reason_and_a_reason_needs_a_gap() -> None:
    table = {SELL_NEGATIVE: "nobody sells less than nothing", CLOSE: "it never closes"}
    verdict = reasons.judge([SELL_NEGATIVE, OVERFLOW], table)
    assert verdict.explained == [(SELL_NEGATIVE, "nobody sells less than nothing")]
    assert verdict.unexplained == [OVERFLOW]
    assert verdict.stale == [CLOSE]


def test_what_hangs_on_how_threads_meet_may_be_taken() -> None:
    table = {CLOSE: reasons.SOMETIMES + "it closes while somebody sells"}
    assert reasons.judge([], table).stale == []
    assert reasons.judge([CLOSE], table).explained == [(CLOSE, table[CLOSE])]


def test_an_entry_of_the_table_is_read_as_it_is_printed() -> None:
    quoted = Gap("node/a.py", "f", """if a == "b" or a == 'c':  # -> d""", "false")
    text = reasons.entry(quoted, 'so "it" is') + reasons.entry(OVERFLOW, "numbers do not")
    assert reasons.load(text) == {quoted: 'so "it" is', OVERFLOW: "numbers do not"}


@pytest.mark.parametrize("text", ['["a.py"."f"]\n"x -> true" = ""', '["a.py"."f"]\n"x" = "y"'])
def test_an_entry_without_a_reason_or_a_way_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="f: 'x"):
        reasons.load(text)


def test_the_page_has_totals_and_every_gap_with_its_reason() -> None:
    totals = {"raft": Totals(8, 4, 20, 15), "vfs": Totals(2, 2, 5, 5)}
    text = page(totals, [(SELL_NEGATIVE, "nobody does"), (OVERFLOW, "numbers do not")], seeds=3)
    assert "| raft | 4 | 8 | 50.0 % | 15 | 20 | 2 |" in text
    assert "| vfs | 2 | 2 | 100.0 % | 5 | 5 | 0 |" in text
    assert "| all | 6 | 10 | 60.0 % | 20 | 25 | 2 |" in text
    assert "| `Shop.sell` | `if count < 0:` | true | nobody does |" in text
    assert "| `Shop.sell` | `except OverflowError:` | never runs | numbers do not |" in text


def test_the_table_in_the_tree_can_be_read() -> None:
    assert all(
        gap.file.partition("/")[0] in PACKAGES for gap in reasons.load(reasons.TABLE.read_text())
    )

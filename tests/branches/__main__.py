"""``python -m tests.branches``: the branches that no test takes, each with its reason."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.branches import reasons
from tests.branches.gaps import Gap, Totals, gaps
from tests.branches.measuring import ROOT, SEEDS, found_in, run_everything
from tests.branches.page import PATH, page


@contextmanager
def measured_data(given: Path | None) -> Iterator[Path]:
    """Yield a data file of coverage.py: ``given``, or a fresh one of all the tests."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="branches-") as folder:
        data_file = Path(folder) / "data"
        run_everything(data_file)
        yield data_file


def told(unexplained: list[Gap], stale: list[Gap]) -> None:
    """Print what is wrong; what lacks a reason as lines to be completed in the table."""
    for gap in unexplained:
        print(reasons.entry(gap, ""))
    for gap in stale:
        print(f"covered or gone: {gap.file} {gap.function}: {gap.place}")
    print(f"{len(unexplained)} without a reason, {len(stale)} reasons to remove")


def main() -> int:
    """Return 0 if every gap has a reason and every reason a gap, 1 if not or if a test fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.branches", description=__doc__)
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="judge what coverage.py wrote there; run nothing"
    )
    options = parser.parse_args()
    try:
        with measured_data(options.data) as data_file:
            files = found_in(data_file)
    except subprocess.CalledProcessError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    totals: dict[str, Totals] = {}
    for one in files:
        package = one.file.split("/")[0]
        totals[package] = totals.get(package, Totals()) + one.totals
    found = [gap for one in files for gap in gaps(one)]
    verdict = reasons.judge(found, reasons.load(reasons.TABLE.read_text()))
    (ROOT / PATH).write_text(page(totals, verdict.explained, seeds=len(SEEDS)))
    for package, part in totals.items():
        listed = sum(gap.file.startswith(f"{package}/") for gap in found)
        print(f"{package}: {part.branches_taken} of {part.branches} branches, {listed} listed")
    if verdict.unexplained or verdict.stale:
        told(verdict.unexplained, verdict.stale)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``python -m tests.mutants``: break the code in many ways and see that the tests notice."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.mutants import table
from tests.mutants.catalogue import CATALOGUE
from tests.mutants.gate import Verdict, gate
from tests.mutants.mutant import Mutant, NotApplicable

ROOT = Path(__file__).resolve().parent.parent.parent
_BAR_WIDTH = 30


class Progress:
    """A bar on a terminal, a line for each mutant elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._started_s = time.monotonic()
        self._live = sys.stderr.isatty()

    def told(self, verdict: Verdict) -> None:
        """Show one more verdict."""
        self._done += 1
        outcome = verdict.killer if verdict.killed else f"SURVIVES {verdict.trouble}".strip()
        line = f"{verdict.mutant.name}: {outcome} ({verdict.seconds:.1f} s)"
        if not self._live:
            print(f"[{self._done}/{self._total}] {line}", file=sys.stderr, flush=True)
            return
        filled = _BAR_WIDTH * self._done // self._total
        passed_s = time.monotonic() - self._started_s
        left_s = passed_s / self._done * (self._total - self._done)
        bar = "#" * filled + "." * (_BAR_WIDTH - filled)
        text = f"[{bar}] {self._done}/{self._total}, {left_s:.0f} s left, {verdict.mutant.name}"
        if not verdict.killed:
            print(f"\r\x1b[K{line}", file=sys.stderr)
        end = "\n" if self._done == self._total else ""
        print(f"\r\x1b[K{text}", end=end, file=sys.stderr, flush=True)


def chosen(only: list[str]) -> list[Mutant]:
    """Return the mutants whose name contains one of ``only``; all if it is empty."""
    return [m for m in CATALOGUE if not only or any(word in m.name for word in only)]


def main() -> int:
    """Run the gate; 0 if every mutant was killed, 1 if not, 2 if there is none to run."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="part of a name"
    )
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (2)")
    options = parser.parse_args()
    mutants = chosen(options.only)
    if not mutants:
        print("no mutant has such a name", file=sys.stderr)
        return 2
    started_s = time.monotonic()
    try:
        for mutant in mutants:
            mutant.mutated(mutant.path(ROOT).read_text())
        with gate(ROOT, options.jobs) as opened:
            verdicts = opened.judge_all(mutants, Progress(len(mutants)).told)
    except NotApplicable as error:
        print(f"{error}: bring the catalogue up to date", file=sys.stderr)
        return 1
    if not options.only:
        table.write(ROOT, verdicts)
    survivors = [verdict for verdict in verdicts if not verdict.killed]
    took_s = time.monotonic() - started_s
    killed = len(verdicts) - len(survivors)
    print(f"{killed} of {len(verdicts)} mutants killed in {took_s:.0f} s")
    for verdict in survivors:
        print(f"survives: {verdict.mutant.name} {verdict.trouble}".rstrip())
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

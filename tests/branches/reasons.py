"""The table of reasons, and whether it and what was measured agree."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.branches.gaps import Gap

TABLE: Final = Path(__file__).with_name("reasons.toml")
# Begins the reason of a branch that depends on how real threads meet, so that some runs take it.
SOMETIMES: Final = "now and then: "


@dataclass(frozen=True, slots=True)
class Verdict:
    """``explained`` keeps the order of the gaps; the other two make the command fail."""

    explained: list[tuple[Gap, str]]
    unexplained: list[Gap]
    stale: list[Gap]


def load(text: str) -> dict[Gap, str]:
    """Read a table: a section for each file and function, a line for each gap.

    Raises ValueError for an entry that is no gap or has no reason.
    """
    found = {}
    for file, functions in tomllib.loads(text).items():
        for function, places in functions.items():
            for place, reason in places.items():
                line, arrow, way = place.rpartition(" -> ")
                if not arrow or not str(reason).strip():
                    raise ValueError(f"{file}, {function}: {place!r} = {reason!r}")
                found[Gap(file, function, line, way)] = reason
    return found


def judge(gaps: Iterable[Gap], reasons: Mapping[Gap, str]) -> Verdict:
    """Join what no test takes with the reasons for it."""
    verdict = Verdict([], [], [])
    measured = list(gaps)
    for gap in measured:
        if gap in reasons:
            verdict.explained.append((gap, reasons[gap]))
        else:
            verdict.unexplained.append(gap)
    left = reasons.keys() - set(measured)
    verdict.stale.extend(sorted(gap for gap in left if not reasons[gap].startswith(SOMETIMES)))
    return verdict


def entry(gap: Gap, reason: str) -> str:
    """Return the lines of the table for one gap."""
    section = f"[{json.dumps(gap.file)}.{json.dumps(gap.function)}]"
    return f"{section}\n{json.dumps(gap.place)} = {json.dumps(reason)}\n"

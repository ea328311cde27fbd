"""How fast the builds with deliberate faults are caught."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jepsen.controls import Control
from jepsen.history import read_history
from jepsen.run import Options, execute

SECOND_NS = 1_000_000_000


@dataclass(frozen=True)
class Row:
    """What became of one control; ``seconds`` is when the evidence was complete."""

    control: Control
    verdict: str
    kind: str
    seconds: float | None
    operations: int

    @property
    def caught(self) -> bool:
        """Whether a checker named a violation."""
        return self.verdict == "violation"


def find(control: Control, time_limit_s: float, seed: int, say: Callable[[str], None]) -> Row:
    """Run the pair that must find a fault, and say when the history had the proof."""
    say(f"{control.name}: {control.workload} under {control.nemesis}")
    outcome = execute(
        Options(
            workload=control.workload,
            nemesis=control.nemesis,
            time_limit_s=time_limit_s,
            seed=seed,
            fault=control.name,
            clients=control.clients,
            rate_per_s=control.rate_per_s,
        )
    )
    kind, seconds = _first(outcome)
    return Row(control, outcome["verdict"], kind, seconds, outcome["operations"]["total"])


def _first(outcome: dict[str, Any]) -> tuple[str, float | None]:
    """Return the kind and time of the violation whose last event is the earliest."""
    times = {event.index: event.time_ns for event in read_history(outcome["history"])}
    found = [
        (max(times[index] for index in violation["indexes"]) / SECOND_NS, violation["kind"])
        for result in outcome["results"]
        for violation in result["violations"]
        if violation["indexes"]
    ]
    if not found:
        return "; ".join(outcome["errors"])[:80], None
    seconds, kind = min(found)
    return kind, round(seconds, 1)


def table(rows: Iterable[Row]) -> str:
    """Return the table of faults in Markdown."""
    lines = [
        "| fault | workload | nemesis | caught as | seconds until found | operations |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        control = row.control
        found = row.kind if row.caught else f"**not caught** ({row.verdict}) {row.kind}"
        seconds = "" if row.seconds is None else row.seconds
        lines.append(
            f"| {control.meaning} | {control.workload} | {control.nemesis} | {found} "
            f"| {seconds} | {row.operations} |"
        )
    return "\n".join(lines)

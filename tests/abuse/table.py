"""``python -m tests.abuse.table``: what each attack does to the attacker, to others, to memory."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.abuse.attacks import ATTACKS
from tests.abuse.victim import Result, attacked, is_under_tls, victim

HEAD = (
    "| attack | what happens to the attacker | came back | p99 (slowest) alone | beside it "
    "| failed calls | RSS before | most | after |\n|---|---|---|---|---|---|---|---|---|"
)


def row(result: Result) -> str:
    """Return one line of the table; times in ms, memory in MB of 10^6 bytes."""
    text = (ATTACKS[result.attack].__doc__ or "").split("\n")[0].rstrip(".")
    outcome = result.outcome
    frames = (
        f" after {outcome.frames} frames" if outcome.frames and outcome.first != "closed" else ""
    )
    died = "" if result.alive else " **the server died**"
    return (
        f"| {text} | {outcome.first}{frames}{died} | {outcome.connections - 1} "
        f"| {result.before.p99_ms} ({result.before.slowest_ms}) ms "
        f"| {result.during.p99_ms} ({result.during.slowest_ms}) ms "
        f"| {len(result.during.failures)} of {len(result.during.latencies_s)} "
        f"| {max(result.before.rss_mb):.0f} | {max(result.during.rss_mb):.0f} "
        f"| {result.rss_after_mb:.0f} MB |"
    )


def measure(attack: str, seconds: float, calm_s: float) -> Result:
    """Attack a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="abuse-") as folder,
        victim(Path(folder), tls=is_under_tls(attack)) as (server, bystander),
    ):
        return attacked(attack, server, bystander, seconds, calm_s)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse.table", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="each attack")
    parser.add_argument("--calm-seconds", type=float, default=5.0, help="before each attack")
    parser.add_argument("--only", default=",".join(ATTACKS))
    given = parser.parse_args()
    print(HEAD)
    for attack in given.only.split(","):
        print(f"{attack} ...", file=sys.stderr, flush=True)
        print(row(measure(attack, given.seconds, given.calm_seconds)), flush=True)


if __name__ == "__main__":
    main()

"""The page about a matrix: what is counted, and that nothing bad is left out of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jepsen.history import FAIL, INFO, OK, HistoryWriter
from jepsen.summary import NOT_RUN, page, read_outcomes

SECOND_NS = 1_000_000_000


def history(path: Path) -> str:
    """One fault from second 1 to 3: in it one ok, one refusal, one lost; recovery after 0.5 s."""
    now_ns = [0]
    with HistoryWriter(str(path), clock_ns=lambda: now_ns[0]) as out:

        def at(second: float) -> None:
            now_ns[0] = round(second * SECOND_NS)

        def ask(start_s: float, end_s: float, kind: str, error: str | None = None) -> None:
            at(start_s)
            asked = out.invoke(0, "read", key="x")
            at(end_s)
            out.complete(asked, kind, 1 if kind == OK else None, error=error)

        ask(0.5, 0.6, OK)
        at(1)
        out.nemesis("start", "kill-one")
        ask(1.5, 1.6, OK)
        ask(1.7, 1.8, FAIL, "NOT_FOUND: no such lease")
        ask(1.9, 2.9, INFO, "UNAVAILABLE: gone")
        at(3)
        out.nemesis("stop", "kill-one")
        ask(3.1, 3.2, FAIL, "UNAVAILABLE: no leader")
        ask(3.3, 3.5, OK)
    return str(path)


def outcome(folder: Path, workload: str, nemesis: str, verdict: str, **more: Any) -> None:
    fields = {
        "workload": workload,
        "nemesis": nemesis,
        "verdict": verdict,
        "operations": {"total": 6, "ok": 3, "fail": 2, "info": 1},
        "results": [],
        "commit": "c1",
        "tester_commit": "t1",
        "date": "2026-11-25",
        "time_limit_s": 60.0,
        "clients": 12,
        "rate_per_s": 120.0,
        "network": "namespaces",
        "load_average": 2.5,
        "history": history(folder / f"{workload}.{nemesis}.jsonl"),
    }
    (folder / f"{workload}.{nemesis}.json").write_text(json.dumps(fields | more))


def test_shares_and_recovery_come_from_the_histories(tmp_path: Path) -> None:
    outcome(tmp_path, "kv", "kill-one", "valid")
    outcome(tmp_path, "set", "kill-one", "valid")
    text = page(read_outcomes(tmp_path))
    assert "| `kill-one` | 2 | 12 | 2 | 33.3 % | 66.7 % | 66.7 % | 0.50 | 0.50 | 0.50 |" in text
    assert "**2 cells** of 60 seconds, **12 operations**" in text
    assert "median 2.5, most 2.5" in text
    assert "| `kill-one` | 6 / 3 | 6 / 3 | 12 |" in text


def test_what_is_not_valid_or_was_tried_again_is_named(tmp_path: Path) -> None:
    outcome(tmp_path, "kv", "pause", "unknown")
    outcome(tmp_path, "kv", "slow", "valid", earlier=[{"verdict": "failed"}])
    before = {"verdict": "unknown", "undecided": ["no time"], "violations": 0}
    outcome(tmp_path, "set", "slow", "valid", checked_before=[before])
    text = page(read_outcomes(tmp_path))
    assert "| `pause` | **unknown** 6 / 3 |" in text
    assert "- kv under pause: unknown" in text
    assert "first failed, run again" in text
    assert "first unknown (no time), the same history checked again" in text


def test_pairs_that_did_not_run_say_why(tmp_path: Path) -> None:
    outcome(tmp_path, "kv", "none", "valid")
    outcomes = read_outcomes(tmp_path)
    assert any(each.get("skipped") == NOT_RUN for each in outcomes)
    text = page(outcomes)
    assert "everything under `corrupt-db`: SQLite's pages have no checksums" in text
    assert "under `pause`; everything under `pause-leader`" in text
    assert "`membership` under `member`: the nemesis changes the very list" in text

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from bench import plots
from bench.report import failures, markdown


def point(per_s: float, **changes: Any) -> dict[str, Any]:
    return {
        "generator": "rotating",
        "kind": "put",
        "concurrency": 64,
        "done": 100,
        "errors": 0,
        "per_s": per_s,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "cpu_s_per_1000": 0.1,
        "others_cpu_percent": 1.0,
        "rss_mb": [60.0, 70.0, 65.0],
        "peer_bytes_per_call": 700.0,
        "peer_bytes_of_leader_per_call": 600.0,
        "peer_sockets_gone": 0,
        "disk_bytes_per_call": 4000.0,
    } | changes


def broken(reason: str) -> dict[str, Any]:
    return {"generator": "rotating", "kind": "put", "concurrency": 64, "failed": reason}


def results(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    rounds = [
        {"product": name, "round": number, "points": [found]}
        for number, pair in enumerate(zip(ours, theirs, strict=True))
        for name, found in zip(("dqlite", "etcd"), pair, strict=True)
    ]
    return {
        "when": "2030-01-01 00:00 UTC",
        "machine": "a machine",
        "command": "python -m bench run",
        "settings": "as set",
        "products": ["dqlite", "etcd"],
        "rounds": rounds,
        "cold_start_s": {"dqlite": [0.25], "etcd": [0.5]},
        "restart_s": {"dqlite": [], "etcd": []},
        "failover_s": {},
        "check_perf": {},
        "pysyncobj": {},
        "failed": [],
    }


def cells(text: str, label: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {label} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_medians_and_the_median_of_each_rounds_ratio_are_shown() -> None:
    found = results([point(100), point(300), point(200)], [point(200), point(100), point(200)])
    assert cells(markdown(found), "calls/s, c=64") == ["200", "200", "1.00"]
    assert cells(markdown(found), "RSS MB, largest member, c=64") == ["70", "70", "1.00"]
    assert not failures(found)


def test_a_load_that_failed_is_named_and_gives_no_zero() -> None:
    found = results([broken("n2 has ended"), point(300)], [point(200), point(100)])
    text = markdown(found)
    assert cells(text, "calls/s, c=64") == ["300 (1 of 2 failed)", "150", "3.00"]
    assert "- dqlite, round 0: rotating put c=64: n2 has ended" in text


def test_a_load_that_always_failed_has_no_figure_and_no_ratio() -> None:
    found = results([broken("no h2load")], [point(200)])
    assert cells(markdown(found), "calls/s, c=64") == ["failed", "200", "-"]
    assert failures(found)


def test_a_load_with_failed_calls_gives_no_figure() -> None:
    found = results([point(9000, errors=12)], [point(200)])
    text = markdown(found)
    assert cells(text, "calls/s, c=64") == ["failed", "200", "-"]
    assert "12 calls failed of 100" in text


def test_lost_watch_events_are_a_failure() -> None:
    found = results([point(100)], [point(200)])
    for one, missing in zip(found["rounds"], (5, 0), strict=True):
        one["watch"] = point(1000, missing=missing)
    text = markdown(found)
    assert cells(text, "watch: events/s delivered to 100 watchers") == ["failed", "1,000", "-"]
    assert "5 events missing" in text


def test_a_product_that_never_started_is_told_of() -> None:
    found = results([point(100)], [point(200)])
    found["rounds"].pop()
    found["failed"].append("etcd: three members: NeverHappened: n1 ended with 1")
    text = markdown(found)
    assert cells(text, "calls/s, c=64") == ["100", "-", "-"]
    assert "- etcd: three members: NeverHappened: n1 ended with 1" in text


def test_an_earlier_version_gets_a_column_and_a_ratio_of_its_own() -> None:
    found = results([point(100)], [point(200)])
    found["products"].append("earlier")
    found["rounds"].append({"product": "earlier", "round": 0, "points": [point(50)]})
    assert cells(markdown(found), "calls/s, c=64") == ["100", "200", "50", "0.50", "0.25"]


def test_a_long_reason_is_cut_to_its_first_and_last_line() -> None:
    found = results([point(100)], [broken("it ended:\nTraceback\n  somewhere\nOSError: full\n")])
    assert "c=64: it ended: ... OSError: full" in markdown(found)


def test_a_busy_machine_is_said() -> None:
    found = results([point(100, others_cpu_percent=40.0)], [point(200)])
    assert "1 of 2 loads saw more than 5 %" in markdown(found)


def test_closed_peer_connections_are_said() -> None:
    found = results([point(100, peer_sockets_gone=2)], [point(200)])
    assert "In 1 loads of puts a connection between peers was closed" in markdown(found)


def test_etcds_own_check_is_compared() -> None:
    found = results([point(100)], [point(200)])
    verdict = {"load": "l", "per_s": 3000, "slowest_s": 0.5, "verdicts": ["x"]}
    found["check_perf"] = {"dqlite": verdict, "etcd": verdict | {"per_s": 2000}}
    label = "etcdctl check perf --load=l: writes/s"
    assert cells(markdown(found), label) == ["3,000", "2,000", "1.50"]
    found["check_perf"]["dqlite"] = {"failed": "no verdict"}
    assert cells(markdown(found), label) == ["failed", "2,000", "-"]


@pytest.mark.skipif(not plots.can_plot(), reason="matplotlib is not installed")
def test_plots_leave_out_what_failed(tmp_path: Path) -> None:
    found = results([broken("n2 has ended")], [point(200)])
    names = plots.write_plots(copy.deepcopy(found), tmp_path, "run")
    assert names == [f"run-{name}.png" for name in ("rate", "p99", "cpu", "peers", "disk")]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in names)

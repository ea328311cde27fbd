from __future__ import annotations

import ast
from pathlib import Path

import pytest

from jepsen.edn import edn, write_edn
from jepsen.history import (
    INFO,
    INVOKE,
    NEVER,
    OK,
    Event,
    HistoryWriter,
    MalformedHistory,
    pair,
    read_history,
    write_history,
)

ROOT = Path(__file__).resolve().parent.parent.parent


def ticking() -> int:
    ticking.now += 5  # type: ignore[attr-defined]
    return ticking.now  # type: ignore[attr-defined]


def write(path: Path) -> HistoryWriter:
    ticking.now = 100  # type: ignore[attr-defined]
    with HistoryWriter(str(path), clock_ns=ticking) as history:
        asked = history.invoke(3, "cas", key="k", value=[1, 2], node="n1")
        history.nemesis("start", "kill", ["n2"])
        history.complete(asked, OK, [1, 2], extra={"revision": 7, "succeeded": True})
        history.invoke(4, "txn", value=[["r", "x", None]])
        lost = history.invoke(5, "read", key="k", extra={"serializable": True})
        history.complete(lost, INFO, error="timed out")
    return history


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = write(path)
    events = read_history(str(path))
    assert events == history.events
    assert [event.index for event in events] == list(range(6))
    assert events[0].time_ns == 5
    write_history(events, str(path))
    assert read_history(str(path)) == events


def test_operations_pair_what_was_asked_with_what_became_of_it(tmp_path: Path) -> None:
    swap, unanswered, lost = pair(write(tmp_path / "h").events)
    assert (swap.type, swap.revision, swap.node, swap.start, swap.end) == (OK, 7, "n1", 0, 2)
    assert unanswered.type == lost.type == INFO
    assert unanswered.end == lost.end == NEVER
    assert lost.serializable


def test_edn_has_keywords_where_jepsen_expects_them(tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    write_edn(write(tmp_path / "h").events, str(path))
    lines = path.read_text().splitlines()
    assert ":process :nemesis" in lines[1]
    assert ":extra {:revision 7, :succeeded true}" in lines[2]
    assert ':value [[:r "x" nil]]' in lines[3]
    assert edn({"mod_revision": [1.5, None, 'a"b'], "0 x": {}}) == (
        '{:mod-revision [1.5 nil "a\\"b"], "0 x" {}}'
    )


@pytest.mark.parametrize(
    "events",
    [
        [Event(0, 0, OK, 1, "read")],
        [Event(0, 0, INVOKE, 1, "read"), Event(1, 0, INVOKE, 1, "read")],
        [Event(0, 0, INVOKE, 1, "read"), Event(1, 0, OK, 1, "write")],
        [Event(1, 0, INVOKE, 1, "read"), Event(1, 0, OK, 1, "read")],
    ],
)
def test_a_history_that_breaks_its_schema_is_refused(events: list[Event]) -> None:
    with pytest.raises(MalformedHistory):
        pair(events)


def test_a_torn_or_foreign_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for text in (
        '{"index": 0',
        '{"index": 0}',
        '{"index":0,"time_ns":0,"type":"x","process":0,"f":"r"}',
    ):
        path.write_text(text)
        with pytest.raises(MalformedHistory):
            read_history(str(path))


def test_the_tester_sees_the_product_only_from_outside() -> None:
    """Checkers that shared code with the store would share its mistakes."""
    forbidden = ("dqlite_py.node", "dqlite_py.raft", "dqlite_py.db")
    own = ("checkers", "model", "report", "history.py", "edn.py")
    for path in (ROOT / "jepsen").rglob("*.py"):
        inside = path.relative_to(ROOT / "jepsen").parts[0] in own
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                assert not name.startswith(forbidden), path
                assert not (inside and name.startswith("dqlite_py")), path

"""The statements of the hot path use the indexes they were designed for."""

from __future__ import annotations

import pytest

from dqlite_py.kv import schema, store
from dqlite_py.kv.machine import EtcdMachine
from tests.kit.single_replica import SingleReplica


def plan(statement: str) -> str:
    session = SingleReplica(EtcdMachine()).session
    bindings = (1,) * statement.count("?")
    rows = session.execute("EXPLAIN QUERY PLAN " + statement, bindings)
    return "; ".join(row[3] for row in rows)


@pytest.mark.parametrize("statement", [store._NEWEST, store._NEWEST_WITH_VALUE])
def test_a_point_read_is_one_seek(statement: str) -> None:
    assert plan(statement) == "SEARCH revisions USING INDEX revisions_key (key=? AND rowid<?)"


@pytest.mark.parametrize("statement", [*store._STATEMENTS.values(), *store._COUNTS.values()])
def test_intervals_walk_the_covering_index_without_sorting(statement: str) -> None:
    shown = plan(statement)
    assert "SEARCH revisions USING COVERING INDEX revisions_key" in shown
    assert "TEMP B-TREE" not in shown


def test_ids_order_by_main_then_sub() -> None:
    ids = [
        schema.row_id(main, sub, tombstone)
        for main in (1, 2)
        for sub in (0, 1, schema.SUB_LIMIT - 1)
        for tombstone in (0, 1)
    ]
    assert ids == sorted(set(ids))
    assert schema.bound(1) > ids[5]
    assert schema.bound(1) <= ids[6]


def test_a_fresh_store_is_at_revision_one_and_never_compacted() -> None:
    machine = EtcdMachine()
    SingleReplica(machine)
    assert (machine.revision, machine.compact_revision) == (1, -1)
    assert machine.has_schema

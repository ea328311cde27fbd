"""Compaction: what becomes unreadable, what stays, and what never goes back."""

from __future__ import annotations

import asyncio

import pytest

from dqlite_py import errors
from dqlite_py.kv import compaction
from dqlite_py.kv.commands import Kind
from dqlite_py.kv.compactor import Compactor
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.loop import run_virtual
from tests.kit.single_etcd import ALL, SingleEtcd


@pytest.fixture
def etcd() -> SingleEtcd:
    """a put at 2 and 3, b put at 4 and deleted at 5, c put at 6."""
    etcd = SingleEtcd()
    etcd.put(b"a", b"1")
    etcd.put(b"a", b"2")
    etcd.put(b"b")
    etcd.delete(b"b")
    etcd.put(b"c")
    return etcd


def test_bounds(etcd: SingleEtcd) -> None:
    with pytest.raises(errors.FutureRevision):
        etcd.compact(7)
    assert etcd.compact(6).header.revision == 6
    with pytest.raises(errors.Compacted):
        etcd.compact(6)


def test_a_fresh_store_can_be_compacted_at_zero_once() -> None:
    etcd = SingleEtcd()
    etcd.compact(0)
    with pytest.raises(errors.Compacted):
        etcd.compact(0)


def test_rows_stay_until_the_second_phase(etcd: SingleEtcd) -> None:
    before = etcd.stored_revisions()
    etcd.compact(6)
    assert etcd.stored_revisions() == before
    etcd.step(6)
    assert etcd.stored_revisions() == [(3, b"a", False), (6, b"c", False)]


def test_only_a_committed_compact_revision_is_worked_on(etcd: SingleEtcd) -> None:
    with pytest.raises(errors.FutureRevision):
        etcd.step(3)


def test_each_keys_newest_row_is_kept_and_a_tombstone_only_at_the_revision_itself(
    etcd: SingleEtcd,
) -> None:
    etcd.compact_fully(4)
    kept = [(3, b"a", False), (4, b"b", False), (5, b"b", True), (6, b"c", False)]
    assert etcd.stored_revisions() == kept
    etcd.compact_fully(5)
    assert etcd.stored_revisions() == [kept[0], *kept[2:]]
    etcd.compact_fully(6)
    assert etcd.stored_revisions() == [kept[0], kept[3]]
    assert etcd.keys(**ALL) == [b"a", b"c"]


@pytest.mark.parametrize("rows_left", ["id < 0", "key = x'61'"])
def test_the_revision_does_not_depend_on_rows_that_compaction_may_delete(rows_left: str) -> None:
    etcd = SingleEtcd()
    etcd.put(b"a")
    etcd.put(b"b")
    etcd.delete(b"b")
    etcd.compact_fully(4)
    etcd.replica.session.execute(f"DELETE FROM revisions WHERE NOT ({rows_left})")
    restarted = EtcdMachine()
    restarted.open(etcd.replica.session)
    assert restarted.mark()[0] == 4
    restarted.reloaded(etcd.replica.session)
    assert (restarted.revision, restarted.compact_revision, restarted.compact_finished) == (4, 4, 4)


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_steps_of_any_size_come_to_the_same(
    etcd: SingleEtcd, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(compaction, "STEP_ROWS", rows)
    etcd.compact(3)
    etcd.step(3)
    # A later compaction overtakes the unfinished one.
    etcd.compact_fully(6)
    assert etcd.stored_revisions() == [(3, b"a", False), (6, b"c", False)]


def test_a_step_deletes_a_bounded_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "STEP_ROWS", 20)
    etcd = SingleEtcd()
    for number in range(compaction.STEP_ROWS + 10):
        etcd.put(b"k", b"%d" % number)
    etcd.compact(etcd.machine.revision)
    total = len(etcd.stored_revisions())
    etcd.step(etcd.machine.revision)
    assert total - len(etcd.stored_revisions()) <= 2 * compaction.STEP_ROWS
    assert etcd.machine.compact_finished == -1
    etcd.step(etcd.machine.revision)
    assert len(etcd.stored_revisions()) == 1
    assert etcd.machine.compact_finished == etcd.machine.revision


def test_physical_compaction_answers_when_the_rows_are_gone(etcd: SingleEtcd) -> None:
    async def main() -> None:
        compactor = Compactor(etcd.replica, etcd.machine)
        request = rpc.CompactionRequest(revision=6, physical=True)
        waiting = asyncio.ensure_future(etcd.kv.compact(request))
        await asyncio.sleep(1)
        assert not waiting.done()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(compactor.run())
            await waiting
            running.cancel()
        assert len(etcd.stored_revisions()) == 2

    run_virtual(main)


def test_the_next_leader_finishes_what_the_last_began(
    etcd: SingleEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "STEP_ROWS", 1)

    async def main() -> None:
        compactor = Compactor(etcd.replica, etcd.machine)
        await etcd.kv.compact(rpc.CompactionRequest(revision=6))
        async with asyncio.TaskGroup() as group:
            running = group.create_task(compactor.run())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            etcd.replica.lose_leadership()
            await asyncio.sleep(5)
            assert etcd.machine.compact_finished < 6
            etcd.replica.gain_leadership()
            await asyncio.sleep(5)
            running.cancel()
        assert etcd.machine.compact_finished == 6
        steps = [command for command in etcd.replica.written if command.kind is Kind.COMPACT_STEP]
        assert len(steps) >= 2

    run_virtual(main)

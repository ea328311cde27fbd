"""Power is cut at every operation of the log; what was acknowledged must be there afterwards."""

from __future__ import annotations

from random import Random

import pytest

from tests.kit.disk import PowerCut, SimulatedDisk
from tests.kit.log_model import DrivenLog, random_step


def script(log: DrivenLog) -> None:
    """Visit appends, rolls, oversized entries, conflicts, votes, compaction and installs."""
    log.append(1, 1, [b"first"])
    log.append(2, 1, [b"x" * 700, bytes(600)])
    log.commit(2)
    log.prepare()
    log.append(4, 1, [b"y" * 900])  # rolls
    log.append(3, 2, [b"conflict"])
    for _ in range(4):
        log.prepare()
    log.append(4, 2, [b"z" * 6000])  # a segment of its own
    log.commit(4)
    log.vote(3, 2)
    log.append(5, 3, [b"a" * 1000, b"b" * 1000])
    log.compact(4)
    log.append(7, 3, [b"c" * 1800])
    log.append(6, 4, [b"d"])
    log.install(20, 4)
    log.append(21, 4, [b"e" * 300])
    log.commit(21)
    log.close_and_reopen()
    log.append(22, 4, [b"f" * 1500])
    log.compact(21)
    log.append(23, 4, [b"g"])


def changes_of_script() -> int:
    disk = SimulatedDisk(Random(0))
    log = DrivenLog(disk)
    start = disk.changes
    script(log)
    return disk.changes - start


CHANGES = changes_of_script()


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_at_every_operation_keeps_what_was_acknowledged(seed: int) -> None:
    for cut in range(CHANGES):
        disk = SimulatedDisk(Random(1000 * seed + cut))
        log = DrivenLog(disk)
        disk.cut_power_at = disk.changes + cut
        with pytest.raises(PowerCut):
            script(log)
        disk.crash()
        log.reopen()
        model = log.before
        log.append(model.last + 1, model.term + 1, [b"after the crash"])
        disk.crash()
        log.reopen()
        assert log.before.entries[-1].data == b"after the crash"


def test_a_power_cut_while_repairing_after_a_power_cut_loses_nothing() -> None:
    for cut in range(0, CHANGES, 2):
        for second in range(4):
            disk = SimulatedDisk(Random(cut * 10 + second))
            log = DrivenLog(disk)
            disk.cut_power_at = disk.changes + cut
            with pytest.raises(PowerCut):
                script(log)
            disk.crash()
            disk.cut_power_at = disk.changes + second
            try:
                log.reopen()
            except PowerCut:
                disk.crash()
                log.reopen()


@pytest.mark.parametrize("seed", range(40))
def test_random_operations_with_random_power_cuts_match_the_model(seed: int) -> None:
    random = Random(seed)
    disk = SimulatedDisk(random)
    log = DrivenLog(disk)
    torn = 0
    for _ in range(12):
        disk.cut_power_at = disk.changes + random.randrange(1, 60)
        try:
            for _ in range(60):
                random_step(log, random)
        except PowerCut:
            pass
        disk.crash()
        log.reopen()
        torn += log.storage.torn_bytes > 0


def test_the_random_runs_do_reach_torn_batches() -> None:
    torn = 0
    for seed in range(20):
        disk = SimulatedDisk(Random(seed))
        log = DrivenLog(disk)
        log.append(1, 1, [b"x" * 100])
        disk.cut_power_at = disk.changes + 1  # between the write and its sync
        with pytest.raises(PowerCut):
            log.append(2, 1, [bytes([1]) * 1200])
        disk.crash()
        log.reopen()
        torn += log.storage.torn_bytes > 0
        assert log.storage.torn_bytes == 0 or log.storage.last_index() == 1
    assert torn > 5


def test_what_a_torn_batch_left_never_mixes_with_the_next_one() -> None:
    for seed in range(60):
        disk = SimulatedDisk(Random(seed))
        log = DrivenLog(disk)
        for length in (3000, 2500):
            disk.cut_power_at = disk.changes + 1
            with pytest.raises(PowerCut):
                log.append(1, 1, [bytes([1]) * length])
            disk.crash()
            log.reopen()
            if log.before.entries:
                break


def test_a_run_is_a_function_of_its_seed() -> None:
    traces = []
    for _ in range(2):
        random = Random(7)
        disk = SimulatedDisk(random)
        log = DrivenLog(disk)
        disk.cut_power_at = 100
        try:
            for _ in range(100):
                random_step(log, random)
        except PowerCut:
            disk.crash()
        traces.append((disk.trace, disk.files()))
    assert traces[0] == traces[1]

"""Faults of every kind in a seeded order, under writers, readers and a watch.

``FAULTS=40 FAULT_SEED=7`` makes it longer or another run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.kit.check import assert_identical_files
from tests.kit.processes import Cluster, ServerProcess
from tests.kit.products import Options, under_test
from tests.kit.register import Readers
from tests.kit.workload import Writers, assert_kept, assert_same_hash

pytestmark = pytest.mark.process

SEED = int(os.environ.get("FAULT_SEED", "1"))
FAULTS = int(os.environ.get("FAULTS", "3"))
LINK_DELAY_S = 0.05


class Faults:
    """What can be done to a cluster that keeps, or gets back, a quorum."""

    def __init__(self, cluster: Cluster, writers: Writers, choose: random.Random) -> None:
        self._cluster = cluster
        self._writers = writers
        self._choose = choose
        self.kinds: list[Callable[[ServerProcess], None]] = [
            self.kill,
            self.kill_all,
            self.pause,
            self.cut_off,
            self.cut_one_way,
            self.slow_down,
        ]

    def _progress(self) -> None:
        self._writers.wait_for(self._choose.randrange(20, 200), 60.0)

    def kill(self, victim: ServerProcess) -> None:
        victim.kill()
        self._progress()
        victim.restart()

    def kill_all(self, _: ServerProcess) -> None:
        for member in self._cluster.members:
            assert member.process is not None
            member.process.kill()
        for member in self._cluster.members:
            member.restart(wait=False)
        for member in self._cluster.members:
            member.wait_ready()

    def pause(self, victim: ServerProcess) -> None:
        victim.pause()
        try:
            self._progress()
        finally:
            victim.resume()

    def cut_off(self, victim: ServerProcess) -> None:
        self._cluster.isolate(victim)
        self._progress()
        self._cluster.heal()

    def cut_one_way(self, victim: ServerProcess) -> None:
        """What the victim opens to one other member is reset and refused."""
        assert self._cluster.proxy is not None
        others = [member for member in self._cluster.members if member is not victim]
        self._cluster.proxy.cut(victim.name, self._choose.choice(others).name)
        self._progress()
        self._cluster.heal()

    def slow_down(self, victim: ServerProcess) -> None:
        """Everything to and from the victim is held back, the leader's heartbeats too."""
        assert self._cluster.proxy is not None
        for other in self._cluster.members:
            if other is not victim:
                self._cluster.proxy.delay(victim.name, other.name, LINK_DELAY_S)
                self._cluster.proxy.delay(other.name, victim.name, LINK_DELAY_S)
        self._progress()
        self._cluster.heal()


def test_nothing_is_lost_or_read_old_under_random_faults() -> None:
    choose = random.Random(SEED)
    with Cluster(under_test(), proxied=True, options=Options(snapshot_count=100)) as cluster:
        cluster.start()
        clients = [member.client for member in cluster.members]
        with Writers(cluster, b"faults/") as writers, Readers(cluster.members) as readers:
            faults = Faults(cluster, writers, choose)
            for number in range(FAULTS):
                victim = choose.choice(cluster.members)
                fault = choose.choice(faults.kinds)
                print(f"seed {SEED}, fault {number}: {fault.__name__} {victim.name}", flush=True)
                fault(victim)
                cluster.wait_leader(timeout_s=30.0)
                readers.put(cluster.wait_leader().client)
                for member in cluster.members:
                    readers.wait_answers(member)
        cluster.wait_level(60.0)
        assert_kept(writers.told, writers.prefix, clients)
        assert_same_hash(cluster)
        if cluster.product.name == "dqlite":
            assert_identical_files(cluster)

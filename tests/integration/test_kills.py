"""Nothing acknowledged is lost when members are killed while clients write.

``KILL_ROUNDS=20`` is the full run; the default is short enough for every test run.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.kit.check import assert_identical_files
from tests.kit.processes import Cluster
from tests.kit.products import under_test
from tests.kit.workload import Told, Writers, assert_kept, assert_same_hash

pytestmark = pytest.mark.process

ROUNDS = int(os.environ.get("KILL_ROUNDS", "4"))
SEED = int(os.environ.get("KILL_SEED", "1"))
ALL_AT_ONCE_ROUNDS = max(1, ROUNDS // 4)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(under_test()) as started:
        yield started.start()


def check_round(cluster: Cluster, writers: Writers) -> None:
    cluster.wait_level()
    assert_kept(writers.told, writers.prefix, [member.client for member in cluster.members])
    assert_same_hash(cluster)


def check_everything(cluster: Cluster, rounds: list[tuple[bytes, Told]]) -> None:
    clients = [member.client for member in cluster.members]
    for prefix, told in rounds:
        assert_kept(told, prefix, clients)
    if cluster.product.name == "dqlite":
        assert_identical_files(cluster)


def test_acknowledged_writes_survive_the_kill_of_any_member(cluster: Cluster) -> None:
    choose = random.Random(SEED)
    rounds = []
    for number in range(ROUNDS):
        prefix = b"kill/%03d/" % number
        with Writers(cluster, prefix) as writers:
            writers.wait_for(choose.randrange(50, 400))
            leader = cluster.wait_leader()
            victim = leader if number % 2 else choose.choice(cluster.members)
            print(f"seed {SEED}, round {number}: killing {victim.name}, leader {leader.name}")
            victim.kill()
            writers.wait_for(100)  # the others go on without it
            victim.restart()
            writers.wait_for(100)
        check_round(cluster, writers)
        rounds.append((prefix, writers.told))
    check_everything(cluster, rounds)


def test_acknowledged_writes_survive_the_kill_of_all_members_at_once(cluster: Cluster) -> None:
    choose = random.Random(SEED)
    rounds = []
    for number in range(ALL_AT_ONCE_ROUNDS):
        prefix = b"all/%03d/" % number
        with Writers(cluster, prefix) as writers:
            writers.wait_for(choose.randrange(100, 600))
            for member in cluster.members:
                assert member.process is not None
                member.process.kill()
            for member in cluster.members:
                member.restart(wait=False)
            for member in cluster.members:
                member.wait_ready()
            writers.wait_for(100)
        check_round(cluster, writers)
        rounds.append((prefix, writers.told))
    check_everything(cluster, rounds)

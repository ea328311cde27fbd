"""kill -9 at the moments when files are rewritten: the member comes back with everything."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from tests.kit.check import assert_identical_files
from tests.kit.processes import Cluster, ServerProcess, eventually
from tests.kit.products import Options, under_test
from tests.kit.workload import Writers, assert_kept, assert_same_hash

pytestmark = pytest.mark.process

SEED = int(os.environ.get("KILL_SEED", "1"))
KILLS = int(os.environ.get("CRASH_KILLS", "5"))
BIG_VALUE_BYTES = 8_192
SNAPSHOT_WRITES = 1_500
# Enough of the transfer that it is under way, little enough that it is not over.
PART_OF_TRANSFER_BYTES = 300_000
MOMENTS_OF_JOIN_S = (0.2, 0.4, 0.6, 0.8)


# Checkpoints and log trimming every twenty entries instead of every ten thousand.
REWRITING_OFTEN = Options(snapshot_count=20)


def assert_whole(cluster: Cluster, writers: Writers) -> None:
    cluster.wait_level(60.0)
    assert_kept(writers.told, writers.prefix, [member.client for member in cluster.members])
    assert_same_hash(cluster)
    if cluster.product.name == "dqlite":
        assert_identical_files(cluster)


@pytest.fixture
def slow_cluster() -> Iterator[Cluster]:
    with Cluster(under_test(), proxied=True, options=REWRITING_OFTEN) as cluster:
        yield cluster.start()


def test_kills_during_checkpoints_and_trimming_lose_nothing() -> None:
    choose = random.Random(SEED)
    with Cluster(under_test(), options=REWRITING_OFTEN) as cluster:
        cluster.start()
        with Writers(cluster, b"rewrite/", value_bytes=1024) as writers:
            for number in range(KILLS):
                writers.wait_for(choose.randrange(200, 500))
                victim = choose.choice(cluster.members)
                print(f"seed {SEED}, kill {number}: {victim.name}")
                victim.kill()
                writers.wait_for(100)
                victim.restart()
        assert_whole(cluster, writers)


def far_behind(cluster: Cluster) -> tuple[ServerProcess, Writers]:
    """Return a stopped follower that has missed more than the log keeps, with slowed links."""
    # A member that sent a snapshot keeps it, and the log from there on, for a minute in case it is
    # wanted again: without a restart the snapshots of the joins would still be there.
    for member in cluster.members:
        member.restart()
    leader = cluster.wait_leader()
    behind = next(member for member in cluster.members if member is not leader)
    behind.kill()
    with Writers(cluster, b"snapshot/", value_bytes=BIG_VALUE_BYTES) as writers:
        writers.wait_for(SNAPSHOT_WRITES, 60.0)
    assert cluster.proxy is not None
    for other in cluster.members:
        if other is not behind:
            cluster.proxy.delay(other.name, behind.name, 0.05)
            cluster.proxy.delay(behind.name, other.name, 0.05)
    return behind, writers


def wait_transfer(cluster: Cluster, behind: ServerProcess) -> None:
    """Return when part of what the member lacks has reached it."""
    assert cluster.proxy is not None
    proxy, before = cluster.proxy, cluster.proxy.transferred_bytes(behind.name)
    eventually(
        lambda: proxy.transferred_bytes(behind.name) - before > PART_OF_TRANSFER_BYTES,
        f"part of the transfer to {behind.name}",
        30.0,
    )


def generation(member: ServerProcess) -> int:
    """Return which set of database files a member uses; each received snapshot is a new one."""
    directory = member.address.data_dir / "db"
    if not directory.exists():
        return 0
    return max(int(path.name) for path in directory.iterdir() if path.name.isdigit())


@pytest.mark.parametrize("victim", ["receiver", "sender"])
def test_a_kill_during_snapshot_transfer_loses_nothing(slow_cluster: Cluster, victim: str) -> None:
    behind, writers = far_behind(slow_cluster)
    before = generation(behind)
    behind.start(wait=False)
    wait_transfer(slow_cluster, behind)
    killed = behind
    if victim == "sender":
        others = [member for member in slow_cluster.members if member is not behind]
        killed = slow_cluster.wait_leader(others)
    killed.kill()
    slow_cluster.heal()
    killed.restart(wait=False)
    for member in slow_cluster.members:
        member.wait_ready(60.0)
    assert_whole(slow_cluster, writers)
    if slow_cluster.product.name == "dqlite":
        assert generation(behind) > before, "the log sufficed: no snapshot was sent"


def test_a_kill_during_join_leaves_a_server_that_joins_when_started_again() -> None:
    with Cluster(under_test()) as cluster:
        if cluster.product.starts_together:
            pytest.skip("members of this product do not join one by one")
        first, second, third = cluster.members
        first.start()
        first.client.put(b"before", b"joining")
        for moment_s in MOMENTS_OF_JOIN_S:
            second.start(wait=False)
            second.kill_after(moment_s)
        second.start()
        third.start()
        cluster.wait_leader()
        cluster.wait_level()
        for member in cluster.members:
            assert member.client.get(b"before", serializable=True) == b"joining"
        names = sorted(member.name for member in first.client.members().members)
        assert names == ["n1", "n2", "n3"]
        assert_identical_files(cluster)


def test_a_kill_of_the_first_server_during_a_join_is_survived() -> None:
    with Cluster(under_test()) as cluster:
        if cluster.product.starts_together:
            pytest.skip("members of this product do not join one by one")
        first, second, third = cluster.members
        first.start()
        first.client.put(b"before", b"joining")
        for moment_s in MOMENTS_OF_JOIN_S[:2]:
            second.start(wait=False)
            first.kill_after(moment_s)
            first.start(wait=False)
            if second.running:
                second.kill()
        second.start(wait=False)
        for member in (first, second):
            member.wait_ready(60.0)
        third.start()
        cluster.wait_leader()
        cluster.wait_level()
        assert third.client.get(b"before", serializable=True) == b"joining"

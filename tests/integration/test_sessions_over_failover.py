"""Watches and leases of clients whose member lives go on when the leader is killed."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.kit.etcd_client import EtcdClient, Refused, prefix_end
from tests.kit.processes import Cluster, ServerProcess, eventually
from tests.kit.products import under_test
from tests.kit.workload import Writers

pytestmark = pytest.mark.process

LEASE_TTL_S = 3
RENEWALS_AFTER_KILL = 5


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(under_test()) as started:
        yield started.start()


def leader_and_others(cluster: Cluster) -> tuple[ServerProcess, list[ServerProcess]]:
    leader = cluster.wait_leader()
    return leader, [member for member in cluster.members if member is not leader]


class Watching:
    """Collects (revision, key) of every event below a prefix until a fence key is seen."""

    def __init__(self, client: EtcdClient, prefix: bytes, fence: bytes) -> None:
        self.seen: list[tuple[int, bytes]] = []
        self._fence = fence
        self._stream = client.watch(timeout_s=120.0)
        created = self._stream.watch_key(prefix, prefix_end(prefix), start_revision=1)
        assert created.created
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self) -> None:
        with self._stream:
            for answer in self._stream:
                self.seen += [(event.kv.mod_revision, event.kv.key) for event in answer.events]
                if self.seen and self.seen[-1][1] == self._fence:
                    return

    def result(self, timeout_s: float = 30.0) -> list[tuple[int, bytes]]:
        """Return all events once the fence has been seen."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"the fence was not seen; last: {self.seen[-1:]}"
        return self.seen


def test_a_watch_on_a_survivor_sees_every_write_once_and_in_order(cluster: Cluster) -> None:
    leader, others = leader_and_others(cluster)
    fence = b"watched/fence"
    watches = [Watching(member.client, b"watched/", fence) for member in others]
    with Writers(cluster, b"watched/") as writers:
        writers.wait_for(300)
        leader.kill()
        writers.wait_for(300)
        leader.restart()
        writers.wait_for(100)
    others[0].client.put(fence, b"")
    history = others[0].client.prefix(b"watched/")
    expected = sorted((kv.mod_revision, kv.key) for kv in history.kvs)
    for watch in watches:
        assert watch.result() == expected
    acknowledged = {(revision, key) for key, (_, revision) in writers.told.acknowledged.items()}
    assert acknowledged <= set(expected)


def keep_alive(client: EtcdClient, lease_id: int) -> int:
    """Renew once; return 0 as well while nobody leads, so that the caller tries again."""
    try:
        return int(client.keep_alive(lease_id, timeout_s=2.0).TTL)
    except (Refused, StopIteration):
        return 0


def test_a_lease_renewed_through_a_follower_outlives_the_leader(cluster: Cluster) -> None:
    leader, others = leader_and_others(cluster)
    client = others[0].client
    lease_id = client.grant(LEASE_TTL_S).ID
    client.put(b"leased", b"v", lease=lease_id)
    leader.kill()
    for _ in range(RENEWALS_AFTER_KILL):
        eventually(
            lambda: keep_alive(client, lease_id) == LEASE_TTL_S,
            "the lease is renewed",
            timeout_s=10.0,
            poll_s=0.5,
        )
        assert client.get(b"leased", serializable=True) == b"v"


def test_a_lease_left_alone_expires_after_a_failover_and_not_early(cluster: Cluster) -> None:
    leader, others = leader_and_others(cluster)
    client = others[0].client
    lease_id = client.grant(LEASE_TTL_S).ID
    granted_s = time.monotonic()
    for key in (b"leased/1", b"leased/2"):
        client.put(key, b"v", lease=lease_id)
    before = client.revision()
    leader.kill()
    for member in others:
        eventually(
            lambda member=member: not member.client.prefix(b"leased/", serializable=True).kvs,
            f"the keys are gone on {member.name}",
            timeout_s=15.0,
        )
        assert time.monotonic() - granted_s >= LEASE_TTL_S
    cluster.wait_leader()
    assert client.revision() == before + 1  # both keys went in one revision
    assert lease_id not in client.leases()

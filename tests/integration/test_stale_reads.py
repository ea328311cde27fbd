"""A linearizable read never returns old data, wherever it is asked."""

from __future__ import annotations

import pytest

from tests.kit.etcd_client import Refused
from tests.kit.processes import Cluster, ServerProcess, eventually
from tests.kit.products import under_test
from tests.kit.register import KEY, Readers

pytestmark = pytest.mark.process

PAUSES = 3


def put_through(member: ServerProcess, readers: Readers, times: int) -> None:
    """Write ``times`` times through a member that has a quorum; unknown outcomes are tried anew."""
    for _ in range(times):
        eventually(lambda: readers.put(member.client) is None, "a put is acknowledged")


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_member_cut_off_from_the_others_answers_nothing_old(role: str) -> None:
    with Cluster(under_test(), proxied=True) as cluster:
        cluster.start()
        leader = cluster.wait_leader()
        lonely = leader
        if role == "follower":
            lonely = next(member for member in cluster.members if member is not leader)
        others = [member for member in cluster.members if member is not lonely]
        others[0].client.put(KEY, b"old")
        assert lonely.client.get(KEY) == b"old"
        cluster.isolate(lonely)
        cluster.wait_leader(others)
        others[0].client.put(KEY, b"new")
        with pytest.raises(Refused):
            lonely.client.get(KEY, timeout_s=3.0)
        # It serves, and says what it knows to those who do not mind.
        assert lonely.client.get(KEY, serializable=True) == b"old"
        with pytest.raises(Refused):
            lonely.client.put(KEY, b"lost", timeout_s=3.0)
        assert others[0].client.get(KEY) == b"new"
        cluster.heal()
        cluster.wait_level()
        assert lonely.client.get(KEY) in {b"new", b"lost"}  # the refused put's outcome is unknown


def test_a_paused_leader_answers_nothing_old_when_it_goes_on() -> None:
    with Cluster(under_test()) as cluster:
        cluster.start()
        with Readers(cluster.members) as readers:
            for _ in range(PAUSES):
                old = cluster.wait_leader()
                others = [member for member in cluster.members if member is not old]
                put_through(others[0], readers, 5)
                readers.wait_answers(old)
                old.pause()  # with reads under way, and more arriving while it stands still
                try:
                    cluster.wait_leader(others)
                    put_through(others[0], readers, 20)
                finally:
                    old.resume()
                put_through(others[1], readers, 20)
                readers.wait_answers(old)
                cluster.wait_leader()


def test_reads_stay_fresh_while_a_member_is_cut_off_and_comes_back() -> None:
    with Cluster(under_test(), proxied=True) as cluster:
        cluster.start()
        with Readers(cluster.members) as readers:
            for lonely in (cluster.wait_leader(), cluster.members[0]):
                others = [member for member in cluster.members if member is not lonely]
                cluster.isolate(lonely)
                cluster.wait_leader(others)
                put_through(others[0], readers, 20)
                cluster.heal()
                put_through(others[1], readers, 5)
                readers.wait_answers(lonely)

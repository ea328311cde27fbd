"""Unmodified etcdctl 3.5.1 against each of three members: what has no fixed output."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.etcdctl import FollowedCommand, etcdctl, etcdctl_json, etcdctl_ok
from tests.kit.processes import Cluster, eventually
from tests.kit.products import under_test

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(under_test()) as started:
        yield started.start()


@pytest.fixture(params=["n1", "n2", "n3"])
def endpoint(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    return cluster[request.param].address.client


def test_a_live_watch_sees_puts_through_other_members(cluster: Cluster, endpoint: str) -> None:
    with FollowedCommand(endpoint, "watch", "live", "--prev-kv") as watch:

        def in_place() -> bool:
            etcdctl_ok(endpoint, "put", "live", "probe")
            return "probe" in watch.text()

        eventually(in_place, "the watch shows a put")
        for number, member in enumerate(cluster.members):
            etcdctl_ok(member.address.client, "put", "live", f"from {number}")
        for number in range(len(cluster.members)):
            watch.until(f"from {number}")
        etcdctl_ok(endpoint, "del", "live")
        watch.until("DELETE")


def test_member_list_names_every_member(cluster: Cluster, endpoint: str) -> None:
    members = etcdctl_json(endpoint, "member", "list")["members"]
    found = {
        member["name"]: (member["clientURLs"], member["peerURLs"], "isLearner" in member)
        for member in members
    }
    assert found == {
        member.name: (
            [f"http://{member.address.client}"],
            [f"http://127.0.0.1:{member.address.peer_port}"],
            False,
        )
        for member in cluster.members
    }
    for line in etcdctl_ok(endpoint, "member", "list").splitlines():
        assert line.split(", ")[1] == "started"


def test_endpoint_status_agrees_on_the_leader(cluster: Cluster, endpoint: str) -> None:
    found = etcdctl_json(endpoint, "endpoint", "status", "--cluster")
    assert sorted(status["Endpoint"] for status in found) == sorted(
        f"http://{endpoint}" for endpoint in cluster.endpoints
    )
    ids = {status["Status"]["header"]["member_id"] for status in found}
    leaders = {status["Status"]["leader"] for status in found}
    assert len(ids) == len(cluster.members)
    assert len(leaders) == 1
    assert leaders <= ids
    for status in found:
        assert status["Status"]["dbSize"] > 0
        assert status["Status"]["raftIndex"] >= status["Status"]["raftAppliedIndex"] > 0


def test_endpoint_health_says_healthy(cluster: Cluster, endpoint: str) -> None:
    found = etcdctl_json(endpoint, "endpoint", "health", "--cluster")
    assert [member["health"] for member in found] == [True] * len(cluster.members)
    code, out, err = etcdctl(endpoint, "endpoint", "health")
    assert code == 0
    assert "is healthy" in out + err


def test_a_lease_kept_alive_lives_and_then_expires(endpoint: str) -> None:
    lease = etcdctl_ok(endpoint, "lease", "grant", "3").split()[1]
    etcdctl_ok(endpoint, "put", "x/1", "v", f"--lease={lease}")
    with FollowedCommand(endpoint, "lease", "keep-alive", lease) as renewals:
        for line in renewals.lines(3):
            assert line == f"lease {lease} keepalived with TTL(3)"
        assert "v" in etcdctl_ok(endpoint, "get", "x/1")
    eventually(lambda: not etcdctl_ok(endpoint, "get", "x/1"), "the key expires", 10.0)
    assert "already expired" in etcdctl_ok(endpoint, "lease", "timetolive", lease)

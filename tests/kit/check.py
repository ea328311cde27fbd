"""Asks members of this server for integrity checks and hashes of their database files."""

from __future__ import annotations

from typing import Any

from dqlite_py.pb import admin_pb2 as admin
from tests.kit.etcd_client import EtcdClient
from tests.kit.processes import Cluster, eventually

CHECK_PATH = "/dqlite.v1.Admin/Check"
CHECK_TIMEOUT_S = 30.0


def check(client: EtcdClient, *, checkpoint: bool) -> Any:
    """Return one member's account of its own databases."""
    request = admin.CheckRequest(checkpoint=checkpoint).SerializeToString()
    return admin.CheckResponse.FromString(client.raw(CHECK_PATH, request, CHECK_TIMEOUT_S))


def assert_identical_files(cluster: Cluster) -> None:
    """After a checkpoint everywhere, require sound and byte-identical database files.

    Nothing may write meanwhile. Members are asked again while they are at different log indexes
    or a reader keeps a checkpoint from completing.
    """

    def settled() -> list[Any]:
        answers = [check(member.client, checkpoint=True) for member in cluster.members]
        level = len({answer.applied_index for answer in answers}) == 1
        whole = all(database.sha256 for answer in answers for database in answer.databases)
        return answers if level and whole else []

    answers = eventually(settled, "every member checkpointed at one index", 20.0)
    for member, answer in zip(cluster.members, answers, strict=True):
        assert answer.databases, f"{member.name} names no database"
        for database in answer.databases:
            assert list(database.integrity) == ["ok"], (member.name, database)
    files = {
        tuple((found.name, found.sha256, found.page_count) for found in answer.databases)
        for answer in answers
    }
    assert len(files) == 1, answers

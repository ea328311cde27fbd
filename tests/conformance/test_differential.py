"""The same random requests against three members of this server and one real etcd 3.5.1.

Every answer must be equal but for cluster and member ids and terms. Differences between etcd's
versions that touch these requests, and what is done about each:

- HashKV's ``hash_revision`` exists from 3.6 on: not compared.
- HashKV at the compact revision itself is refused as compacted by 3.5.1: not asked.
- A watch that starts at the compact revision misses a delete of exactly that revision in 3.5.1:
  the history is compared from the revision after it.

``DIFFERENTIAL_SEEDS=1,2,3`` chooses seeds, ``DIFFERENTIAL_REQUESTS=1000`` the number of requests.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.etcd_client import EtcdClient
from tests.kit.processes import Cluster
from tests.kit.requests import RequestSource, ask, comparable, is_local

SEEDS = [int(seed) for seed in os.environ.get("DIFFERENTIAL_SEEDS", "1,2").split(",")]
REQUESTS = int(os.environ.get("DIFFERENTIAL_REQUESTS", "400"))

pytestmark = pytest.mark.process


def history(client: EtcdClient, start: int, end: int) -> list[Any]:
    """Return every event from ``start`` to ``end``, with its predecessor."""
    events: list[Any] = []
    with client.watch(timeout_s=20.0) as stream:
        created = stream.watch_key(b"\0", b"\0", start_revision=start, prev_kv=True)
        assert created.created
        assert not created.canceled
        while not events or events[-1].kv.mod_revision < end:
            answer = next(stream)
            assert not answer.canceled, answer
            events.extend(answer.events)
    return events


def assert_same_store(ours: Cluster, oracle: EtcdClient, compacted: int) -> None:
    """Compare contents, hashes at several revisions, and the watchable history."""
    everything = rpc.RangeRequest(key=b"\0", range_end=b"\0")
    expected = oracle.call("Range", everything)
    newest = expected.header.revision
    middle = (compacted + newest) // 2
    for member in ours.members:
        answer = member.client.call("Range", everything)
        assert (list(answer.kvs), answer.header.revision) == (list(expected.kvs), newest)
        for revision in sorted({0} | {at for at in (middle, newest) if at > compacted}):
            mine, theirs = member.client.hash_kv(revision), oracle.hash_kv(revision)
            assert mine.hash == theirs.hash, f"HashKV({revision}) on {member.name}"
            assert mine.compact_revision == theirs.compact_revision
            assert mine.header.revision == newest
    if newest > compacted:
        # A no-op write would not move the revision; a fence key makes the end of history visible.
        fence = ask_put(oracle)
        assert ask_put(ours.members[0].client) == fence
        expected_history = history(oracle, compacted + 1, fence)
        for member in ours.members:
            assert history(member.client, compacted + 1, fence) == expected_history


def ask_put(client: EtcdClient) -> int:
    return int(client.put(b"fence", b"").header.revision)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answer_equals_etcds(pair: tuple[Cluster, Cluster], seed: int) -> None:
    ours, theirs = pair
    oracle = theirs.members[0].client
    source = RequestSource(seed)
    spread = random.Random(seed)
    compacted = 0
    for number in range(REQUESTS):
        request = source.next()
        member = spread.choice(ours.members)
        if is_local(request):
            member.client.revision(timeout_s=10.0)  # a linearizable read brings the member level
        expected = ask(oracle, request)
        answer = ask(member.client, request)
        assert comparable(request, answer) == comparable(request, expected), (
            f"seed {seed}, request {number} on {member.name}: {request}"
        )
        if not isinstance(expected, Exception):
            source.learn(request, expected)
            if request.method == "Compact":
                compacted = request.message.revision
    assert_same_store(ours, oracle, compacted)

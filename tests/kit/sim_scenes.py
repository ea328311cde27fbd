"""Directed scenes on simulated replicas: a client's requests, and faults that hold up one part."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dqlite_py.node import entries
from dqlite_py.node.entries import FramesEntry
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.pb import rpc_pb2
from dqlite_py.seams import Worker
from tests.kit.loop import quick_jobs, run_virtual
from tests.kit.sim_cluster import SMALL_LIMITS, SimCluster, SimReplica

SCENE_LIMIT_S = 600.0


def play(
    folder: Path,
    scene: Callable[[SimCluster], Awaitable[None]],
    *,
    seed: int = 1,
    size: int = 3,
    limits: ReplicaLimits = SMALL_LIMITS,
) -> SimCluster:
    """Start a cluster, wait for its leader, run ``scene``, end in good order."""

    async def main() -> SimCluster:
        cluster = SimCluster(seed, folder, size, limits)
        await cluster.start()
        await cluster.wait_for(lambda: cluster.leader, "a first leader")
        await scene(cluster)
        await cluster.stop()
        return cluster

    return run_virtual(main, limit_s=SCENE_LIMIT_S)


# --- who is who -----------------------------------------------------------------------------------
def leader_of(cluster: SimCluster) -> SimReplica:
    leader = cluster.leader
    assert leader is not None
    return leader


def others_than(cluster: SimCluster, member: SimReplica) -> list[SimReplica]:
    return [m for m in cluster.members if m is not member]


# --- requests -------------------------------------------------------------------------------------
async def put(member: SimReplica, key: bytes, value: bytes = b"x") -> Any:
    return await member.kv.put(rpc_pb2.PutRequest(key=key, value=value))


async def get(member: SimReplica, key: bytes, *, serializable: bool = False) -> bytes | None:
    request = rpc_pb2.RangeRequest(key=key, serializable=serializable)
    found = (await member.kv.range(request)).kvs
    return found[0].value if found else None


async def version_of(member: SimReplica, key: bytes) -> int:
    """How many times a key was put."""
    found = (await member.kv.range(rpc_pb2.RangeRequest(key=key))).kvs
    return found[0].version if found else 0


async def put_many(member: SimReplica, prefix: str, count: int, size_bytes: int = 600) -> None:
    """Put ``count`` keys one after the other, each an entry of its own."""
    for number in range(count):
        await put(member, f"{prefix}{number}".encode(), random.Random(number).randbytes(size_bytes))


# --- faults ---------------------------------------------------------------------------------------
def isolate(cluster: SimCluster, member: SimReplica) -> None:
    """Let ``member`` neither send nor receive."""
    cluster.network.partition([member.name], [m.name for m in others_than(cluster, member)])


def deafen(cluster: SimCluster, member: SimReplica) -> None:
    """Let ``member`` send but not receive."""
    for other in others_than(cluster, member):
        cluster.network.cut(other.name, member.name)


def slow_down(member: SimReplica, worker: str, latency_s: float) -> Callable[[], None]:
    """Make each job of the workers with ``worker`` in their name take that long; return the undo.

    A job that is already due keeps its time.
    """

    def latency(rng: random.Random, name: str) -> float:
        usual_s = quick_jobs(rng, name)
        return latency_s if worker in name else usual_s

    workers = member._workers
    workers.latency_s = latency

    def undo() -> None:
        workers.latency_s = quick_jobs

    return undo


class LateWorker:
    """A worker whose results reach the event loop late."""

    def __init__(self, worker: Worker, delay_s: float) -> None:
        self._worker = worker
        self._delay_s = delay_s

    def run(self, job: Callable[[], Any]) -> Awaitable[Any]:
        async def late() -> Any:
            result = await self._worker.run(job)
            await asyncio.sleep(self._delay_s)
            return result

        return late()

    def close(self) -> None:
        self._worker.close()


class NothingSurvives(random.Random):
    """Decides for a simulated disk that a power cut loses all that was not synced."""

    def random(self) -> float:
        return 1.0

    def choice(self, seq: Any) -> Any:
        return seq[0]


# --- looking inside -------------------------------------------------------------------------------
def frames_entry(member: SimReplica, index: int) -> FramesEntry:
    """Return the frames entry that stands at ``index`` of the member's log."""
    (entry,) = member.parts.storage.entries(index, index + 1, 1 << 30)
    content = entries.decode(entry.data)
    assert isinstance(content, FramesEntry)
    return content


def rows_seen_by_sqlite(member: SimReplica, key: bytes) -> int:
    """Count the rows of a key as SQLite shows them now, speculation included."""
    query = "SELECT count(*) FROM revisions WHERE key = ?"
    ((count,),) = member.replica.read_now(lambda session: list(session.execute(query, (key,))))
    return int(count)


async def settle_follower(cluster: SimCluster, member: SimReplica) -> None:
    leader = leader_of(cluster)
    await cluster.wait_for(
        lambda: member.replica.applied_index == leader.replica.applied_index,
        "the follower caught up",
    )


async def assert_identical(cluster: SimCluster) -> None:
    """Heal, wait until all have applied the same, and compare files and hashes."""
    await cluster.settle()
    images, hashes = set(), set()
    for member in cluster.members:
        await member.replica.checkpoint()
        (check,) = await member.replica.check_databases()
        assert check.problems == []
        images.add(check.sha256)
        hashes.add((await member.kv.hash_kv(rpc_pb2.HashKVRequest())).hash)
    assert len(images) == 1
    assert len(hashes) == 1


async def outcome_of(work: Awaitable[Any]) -> Any:
    """Return the result of ``work``, or the exception it ended with."""
    (found,) = await asyncio.gather(work, return_exceptions=True)
    return found

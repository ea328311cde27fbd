"""What a replica says of itself, and the transfers of leadership that it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqlite_py.errors import BadLeaderTransferee, NoLeader, PeerFailed
from dqlite_py.pb import rpc_pb2
from tests.kit.loop import run_virtual
from tests.kit.sim_cluster import SimCluster


def test_a_replica_tells_its_state_and_refuses_impossible_transfers(tmp_path: Path) -> None:
    async def main() -> None:
        cluster = SimCluster(5, tmp_path / "run")
        await cluster.start()
        leader = await cluster.wait_for(lambda: cluster.leader, "a leader")
        with_answer = rpc_pb2.PutRequest(key=b"k", value=b"v")
        await leader.kv.put(with_answer)
        await cluster.settle()
        replica = leader.replica
        status = replica.status()
        assert (status.member_id, status.leader_id) == (replica.member_id, replica.member_id)
        assert status.applied_index == status.commit_index == status.last_index
        assert status.db_size_bytes >= status.db_size_in_use_bytes > 0
        assert (replica.leader_id, replica.pending_writes) == (replica.member_id, 0)
        assert replica.leader_changes_seen >= 1
        follower = next(m for m in cluster.members if m is not leader).replica
        assert (follower.pending_writes, follower.status().leader_id) == (0, replica.member_id)
        await replica.transfer_leadership(replica.member_id)
        assert replica.is_leader
        with pytest.raises(BadLeaderTransferee):
            await replica.transfer_leadership(12345)
        with pytest.raises(PeerFailed, match="unknown call"):
            replica._parts.router.serve("no.such.call", b"")
        await cluster.stop()
        with pytest.raises(NoLeader):
            replica.read_now(lambda _: None)

    (tmp_path / "run").mkdir()
    run_virtual(main, limit_s=300)

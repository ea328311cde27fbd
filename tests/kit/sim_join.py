"""A member that joins a simulated cluster: an empty disk but for the addresses of the others."""

from __future__ import annotations

from dqlite_py.node.contract import Member
from dqlite_py.node.startup import joining_manifest
from dqlite_py.storage import manifest as manifests
from dqlite_py.storage.datadir import DataDir, Identity
from dqlite_py.storage.raft_storage import RaftStorage
from tests.kit.sim_cluster import CLUSTER_ID, SMALL_STORAGE, SimCluster, SimReplica


class JoiningReplica(SimReplica):
    """Takes the identity that the cluster gave to ``record``."""

    def __init__(self, cluster: SimCluster, record: Member, members: tuple[Member, ...]) -> None:
        super().__init__(cluster, len(cluster.members) + 1)
        self.number = record.id
        datadir = DataDir.open(self.disk, self.path)
        manifest = joining_manifest(CLUSTER_ID, members)
        self.disk.mkdir(datadir.generation_path(1))
        manifests.store(self.disk, self.path, manifest)
        RaftStorage.open(self.disk, datadir.raft_path, manifest, SMALL_STORAGE).close()
        datadir.store_identity(Identity(CLUSTER_ID, self.number, self.name))
        datadir.close()


def peer_url(ordinal: int) -> str:
    return f"http://n{ordinal}:2380"


async def join(cluster: SimCluster, through: SimReplica) -> JoiningReplica:
    """Add a learner through a member and start it; it is the cluster's newest member."""
    ordinal = len(cluster.members) + 1
    record = await through.replica.add_member(
        [peer_url(ordinal)], is_learner=True, name=f"n{ordinal}", token_id="token"
    )
    joiner = JoiningReplica(cluster, record, tuple(through.replica.members()))
    cluster.members.append(joiner)
    await joiner.start()
    return joiner

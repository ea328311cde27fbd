"""Fills the response header fields that only this member knows."""

from __future__ import annotations

from dqlite_py.node.contract import ReplicaPort
from dqlite_py.pb import rpc_pb2


class HeaderFiller:
    """Adds cluster id, member id and Raft term to headers; the services set the revision."""

    def __init__(self, replica: ReplicaPort) -> None:
        self._replica = replica

    def fill(self, header: rpc_pb2.ResponseHeader) -> None:
        """Set the ids of this answering member and the current term; keep the revision."""
        replica = self._replica
        header.cluster_id = replica.cluster_id
        header.member_id = replica.member_id
        header.raft_term = replica.term

"""etcdserverpb.Maintenance: status, hashes, alarms, leadership."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from dqlite_py.api.header import HeaderFiller
from dqlite_py.api.routes import Call, Route, unary
from dqlite_py.api.status import STATUS
from dqlite_py.api.version import SERVER_VERSION, STORAGE_VERSION
from dqlite_py.errors import NoLeader, NotLeader
from dqlite_py.node.contract import ReplicaPort
from dqlite_py.pb import rpc_pb2 as rpc


class MaintenanceService(Protocol):
    """What the key-value store offers for its upkeep; headers carry the revision only."""

    async def hash_kv(self, request: rpc.HashKVRequest) -> rpc.HashKVResponse:
        """Hash the history up to a revision, comparable between members and with etcd."""

    async def alarm(self, request: rpc.AlarmRequest) -> rpc.AlarmResponse:
        """List, raise or clear alarms."""


class Committed(Protocol):
    """The store's committed state as this member knows it."""

    @property
    def revision(self) -> int:
        """The store's revision."""

    @property
    def alarms(self) -> Collection[tuple[int, int]]:
        """The raised alarms: (member id, alarm type)."""


class _MaintenanceCalls:
    def __init__(
        self,
        service: MaintenanceService,
        committed: Committed,
        replica: ReplicaPort,
        headers: HeaderFiller,
        quota_bytes: int,
    ) -> None:
        self._service = service
        self._committed = committed
        self._replica = replica
        self._headers = headers
        self._quota_bytes = quota_bytes

    async def status(self, _request: rpc.StatusRequest, _call: Call) -> rpc.StatusResponse:
        status = self._replica.status()
        response = rpc.StatusResponse(
            header=rpc.ResponseHeader(revision=self._committed.revision),
            version=SERVER_VERSION,
            dbSize=status.db_size_bytes,
            dbSizeInUse=status.db_size_in_use_bytes,
            leader=status.leader_id,
            raftIndex=status.commit_index,
            raftTerm=status.term,
            raftAppliedIndex=status.applied_index,
            errors=_problems(status.leader_id, self._committed.alarms),
            isLearner=status.is_learner,
            storageVersion=STORAGE_VERSION,
            dbSizeQuota=max(self._quota_bytes, 0),
            downgradeInfo=rpc.DowngradeInfo(),
        )
        self._headers.fill(response.header)
        return response

    async def hash_kv(self, request: rpc.HashKVRequest, _call: Call) -> rpc.HashKVResponse:
        response = await self._service.hash_kv(request)
        self._headers.fill(response.header)
        return response

    async def alarm(self, request: rpc.AlarmRequest, _call: Call) -> rpc.AlarmResponse:
        response = await self._service.alarm(request)
        self._headers.fill(response.header)
        return response

    async def move_leader(
        self, request: rpc.MoveLeaderRequest, _call: Call
    ) -> rpc.MoveLeaderResponse:
        if self._replica.leader_id != self._replica.member_id:
            raise NotLeader
        await self._replica.transfer_leadership(request.targetID)
        return rpc.MoveLeaderResponse()  # without a header (etcd behaviour)


def routes(
    service: MaintenanceService,
    committed: Committed,
    replica: ReplicaPort,
    headers: HeaderFiller,
    *,
    quota_bytes: int,
) -> list[Route]:
    """Return the routes of the Maintenance service; ``quota_bytes`` is shown in Status.

    MoveLeader raises NotLeader unless this member leads.
    """
    calls = _MaintenanceCalls(service, committed, replica, headers, quota_bytes)
    path = "/etcdserverpb.Maintenance/"
    return [
        unary(
            path + "Status",
            rpc.StatusRequest,
            rpc.StatusResponse,
            calls.status,
            learner_serves=lambda _request: True,
        ),
        unary(path + "HashKV", rpc.HashKVRequest, rpc.HashKVResponse, calls.hash_kv),
        unary(path + "Alarm", rpc.AlarmRequest, rpc.AlarmResponse, calls.alarm),
        unary(
            path + "MoveLeader",
            rpc.MoveLeaderRequest,
            rpc.MoveLeaderResponse,
            calls.move_leader,
        ),
    ]


def _problems(leader_id: int, alarms: Collection[tuple[int, int]]) -> list[str]:
    problems = [
        f"memberID:{member_id} alarm:{rpc.AlarmType.Name(rpc.AlarmType.ValueType(alarm))}"
        for member_id, alarm in sorted(alarms)
    ]
    if leader_id == 0:
        problems.append(STATUS[NoLeader][1])
    return problems

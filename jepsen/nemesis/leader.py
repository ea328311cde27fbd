"""leader: leadership moves, on request, again and again."""

from __future__ import annotations

from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.nemesis.nemesis import Nemesis
from tests.kit.etcd_client import Refused

MOVE_TIMEOUT_S = 3.0


class MoveLeader(Nemesis):
    """Asks the leader to hand over to a random other member."""

    name = "leader"

    def start(self) -> Any:
        leader = self.cluster.leader()
        statuses = self.cluster.statuses()
        others = [name for name in statuses if leader is None or name != leader.name]
        if leader is None or not others:
            return "no leader to move"
        target = self.random.choice(others)
        request = rpc.MoveLeaderRequest(targetID=statuses[target].header.member_id)
        try:
            leader.client.call("MoveLeader", request, MOVE_TIMEOUT_S)
        except Refused as error:
            return f"{leader.name} to {target}: {error}"
        return f"{leader.name} to {target}"

    def stop(self) -> Any:
        return self.start()

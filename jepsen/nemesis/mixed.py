"""mixed: several nemeses, one after the other, at random."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.bad_links import Slow
from jepsen.nemesis.compaction import CompactionStorm
from jepsen.nemesis.kill import KillAll, KillMajority, KillOne
from jepsen.nemesis.leader import MoveLeader
from jepsen.nemesis.nemesis import Nemesis
from jepsen.nemesis.partition import Halves, IsolatedLeader, OneWay
from jepsen.nemesis.pause import PauseAny, PauseLeader
from jepsen.nodes.cluster import Cluster
from jepsen.nodes.equipment import Equipment, Needs

KINDS = (
    *(KillOne, KillMajority, KillAll, PauseLeader, PauseAny, IsolatedLeader, Halves, OneWay),
    *(Slow, MoveLeader, CompactionStorm),
)
SNAPSHOT_COUNT = 200


class Mixed(Nemesis):
    """Starts one or two faults of different kinds at a time."""

    name = "mixed"
    needs = Needs(snapshot_count=SNAPSHOT_COUNT)

    def __init__(self, cluster: Cluster, equipment: Equipment, *more: Any) -> None:
        super().__init__(cluster, equipment, *more)
        self._all = [kind(cluster, equipment, *more) for kind in KINDS]
        self._active: list[Nemesis] = []

    def start(self) -> Any:
        self._active = self.random.sample(self._all, self.random.choice([1, 1, 2]))
        return {nemesis.name: nemesis.start() for nemesis in self._active}

    def stop(self) -> Any:
        done = {nemesis.name: nemesis.stop() for nemesis in reversed(self._active)}
        self._active = []
        return done

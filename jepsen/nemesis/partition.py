"""partition: links between members cut in ways that majorities overlap, or do not."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.nemesis import Nemesis
from jepsen.net import grudges
from jepsen.nodes.equipment import Needs


class Partition(Nemesis):
    """Cuts links by a grudge and heals them."""

    def grudge(self) -> list[grudges.Pair]:
        """Return which links to cut."""
        raise AssertionError("a kind of partition chooses")

    def start(self) -> Any:
        pairs = self.grudge()
        self.cluster.network.cut(pairs)
        return [f"{source} -x-> {target}" for source, target in pairs]

    def stop(self) -> Any:
        self.cluster.network.heal()


class IsolatedLeader(Partition):
    """Cuts the leader off from all others; clients still reach it."""

    name = "partition-leader"

    def grudge(self) -> list[grudges.Pair]:
        leader = self.cluster.leader() or self.random.choice(self.cluster.nodes)
        return grudges.isolated(leader.name, self.cluster.names)


class Halves(Partition):
    """Cuts into a majority and a minority."""

    name = "partition-halves"

    def grudge(self) -> list[grudges.Pair]:
        return grudges.halves(self.cluster.names, self.random)


class OneWay(Partition):
    """Lets one member speak but not hear, or hear but not speak."""

    name = "partition-one-way"

    def grudge(self) -> list[grudges.Pair]:
        return grudges.one_way(self.cluster.names, self.random)


class Bridge(Partition):
    """Cuts into two halves that share one member."""

    name = "partition-bridge"
    needs = Needs(members=5)

    def grudge(self) -> list[grudges.Pair]:
        return grudges.bridge(self.cluster.names, self.random)


class Ring(Partition):
    """Lets every member see a majority, each another one."""

    name = "partition-ring"
    needs = Needs(members=5)

    def grudge(self) -> list[grudges.Pair]:
        return grudges.ring(self.cluster.names, self.random)

"""The contract of a nemesis. Adding one is adding a module with a class that calls itself so."""

from __future__ import annotations

from random import Random
from typing import Any, ClassVar

from jepsen.nodes.cluster import Cluster
from jepsen.nodes.equipment import Equipment, Needs, Record
from jepsen.nodes.process import NodeProcess


class Nemesis:
    """Does something to the cluster again and again: ``start``, a while later ``stop``.

    Both return what they did, in JSON's terms. ``stop`` may be called without a ``start``.
    After the last ``stop`` every member must be able to serve again.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = Needs()

    def __init__(
        self, cluster: Cluster, equipment: Equipment, random: Random, record: Record
    ) -> None:
        self.cluster = cluster
        self.equipment = equipment
        self.random = random
        self.record = record

    def start(self) -> Any:
        """Begin the fault."""
        raise AssertionError(f"{self.name} does nothing")

    def stop(self) -> Any:
        """End the fault."""

    def minority(self) -> list[NodeProcess]:
        """Return a random minority, at least one member."""
        nodes = self.cluster.nodes
        return self.random.sample(nodes, max(1, (len(nodes) - 1) // 2))

    def majority(self) -> list[NodeProcess]:
        """Return a random majority."""
        nodes = self.cluster.nodes
        return self.random.sample(nodes, len(nodes) // 2 + 1)


def names(nodes: list[NodeProcess]) -> list[str]:
    """Return the names of some members, in order."""
    return sorted(node.name for node in nodes)

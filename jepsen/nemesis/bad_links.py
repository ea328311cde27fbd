"""slow and lossy: links between members that work badly."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.nemesis import Nemesis, names
from jepsen.nodes.equipment import Needs

LOSS_PERCENT = (5, 15, 30)


class Slow(Nemesis):
    """Delays, or bounds the rate of, what some members or all send."""

    name = "slow"

    def start(self) -> Any:
        chosen = self.random.choice([self.minority(), self.cluster.nodes])
        self.cluster.network.slow([node.name for node in chosen])
        return names(chosen)

    def stop(self) -> Any:
        self.cluster.network.heal()


class Lossy(Slow):
    """Drops a share of the packets between members."""

    name = "lossy"
    needs = Needs(packets=True)

    def start(self) -> Any:
        percent = self.random.choice(LOSS_PERCENT)
        self.cluster.network.lose(self.cluster.names, percent)
        return f"{percent} %"

"""clock: the members' wall clocks jump, or run at other speeds."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.nemesis import Nemesis
from jepsen.nodes.equipment import Needs, set_clock

JUMPS_S = (-3600, -60, -2, 2, 60, 3600)
SPEEDS = (0.5, 0.9, 1.1, 2.0, 5.0)


class ClockJumps(Nemesis):
    """Sets the wall clocks of some members forward or back."""

    name = "clock-jump"
    needs = Needs(faketime=True)

    def setting(self) -> str:
        """Return one member's new clock."""
        return f"{self.random.choice(JUMPS_S):+d}"

    def start(self) -> Any:
        chosen = self.random.choice([self.minority(), self.majority(), self.cluster.nodes])
        done = {}
        for node in chosen:
            done[node.name] = self.setting()
            set_clock(node, done[node.name])
        return done

    def stop(self) -> Any:
        for node in self.cluster.nodes:
            set_clock(node, "+0")


class ClockDrift(ClockJumps):
    """Lets the wall clocks of some members run faster or slower."""

    name = "clock-drift"

    def setting(self) -> str:
        return f"+0 x{self.random.choice(SPEEDS)}"

"""clock: the members' wall clocks jump, or run at other speeds."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.nemesis import Nemesis
from jepsen.nodes.clock import WallClock
from jepsen.nodes.equipment import Needs

JUMPS_S = (-3600, -60, -2, 2, 60, 3600)
SPEEDS = (0.5, 0.9, 1.1, 2.0, 5.0)


class ClockJumps(Nemesis):
    """Sets the wall clocks of some members forward or back, and later to the true time."""

    name = "clock-jump"
    needs = Needs(clock_shim=True)

    def change(self, clock: WallClock) -> str:
        """Change one member's clock and say how."""
        offset_s = self.random.choice(JUMPS_S)
        clock.jump(offset_s)
        return f"{offset_s:+d} s"

    def start(self) -> Any:
        chosen = self.random.choice([self.minority(), self.majority(), self.cluster.nodes])
        return {node.name: self.change(self.equipment.clocks[node.name]) for node in chosen}

    def stop(self) -> Any:
        for clock in self.equipment.clocks.values():
            clock.jump(0)


class ClockDrift(ClockJumps):
    """Lets the wall clocks of some members run faster or slower."""

    name = "clock-drift"

    def change(self, clock: WallClock) -> str:
        speed = self.random.choice(SPEEDS)
        clock.drift(speed)
        return f"x{speed}"

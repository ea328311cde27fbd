"""kill: SIGKILL of one member, a minority, a majority or all, and a restart."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.nemesis import Nemesis, names
from jepsen.nodes.process import NodeProcess


class Kill(Nemesis):
    """Kills a choice of members and starts again all that do not run."""

    def choose(self) -> list[NodeProcess]:
        """Return whom to kill."""
        raise AssertionError("a kind of kill chooses")

    def start(self) -> Any:
        chosen = self.choose()
        for node in chosen:
            node.kill()
        return names(chosen)

    def stop(self) -> Any:
        down = [node for node in self.cluster.nodes if not node.running]
        for node in down:
            node.start()
        return names(down)


class KillOne(Kill):
    """Kills one member, half the time the leader."""

    name = "kill-one"

    def choose(self) -> list[NodeProcess]:
        leader = self.cluster.leader() if self.random.random() < 0.5 else None
        return [leader or self.random.choice(self.cluster.nodes)]


class KillMinority(Kill):
    """Kills a minority: on three members one, on five two."""

    name = "kill-minority"

    def choose(self) -> list[NodeProcess]:
        return self.minority()


class KillMajority(Kill):
    """Kills a majority at once."""

    name = "kill-majority"

    def choose(self) -> list[NodeProcess]:
        return self.majority()


class KillAll(Kill):
    """Kills every member at once."""

    name = "kill-all"

    def choose(self) -> list[NodeProcess]:
        return self.cluster.nodes

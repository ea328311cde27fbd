"""pause: SIGSTOP of the leader, or of all members one after the other, and SIGCONT."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.nemesis import Nemesis, names


class PauseLeader(Nemesis):
    """Stops the leader for long enough that another one is elected."""

    name = "pause-leader"

    def start(self) -> Any:
        node = self.cluster.leader() or self.random.choice(self.cluster.nodes)
        node.pause()
        return names([node])

    def stop(self) -> Any:
        paused = [node for node in self.cluster.nodes if node.paused]
        for node in paused:
            node.resume()
        return names(paused)


class PauseAny(PauseLeader):
    """Stops any members: one, a majority or all."""

    name = "pause"

    def start(self) -> Any:
        groups = [self.minority, self.majority, lambda: self.cluster.nodes]
        chosen = self.random.choice(groups)()
        for node in chosen:
            node.pause()
        return names(chosen)

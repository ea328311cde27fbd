"""member: members are added, removed and replaced."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.nemesis import Nemesis
from jepsen.nodes.process import NeverReady


class MemberChurn(Nemesis):
    """Grows the cluster by one, shrinks it again, or replaces a member that lost its data."""

    name = "member"

    def start(self) -> Any:
        try:
            if self.random.random() < 0.5:
                return f"added {self.cluster.add().name}"
            gone = self.random.choice(self.cluster.names)
            return f"replaced {gone} by {self.cluster.replace(gone).name}"
        except NeverReady as reason:
            return f"gave up: {str(reason)[:300]}"

    def stop(self) -> Any:
        if len(self.cluster.nodes) <= 3:
            return "as many as there should be"
        gone = self.random.choice(self.cluster.names)
        try:
            self.cluster.remove(gone)
        except NeverReady as reason:
            return f"gave up: {str(reason)[:300]}"
        return f"removed {gone}"

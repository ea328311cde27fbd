"""none: no faults, for the baseline of availability."""

from __future__ import annotations

from typing import Any

from jepsen.nemesis.nemesis import Nemesis


class Calm(Nemesis):
    """Leaves the cluster alone."""

    name = "none"

    def start(self) -> Any:
        return None

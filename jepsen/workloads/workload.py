"""The contract of a workload. Adding one is adding a module with a class that calls itself so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from jepsen.checkers.result import Result
from jepsen.history import Event, Operation
from jepsen.workloads.session import Session


@dataclass(frozen=True)
class Scale:
    """How big a run is: clients, their rate together, and its length."""

    clients: int = 8
    rate_per_s: float = 120.0
    time_limit_s: float = 60.0
    check_limit_s: float = 60.0


class Workload:
    """What clients do, and what must be true of the answers.

    Sessions call ``step`` in parallel, each from a thread of its own; what they share is
    guarded by the workload. ``close`` runs in one session after all faults have ended.
    """

    name: ClassVar[str]
    compacts: ClassVar[bool] = False
    """Whether clients compact, so that reading the past may be refused."""

    def __init__(self, random: Random, scale: Scale) -> None:
        self.random = random
        self.scale = scale

    def open(self, session: Session) -> None:
        """Lay out what the clients need, before faults begin."""

    def step(self, session: Session) -> None:
        """Do one operation."""
        raise AssertionError(f"{self.name} does nothing in session {session.number}")

    def close(self, session: Session) -> None:
        """Read what must be there at the end."""

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        """Return the verdicts of this workload's checkers."""
        raise AssertionError(f"{self.name} leaves {len(operations)} of {len(events)} unchecked")

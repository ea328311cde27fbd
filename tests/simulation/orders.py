"""What one process of many is asked to run."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.simulation.course import Outcome, simulate


@dataclass(frozen=True, slots=True)
class Order:
    """One seed to run."""

    seed: int
    virtual_seconds: float
    operations: int


def run_order(order: Order) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix=f"simulation-{order.seed}-"))
    try:
        return simulate(
            order.seed,
            folder / "run",
            virtual_seconds=order.virtual_seconds,
            operations=order.operations,
        )
    finally:
        shutil.rmtree(folder)

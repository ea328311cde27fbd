"""Runs seeds of the simulation in this process, one after the other, so that they are measured."""

from __future__ import annotations

import sys
from typing import Final

from tests.simulation.orders import Order, run_order

_VIRTUAL_SECONDS: Final = 8.0
_OPERATIONS: Final = 200


def main(first: int, end: int) -> int:
    for seed in range(first, end):
        outcome = run_order(Order(seed, _VIRTUAL_SECONDS, _OPERATIONS))
        print(f"seed {seed}: {'FAILED' if outcome.failure else 'ok'}", flush=True)
        if outcome.failure:
            print(outcome.failure)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))

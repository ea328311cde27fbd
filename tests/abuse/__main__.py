"""``python -m tests.abuse ATTACK PORT SECONDS``: run one attack, print its outcome as JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from tests.abuse.attacks import ATTACKS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.abuse", description=__doc__)
    parser.add_argument("attack", choices=list(ATTACKS))
    parser.add_argument("port", type=int)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    print(json.dumps(asdict(ATTACKS[given.attack](given.port, given.seconds))))


if __name__ == "__main__":
    main()

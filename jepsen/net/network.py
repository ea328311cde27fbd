"""The contract of a network under test, and the choice between the two that there are."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from jepsen.net.loopback import Loopback
from jepsen.net.namespaces import Namespaces
from jepsen.nodes.address import Address
from jepsen.nodes.ledger import Ledger


class Network(Protocol):
    """Places for members, and faults of the links between them; clients' links stay whole."""

    name: str
    can_lose_packets: bool

    def place(self, name: str, number: int, directory: Path) -> Address:
        """Return a new place for the member ``name``; ``number`` is unique in the run."""

    def watch_processes(self, pids: Callable[[], dict[str, int]]) -> None:
        """Tell the network how to learn which process is which member."""

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Let nothing pass from the first to the second of each pair, replacing other faults."""

    def slow(self, names: Iterable[str]) -> None:
        """Slow down what these members send to others."""

    def lose(self, names: Iterable[str], percent: int) -> None:
        """Drop a share of what these members receive from others."""

    def heal(self) -> None:
        """End every fault."""

    def close(self) -> None:
        """Take the network down."""


def choose(ledger: Ledger, *, loopback: bool = False) -> Network:
    """Return namespaces where this process may make them, else loopback with a proxy."""
    tools = all(shutil.which(tool) for tool in ("ip", "nft", "tc"))
    if loopback or os.geteuid() != 0 or not tools or not _may_make_namespaces(ledger):
        return Loopback(ledger.slot)
    return Namespaces(ledger)


def _may_make_namespaces(ledger: Ledger) -> bool:
    name = f"jepsen{ledger.slot}probe"
    ledger.add("namespaces", name)
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode == 0:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return made.returncode == 0

"""Each member in a network namespace of its own, joined by a bridge.

Only addresses that this run made are touched: the bridge 10.77.SLOT.0/24 and the rules inside
the members' own namespaces. Clients reach the members from the bridge's own address, whose
packets no rule matches, so that faults are between members only; a rate limit alone is on the
whole link.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from jepsen.nodes.address import Address
from jepsen.nodes.ledger import Ledger

CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381
SLOW_RATE = "512kbit"
SLOW_BURST = "4kb"
SLOW_QUEUE = "400ms"


def run(*command: str, text: str | None = None) -> str:
    """Run a network tool; raises RuntimeError with what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Namespaces:
    """A bridge, and for each member a namespace with one veth pair."""

    name = "namespaces"
    can_lose_packets = True

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._slot = ledger.slot
        self._bridge = f"jpb{self._slot}"
        self._hosts: dict[str, str] = {}
        self._limited: set[str] = set()
        ledger.add("links", self._bridge)
        run("ip", "link", "add", self._bridge, "type", "bridge")
        run("ip", "addr", "add", f"10.77.{self._slot}.254/24", "dev", self._bridge)
        run("ip", "link", "set", self._bridge, "up")

    def _namespace(self, name: str) -> str:
        return f"jepsen{self._slot}{name}"

    def place(self, name: str, number: int, directory: Path) -> Address:
        host = f"10.77.{self._slot}.{number}"
        space = self._namespace(name)
        outer = f"jp{self._slot}v{number}"
        self._ledger.add("namespaces", space)
        self._ledger.add("links", outer)
        run("ip", "netns", "add", space)
        run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", space)
        run("ip", "link", "set", outer, "master", self._bridge, "up")
        run("ip", "-n", space, "addr", "add", f"{host}/24", "dev", "eth0")
        run("ip", "-n", space, "link", "set", "lo", "up")
        run("ip", "-n", space, "link", "set", "eth0", "up")
        self._hosts[name] = host
        return Address(
            name=name,
            directory=directory,
            host=host,
            client_port=CLIENT_PORT,
            peer_port=PEER_PORT,
            real_peer_port=PEER_PORT,
            metrics_port=METRICS_PORT,
            namespace=space,
        )

    def watch_processes(self, pids: Callable[[], dict[str, int]]) -> None:
        """Nothing to learn: the kernel knows who is who by address."""

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        blocked: dict[str, list[str]] = {}
        for source, target in pairs:
            blocked.setdefault(target, []).append(f"ip saddr {self._hosts[source]} drop")
        self._rules(blocked)

    def lose(self, names: Iterable[str], percent: int) -> None:
        self._rules(
            {
                name: [
                    f"ip saddr {host} numgen random mod 100 < {percent} drop"
                    for other, host in self._hosts.items()
                    if other != name
                ]
                for name in names
            }
        )

    def slow(self, names: Iterable[str]) -> None:
        self.heal()
        for name in names:
            self._limited.add(name)
            queue = ["rate", SLOW_RATE, "burst", SLOW_BURST, "latency", SLOW_QUEUE]
            space = self._namespace(name)
            run("tc", "-n", space, "qdisc", "replace", "dev", "eth0", "root", "tbf", *queue)

    def heal(self) -> None:
        self._rules({})
        for name in self._limited:
            run("tc", "-n", self._namespace(name), "qdisc", "del", "dev", "eth0", "root")
        self._limited.clear()

    def _rules(self, rules: dict[str, list[str]]) -> None:
        for name in self._hosts:
            chain = "\n".join(rules.get(name, []))
            run(
                *("ip", "netns", "exec", self._namespace(name), "nft", "-f", "-"),
                text="table inet jepsen {}\ndelete table inet jepsen\n"
                "table inet jepsen { chain faults { "
                f"type filter hook input priority 0;\n{chain}\n}}\n}}\n",
            )

    def close(self) -> None:
        for name in self._hosts:
            run("ip", "netns", "del", self._namespace(name))
        self._hosts.clear()
        run("ip", "link", "del", self._bridge)

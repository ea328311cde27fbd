"""Members on 127.0.0.1, with a proxy of ours between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from jepsen.nodes.address import Address
from tests.kit.ports import HIGHEST_PORT, LOWEST_PORT, free_ports
from tests.kit.proxy import PeerProxy

SLOW_DELAY_S = 0.15
PORTS_PER_RUN = 500
RANGES = (HIGHEST_PORT - LOWEST_PORT) // PORTS_PER_RUN


class Loopback:
    """Every member advertises a port of the proxy, which cuts and delays by who connected.

    Runs whose ledgers have neighbouring slots take ports of ranges apart.
    """

    name = "loopback"
    can_lose_packets = False

    def __init__(self, slot: int) -> None:
        self._pids: Callable[[], dict[str, int]] = dict
        self._proxy = PeerProxy(lambda: self._pids())
        lowest = LOWEST_PORT + slot % RANGES * PORTS_PER_RUN
        self._ports = free_ports(lowest, lowest + PORTS_PER_RUN)
        self._names: list[str] = []

    def place(self, name: str, number: int, directory: Path) -> Address:
        peer_port = next(self._ports)
        real_peer_port = next(self._ports)
        self._proxy.add(name, peer_port, real_peer_port)
        self._names.append(name)
        return Address(
            name=name,
            directory=directory,
            host="127.0.0.1",
            client_port=next(self._ports),
            peer_port=peer_port,
            real_peer_port=real_peer_port,
            metrics_port=next(self._ports),
        )

    def watch_processes(self, pids: Callable[[], dict[str, int]]) -> None:
        self._pids = pids

    def cut(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._proxy.heal()
        for source, target in pairs:
            self._proxy.cut(source, target)

    def slow(self, names: Iterable[str]) -> None:
        self._proxy.heal()
        for source in names:
            for target in self._names:
                if source != target:
                    self._proxy.delay(source, target, SLOW_DELAY_S)

    def lose(self, names: Iterable[str], percent: int) -> None:
        raise ValueError(f"a proxy of TCP cannot lose {percent} % of the packets of {names}")

    def heal(self) -> None:
        self._proxy.heal()

    def close(self) -> None:
        self._proxy.close()

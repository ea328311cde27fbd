"""The cluster under test: its members, who leads, and how members come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.net.network import Network
from jepsen.nodes.ledger import Ledger
from jepsen.nodes.process import NeverReady, NodeProcess
from jepsen.nodes.products import Product, Settings
from tests.kit.etcd_client import Refused

STATUS_TIMEOUT_S = 0.7
CHANGE_TIMEOUT_S = 5.0
LEADER_TIMEOUT_S = 20.0
POLL_S = 0.1


class Cluster:
    """Members of one product on one network; a context manager that ends what it started.

    ``prepare`` is called for each new member before its first start: it may mount, preload or
    lay out whatever a nemesis needs.
    """

    def __init__(
        self,
        product: Product,
        network: Network,
        ledger: Ledger,
        directory: Path,
        *,
        settings: Settings,
        prepare: Callable[[NodeProcess], None],
    ) -> None:
        self.product = product
        self.network = network
        self.directory = directory
        self._ledger = ledger
        self._settings = settings
        self._prepare = prepare
        self._guard = threading.Lock()
        self._nodes: dict[str, NodeProcess] = {}
        self._made: list[NodeProcess] = []
        self._born = 0
        network.watch_processes(self._pids)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in self._made:
            node.close()
        self.network.close()

    @property
    def nodes(self) -> list[NodeProcess]:
        """The present members, in order of birth."""
        with self._guard:
            return list(self._nodes.values())

    @property
    def names(self) -> list[str]:
        """The names of the present members."""
        return [node.name for node in self.nodes]

    @property
    def everyone(self) -> list[NodeProcess]:
        """Every member there ever was, removed ones too."""
        return list(self._made)

    def __getitem__(self, name: str) -> NodeProcess:
        with self._guard:
            return self._nodes[name]

    def _pids(self) -> dict[str, int]:
        return {node.name: node.pid for node in list(self._made) if node.running}

    def _make(self) -> NodeProcess:
        self._born += 1
        name = f"n{self._born}"
        address = self.network.place(name, self._born, self.directory / name)
        node = NodeProcess(address, self._ledger)
        node.environment.update(self.product.environment())
        address.directory.mkdir(parents=True, exist_ok=True)
        self._prepare(node)
        self._made.append(node)
        return node

    def start(self, size: int) -> None:
        """Start the first members; returns when all serve. Raises NeverReady."""
        fresh = [self._make() for _ in range(size)]
        places = [node.address for node in fresh]
        for node in fresh:
            others = [place for place in places if place is not node.address]
            node.command = self.product.command(node.address, others, self._settings, joining=False)
        with self._guard:
            self._nodes.update({node.name: node for node in fresh})
        for node in fresh:
            node.start()
            if not self.product.starts_together:
                node.wait_ready()
        for node in fresh:
            node.wait_ready()

    def statuses(self) -> dict[str, Any]:
        """Return the status of each member that answers."""
        found = {}
        for node in self.nodes:
            if node.running and not node.paused:
                try:
                    found[node.name] = node.client.status(timeout_s=STATUS_TIMEOUT_S)
                except Refused:
                    continue  # a member that does not answer has no status
        return found

    def leader(self) -> NodeProcess | None:
        """Return the member that the newest term's members name as leader, if they know one."""
        statuses = self.statuses()
        for status in sorted(statuses.values(), key=lambda status: -status.raftTerm):
            for name, other in statuses.items():
                if status.leader and other.header.member_id == status.leader:
                    return self._nodes.get(name)
        return None

    def wait_leader(self, timeout_s: float = LEADER_TIMEOUT_S) -> NodeProcess:
        """Return the leader once there is one; raises NeverReady."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            leader = self.leader()
            if leader is not None:
                return leader
            time.sleep(POLL_S)
        raise NeverReady(f"no leader in {timeout_s} s")

    def majority(self) -> int:
        """Return how many members make a majority."""
        return len(self.nodes) // 2 + 1

    def wait_all_ready(self, timeout_s: float = 30.0) -> None:
        """Return when every member answers linearizable reads; raises NeverReady."""
        deadline = time.monotonic() + timeout_s
        for node in self.nodes:
            node.wait_ready(max(1.0, deadline - time.monotonic()))

    def _ask(self, change: Callable[[NodeProcess], Any], but: Sequence[str] = ()) -> Any:
        """Do a membership change through any member; repeats what is refused for a moment."""
        deadline = time.monotonic() + LEADER_TIMEOUT_S
        last: Refused | None = None
        while time.monotonic() < deadline:
            for node in self.nodes:
                if node.name in but or not node.running or node.paused:
                    continue
                try:
                    return change(node)
                except Refused as error:
                    last = error
            time.sleep(POLL_S)
        raise NeverReady(f"a membership change was refused: {last}")

    def member_ids(self) -> dict[str, int]:
        """Return the ids of the members by name; those that never started have none."""
        request = rpc.MemberListRequest(linearizable=True)
        answer = self._ask(lambda node: node.client.call("MemberList", request, CHANGE_TIMEOUT_S))
        return {member.name: member.ID for member in answer.members if member.name}

    def add(self) -> NodeProcess:
        """Add one new member and return when it serves; raises NeverReady."""
        node = self._make()
        others = [other.address for other in self.nodes]
        node.command = self.product.command(node.address, others, self._settings, joining=True)
        if self.product.starts_together:
            request = rpc.MemberAddRequest(peerURLs=[node.address.peer_url])
            self._ask(lambda other: other.client.call("MemberAdd", request, CHANGE_TIMEOUT_S))
        node.start()
        node.wait_ready()
        with self._guard:
            self._nodes[node.name] = node
        return node

    def remove(self, name: str) -> None:
        """Remove a member from the cluster and end its process; raises NeverReady."""
        ids = self.member_ids()
        if name in ids:
            request = rpc.MemberRemoveRequest(ID=ids[name])

            def change(node: NodeProcess) -> None:
                try:
                    node.client.call("MemberRemove", request, CHANGE_TIMEOUT_S)
                except Refused as error:
                    if "member not found" not in error.text:
                        raise

            self._ask(change, but=[name])
        with self._guard:
            node = self._nodes.pop(name)
        node.resume()
        node.retire()

    def replace(self, name: str) -> NodeProcess:
        """Remove a member whose data is lost and add a new one; raises NeverReady."""
        self.remove(name)
        return self.add()

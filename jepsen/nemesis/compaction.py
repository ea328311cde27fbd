"""compact and snapshot: history is forgotten while it is in use."""

from __future__ import annotations

import threading
from typing import Any

from jepsen.nemesis.kill import KillOne
from jepsen.nemesis.nemesis import Nemesis
from jepsen.nodes.cluster import Cluster
from jepsen.nodes.equipment import Equipment, Needs
from jepsen.nodes.process import NodeProcess
from tests.kit.etcd_client import Refused

PERIOD_S = 0.2
KEPT_REVISIONS = 20
SNAPSHOT_COUNT = 60


class CompactionStorm(Nemesis):
    """Compacts to just below the newest revision several times a second."""

    name = "compact"

    def __init__(self, cluster: Cluster, equipment: Equipment, *more: Any) -> None:
        super().__init__(cluster, equipment, *more)
        self._ending = threading.Event()
        self._storm: threading.Thread | None = None
        self._done = 0

    def start(self) -> Any:
        self._ending.clear()
        self._storm = threading.Thread(target=self._blow, name="compactions", daemon=True)
        self._storm.start()

    def stop(self) -> Any:
        self._ending.set()
        if self._storm is not None:
            self._storm.join()
            self._storm = None
        return f"{self._done} compactions"

    def _blow(self) -> None:
        while not self._ending.wait(PERIOD_S):
            running = [node for node in self.cluster.nodes if node.running and not node.paused]
            if running:
                self._compact(self.random.choice(running))

    def _compact(self, node: NodeProcess) -> None:
        try:
            revision = node.client.revision(timeout_s=1.0) - KEPT_REVISIONS
            if revision > 1:
                # Before the request: a watcher may learn of it before the answer comes.
                self.record("compact", revision)
                node.client.compact(revision)
                self._done += 1
        except Refused as error:
            # Another storm got there first, or there is no leader now: neither is a finding.
            self.record("compact-refused", str(error)[:120])


class SnapshotRestarts(KillOne):
    """Keeps members down until the log they need is gone, so that they need a snapshot."""

    name = "snapshot"
    needs = Needs(snapshot_count=SNAPSHOT_COUNT)

    def choose(self) -> list[NodeProcess]:
        return self.minority()

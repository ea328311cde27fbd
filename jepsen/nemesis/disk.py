"""disk: no space, slow syncs, and the loss of what was not synced."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from jepsen.nemesis.kill import Kill
from jepsen.nemesis.nemesis import Nemesis, names
from jepsen.nodes.equipment import Needs, free_bytes
from jepsen.nodes.process import NodeProcess

SYNC_DELAYS_MS = (20, 100, 500)
FILLER = "filler"
SNAPSHOT_COUNT = 40
CHUNK = b"\0" * (1 << 20)


class DiskFull(Nemesis):
    """Fills the disks of a minority to the last byte, then frees them and restarts who ended.

    Logs are written into space reserved before, so checkpoints must be frequent to be hit.
    """

    name = "disk-full"
    needs = Needs(small_disk=True, snapshot_count=SNAPSHOT_COUNT)

    def start(self) -> Any:
        chosen = self.minority()
        for node in chosen:
            _fill(node.address.data_dir / FILLER)
        return names(chosen)

    def stop(self) -> Any:
        down = []
        for node in self.cluster.nodes:
            (node.address.data_dir / FILLER).unlink(missing_ok=True)
            if not node.running:
                down.append(node)
                node.start()
        return {"had ended": names(down)}


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while True:
            file.write(CHUNK[: max(1, min(len(CHUNK), free_bytes(path.parent)))])


class SlowSync(Nemesis):
    """Makes every fsync of some members or all wait."""

    name = "slow-fsync"
    needs = Needs(disk_shim=True)

    def start(self) -> Any:
        delay_ms = self.random.choice(SYNC_DELAYS_MS)
        chosen = self.random.choice([self.minority(), self.cluster.nodes])
        for node in chosen:
            self.equipment.disks[node.name].set_sync_delay_ms(delay_ms)
        return {"delay_ms": delay_ms, "members": names(chosen)}

    def stop(self) -> Any:
        for disk in self.equipment.disks.values():
            disk.set_sync_delay_ms(0)


class LostWrites(Kill):
    """Kills members, often all at once, and drops every write that was not synced."""

    name = "lost-writes"
    needs = Needs(disk_shim=True)

    def choose(self) -> list[NodeProcess]:
        choices = [self.minority(), self.majority(), self.cluster.nodes, self.cluster.nodes]
        return self.random.choice(choices)

    def start(self) -> Any:
        for disk in self.equipment.disks.values():
            disk.lossy = True
        before = self._dropped()
        chosen = super().start()
        return {"killed": chosen, "dropped": self._dropped() - before}

    def _dropped(self) -> int:
        return sum(disk.dropped for disk in self.equipment.disks.values())

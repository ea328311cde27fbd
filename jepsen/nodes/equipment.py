"""What a nemesis needs of the members before they start, and how they get it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jepsen.nodes.clock import SOURCE as CLOCK_SOURCE
from jepsen.nodes.clock import WallClock
from jepsen.nodes.ledger import Ledger
from jepsen.nodes.library import NoCompiler, build
from jepsen.nodes.lossy_disk import SOURCE as DISK_SOURCE
from jepsen.nodes.lossy_disk import LossyDisk
from jepsen.nodes.process import NodeProcess
from jepsen.nodes.products import Product

SMALL_DISK_BYTES = 192 * 1024 * 1024


@dataclass(frozen=True)
class Needs:
    """Requirements of a nemesis on the cluster and on the machine."""

    members: int = 3
    disk_shim: bool = False
    clock_shim: bool = False
    small_disk: bool = False
    packets: bool = False
    snapshot_count: int | None = None

    def joined(self, other: Needs) -> Needs:
        """Return what both need together."""
        counts = [c for c in (self.snapshot_count, other.snapshot_count) if c is not None]
        return Needs(
            members=max(self.members, other.members),
            disk_shim=self.disk_shim or other.disk_shim,
            clock_shim=self.clock_shim or other.clock_shim,
            small_disk=self.small_disk or other.small_disk,
            packets=self.packets or other.packets,
            snapshot_count=min(counts) if counts else None,
        )


def missing(needs: Needs, product: Product, *, can_lose_packets: bool) -> str | None:
    """Return why a nemesis cannot run here, or None if it can."""
    if (needs.disk_shim or needs.clock_shim) and not product.uses_libc:
        return f"{product.name} makes its system calls without libc, where nothing can be preloaded"
    if needs.small_disk and os.geteuid() != 0:
        return "a small disk is a mount, which only root can make"
    if needs.packets and not can_lose_packets:
        return "packets can be lost only between network namespaces"
    sources = [DISK_SOURCE] * needs.disk_shim + [CLOCK_SOURCE] * needs.clock_shim
    try:
        for source in sources:
            build(source)
    except NoCompiler as reason:
        return str(reason)
    return None


@dataclass
class Equipment:
    """Lays out each member as its nemesis needs it."""

    needs: Needs
    ledger: Ledger
    disks: dict[str, LossyDisk] = field(default_factory=dict)
    clocks: dict[str, WallClock] = field(default_factory=dict)

    def prepare(self, node: NodeProcess) -> None:
        """Prepare a member before its first start."""
        if self.needs.small_disk:
            mount_small_disk(node.address.data_dir, self.ledger)
        preload: list[str] = []
        if self.needs.disk_shim:
            disk = LossyDisk(node.address.data_dir)
            self.disks[node.name] = disk
            environment = disk.environment()
            preload.append(environment.pop("LD_PRELOAD"))
            node.environment.update(environment)
            node.after_kill = disk.after_kill
        if self.needs.clock_shim:
            clock = WallClock(node.address.directory)
            self.clocks[node.name] = clock
            environment = clock.environment()
            preload.append(environment.pop("LD_PRELOAD"))
            node.environment.update(environment)
        if preload:
            node.environment["LD_PRELOAD"] = ":".join(preload)


def mount_small_disk(directory: Path, ledger: Ledger) -> None:
    """Mount a file system of bounded size on a data directory."""
    directory.mkdir(parents=True, exist_ok=True)
    ledger.add("mounts", str(directory))
    command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "jepsen", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"no small disk: {done.stderr.strip()}")


def free_bytes(directory: Path) -> int:
    """Return the free space of the file system that holds a directory."""
    return shutil.disk_usage(directory).free


Record = Callable[[str, object], None]
"""How a nemesis writes an action of its own into the history: its name and its detail."""

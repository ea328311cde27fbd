"""What a load costs three members, counted by the kernel and alike for every product.

- Processor: user and system time of each member, from /proc/PID/stat.
- Disk: sectors written to the device of the data directories, from /proc/diskstats. It counts the
  whole device, file system's journal included, so nothing else may write meanwhile. Dirty pages
  are written out before each reading, lest what one load leaves behind is counted for the next.
- Peers: TCP payload bytes (TCP_INFO's bytes_sent, read with ``ss``) of the sockets on the peer
  ports, without TCP and IP headers.
- Others: what the rest of the machine used of the processor, which tells how far to trust a run.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.failures import CannotMeasure
from bench.measure import TICKS_PER_S, cpu_s, rss_mb
from tests.kit.processes import Cluster, ServerProcess

SECTOR_BYTES = 512
SECTORS_WRITTEN_COLUMN = 9  # after major, minor, name: the seventh figure
SS_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Socket:
    """One end of a TCP connection between peers, and what it has sent so far."""

    ends: tuple[str, str]
    inode: int
    sent_bytes: int


@dataclass(frozen=True)
class Reading:
    """The counters at one moment."""

    at_s: float
    members_cpu_s: float
    leader_cpu_s: float
    machine_cpu_s: float
    own_cpu_s: float
    disk_bytes: int | None
    peers: dict[tuple[tuple[str, str], int], Socket]
    leader_inodes: frozenset[int]
    revision: int


def peer_sockets(text: str) -> list[Socket]:
    """Return the sockets in the output of ``ss -tineH``: two lines each, figures on the second."""
    sockets = []
    lines = iter(text.splitlines())
    for line in lines:
        figures = next(lines, "")
        local, remote = line.split()[2:4]
        inode, sent = re.search(r"\bino:(\d+)", line), re.search(r"\bbytes_sent:(\d+)", figures)
        sockets.append(
            Socket((local, remote), int(inode[1]) if inode else 0, int(sent[1]) if sent else 0)
        )
    return sockets


def read_peer_sockets(ports: Iterable[int]) -> list[Socket]:
    """Return the established sockets on peer ports; raise CannotMeasure without ``ss``."""
    if shutil.which("ss") is None:
        raise CannotMeasure("ss is not installed (Debian: apt install iproute2)")
    either = " or ".join(f"sport = :{port} or dport = :{port}" for port in ports)
    command = ["ss", "-tineH", "state", "established", f"( {either} )"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SS_TIMEOUT_S, check=False
    )
    if done.returncode:
        raise CannotMeasure(f"ss: exit {done.returncode}: {done.stderr.strip()}")
    return peer_sockets(done.stdout)


def socket_inodes(pid: int) -> frozenset[int]:
    """Return the inodes of the sockets that a process holds."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since the directory was listed
            found = re.fullmatch(r"socket:\[(\d+)\]", str(entry.readlink()))
            if found:
                inodes.add(int(found[1]))
    return frozenset(inodes)


def disk_bytes_written(table: str, device: int) -> int | None:
    """Return the bytes written to a device, given /proc/diskstats; None if it is not there."""
    wanted = [str(os.major(device)), str(os.minor(device))]
    for line in table.splitlines():
        columns = line.split()
        if columns[:2] == wanted:
            return int(columns[SECTORS_WRITTEN_COLUMN]) * SECTOR_BYTES
    return None


def machine_cpu_s() -> float:
    """Return the processor seconds all processes together have used since boot."""
    line = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    user, nice, system, _idle, _waiting, interrupts, softirq, _stolen = map(int, line)
    return (user + nice + system + interrupts + softirq) / TICKS_PER_S


def own_cpu_s() -> float:
    """Return the processor seconds of this process and the load generators that have ended."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def read(cluster: Cluster, leader: ServerProcess) -> Reading:
    """Read all counters; what is still to be written is written before the disk's is read."""
    at_s, pids = time.monotonic(), list(cluster.pids().values())
    spent = sum(cpu_s(pid) for pid in pids), cpu_s(leader.pid), machine_cpu_s(), own_cpu_s()
    revision = leader.client.revision(timeout_s=10.0)
    os.sync()
    sockets = read_peer_sockets(member.address.real_peer_port for member in cluster.members)
    device = cluster.directory.stat().st_dev
    return Reading(
        at_s=at_s,
        members_cpu_s=spent[0],
        leader_cpu_s=spent[1],
        machine_cpu_s=spent[2],
        own_cpu_s=spent[3],
        disk_bytes=disk_bytes_written(Path("/proc/diskstats").read_text(), device),
        peers={(socket.ends, socket.inode): socket for socket in sockets},
        leader_inodes=socket_inodes(leader.pid),
        revision=revision,
    )


def peer_bytes(before: Reading, after: Reading) -> tuple[int, int, int]:
    """Return bytes sent by everybody, by the leader, and the connections' ends that are gone.

    What an end sent between the first reading and its closing is not known, hence the third.
    """
    everybody = leader = 0
    for key, socket in after.peers.items():
        earlier = before.peers.get(key)
        sent = socket.sent_bytes - (earlier.sent_bytes if earlier else 0)
        everybody += sent
        leader += sent if socket.inode in after.leader_inodes else 0
    return everybody, leader, len(before.peers.keys() - after.peers.keys())


def costs(
    before: Reading, after: Reading, calls: int, kind: str, pids: Sequence[int]
) -> dict[str, Any]:
    """Return the costs between two readings, per call; the unit of each is in its name.

    ``calls`` is what the generator saw answered. For puts the store's revision is the judge: it
    counts those that were under way at the end as well, and a put that was refused does not move
    it.
    """
    done = after.revision - before.revision if kind == "put" else calls
    if done <= 0:
        raise CannotMeasure("no call was answered")
    elapsed_s = after.at_s - before.at_s
    members_s = after.members_cpu_s - before.members_cpu_s
    own_s = after.own_cpu_s - before.own_cpu_s
    others_s = after.machine_cpu_s - before.machine_cpu_s - members_s - own_s
    sent, sent_by_leader, gone = peer_bytes(before, after)
    found: dict[str, Any] = {
        "cpu_s_per_1000": round(1000 * members_s / done, 4),
        "leader_cpu_s_per_1000": round(1000 * (after.leader_cpu_s - before.leader_cpu_s) / done, 4),
        "others_cpu_percent": round(
            max(0.0, 100 * others_s / (elapsed_s * (os.cpu_count() or 1))), 1
        ),
        "rss_mb": [rss_mb(pid) for pid in pids],
        "peer_bytes_per_call": round(sent / done, 1),
        "peer_bytes_of_leader_per_call": round(sent_by_leader / done, 1),
        "peer_sockets_gone": gone,
        "disk_bytes_per_call": None,
    }
    if before.disk_bytes is not None and after.disk_bytes is not None:
        found["disk_bytes_per_call"] = round((after.disk_bytes - before.disk_bytes) / done, 1)
    return found

"""What a run has made on this machine, written down before it is made, so that it can be undone.

Each run owns one file that names its processes, namespaces, links and mounts. A run removes them
at its end; ``clean`` removes those of runs that no longer live. Nothing is ever found by name
or pattern: only what is in a ledger is touched, and a process only while its start time is the
recorded one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

FOLDER = Path(tempfile.gettempdir()) / f"jepsen-ledgers-{os.getuid()}"
SLOTS = range(1, 250)
GONE_TIMEOUT_S = 10.0
CLAIM_S = 60.0


def start_time(pid: int) -> int | None:
    """Return a process's start time in clock ticks since boot; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


class Ledger:
    """The ledger of one run; ``slot`` is a number that no other live run has."""

    def __init__(self, slot: int, path: Path) -> None:
        self.slot = slot
        self._path = path
        self._entries: dict[str, Any] = {
            "owner": [os.getpid(), start_time(os.getpid())],
            "processes": {},
            "namespaces": [],
            "links": [],
            "mounts": [],
            "folders": [],
        }
        self._write()

    @classmethod
    def claim(cls) -> Ledger:
        """Take a free slot; raises RuntimeError if all are taken."""
        FOLDER.mkdir(mode=0o700, exist_ok=True)
        for slot in SLOTS:
            path = FOLDER / f"{slot}.json"
            with suppress(FileExistsError):
                path.touch(exist_ok=False)
                return cls(slot, path)
        raise RuntimeError("too many runs at once: `python -m jepsen clean` ends dead ones")

    def _write(self) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps(self._entries))
        fresh.replace(self._path)

    def add(self, kind: str, name: str) -> None:
        """Record a namespace, link, mount or folder before it is made."""
        self._entries[kind].append(name)
        self._write()

    def add_process(self, pid: int) -> None:
        """Record a started process."""
        self._entries["processes"][str(pid)] = start_time(pid)
        self._write()

    def remove_process(self, pid: int) -> None:
        """Forget a process that has been waited for."""
        self._entries["processes"].pop(str(pid), None)
        self._write()

    def close(self) -> None:
        """Undo everything that is still there and give the slot back."""
        undo(self._entries)
        self._path.unlink(missing_ok=True)


def undo(entries: dict[str, Any]) -> list[str]:
    """Remove what a ledger names, in an order that works; return what was done."""
    done = []
    for text, started in entries["processes"].items():
        if started is not None and start_time(int(text)) == started:
            os.kill(int(text), signal.SIGKILL)
            _wait_gone(int(text), started)
            done.append(f"killed process {text}")
    for mount in reversed(entries["mounts"]):
        if os.path.ismount(mount):
            _quiet("umount", "--lazy", mount)
            done.append(f"unmounted {mount}")
    for name in entries["namespaces"]:
        if Path("/run/netns", name).exists():
            # A run that was killed between starting a server and writing it down left it here.
            inside = subprocess.run(
                ["ip", "netns", "pids", name], capture_output=True, text=True, check=False
            )
            for pid in map(int, inside.stdout.split()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _quiet("ip", "netns", "del", name)
            done.append(f"removed namespace {name}")
    for name in entries["links"]:
        if Path("/sys/class/net", name).exists():
            _quiet("ip", "link", "del", name)
            done.append(f"removed link {name}")
    for name in entries["folders"]:
        if Path(name).exists():
            shutil.rmtree(name, ignore_errors=True)
            done.append(f"removed {name}")
    return done


def clean() -> list[str]:
    """Undo what runs left that are no longer alive; return what was done."""
    done: list[str] = []
    for path in sorted(FOLDER.glob("*.json")) if FOLDER.is_dir() else []:
        try:
            entries = json.loads(path.read_text())
        except json.JSONDecodeError:
            if time.time() - path.stat().st_mtime < CLAIM_S:
                continue  # being claimed now
            entries = None  # the run died between claiming the slot and its first entry
        if entries is not None:
            pid, started = entries["owner"]
            if start_time(pid) == started:
                continue
            done += undo(entries)
        path.unlink(missing_ok=True)
        done.append(f"closed ledger {path.name}")
    return done


def _wait_gone(pid: int, started: int) -> None:
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while start_time(pid) == started and time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def _quiet(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=False)

"""Three server processes on loopback, for the demo."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dqlite_py.cli.demo_client import DemoFailed, Server

READY_TEXT = b"ready to serve client requests"
READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.02
LOG_TAIL_LINES = 15
# Below the ports that the kernel gives to outgoing connections: a killed server's port stays free.
PORT_RANGE = (20_000, 32_000)


@dataclass(frozen=True)
class Place:
    """Where one server lives."""

    name: str
    directory: Path
    client_port: int
    peer_port: int
    metrics_port: int

    @property
    def target(self) -> str:
        """Return ``host:port`` for clients."""
        return f"127.0.0.1:{self.client_port}"

    @property
    def log(self) -> Path:
        """Return the file that holds the server's log lines."""
        return self.directory / f"{self.name}.log"


# Makes the command line of one server, the same for first start and restart.
Launcher = Callable[[Place, Sequence[Place]], list[str]]


def dqlite_launcher(token: str) -> Launcher:
    """Return the launcher of this product's server: the first founds, the others join it."""

    def launch(place: Place, places: Sequence[Place]) -> list[str]:
        first = places[0]
        role = ["--cluster-init"] if place is first else [f"--server=http://{first.target}"]
        return [
            sys.executable,
            "-m",
            "dqlite_py",
            "server",
            f"--name={place.name}",
            f"--data-dir={place.directory / place.name}",
            f"--listen-client-urls=http://{place.target}",
            f"--listen-peer-urls=http://127.0.0.1:{place.peer_port}",
            f"--listen-metrics-urls=http://127.0.0.1:{place.metrics_port}",
            f"--token={token}",
            *role,
        ]

    return launch


def make_places(directory: Path, names: Sequence[str]) -> list[Place]:
    """Return a place with free ports below ``directory`` for each name."""
    ports = free_ports(3 * len(names))
    return [
        Place(name, directory, *ports[3 * number : 3 * number + 3])
        for number, name in enumerate(names)
    ]


def free_ports(count: int) -> list[int]:
    """Return distinct ports of 127.0.0.1 on which nothing listens at this moment."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(*PORT_RANGE), k=PORT_RANGE[1] - PORT_RANGE[0]):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise DemoFailed("no free ports on 127.0.0.1")


class Process:
    """One server process and the demo's connection to it."""

    def __init__(self, place: Place, command: list[str]) -> None:
        self.place = place
        self.name = place.name
        self._command = command
        self._log_start = 0
        self._running: subprocess.Popen[bytes] | None = None
        self.server = Server(place.target)

    @property
    def pid(self) -> int:
        """Return the process id of the running server."""
        assert self._running is not None
        return self._running.pid

    def start(self) -> None:
        """Start the process; ``wait_ready`` tells when it serves."""
        self._log_start = self.place.log.stat().st_size if self.place.log.exists() else 0
        with self.place.log.open("ab") as log:
            self._running = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the demo only, which then stops them
            )

    def wait_ready(self) -> None:
        """Return when the server says that it is ready; raise DemoFailed if it ends or lingers."""
        assert self._running is not None
        deadline_s = time.monotonic() + READY_TIMEOUT_S
        while READY_TEXT not in self._new_log():
            if self._running.poll() is not None:
                raise DemoFailed(
                    f"{self.name} did not start; its last log lines:\n{self.log_tail()}"
                )
            if time.monotonic() > deadline_s:
                raise DemoFailed(f"{self.name} is not ready after {READY_TIMEOUT_S:g} s")
            time.sleep(POLL_S)
        self.server.close()
        self.server = Server(self.place.target)

    def kill(self) -> None:
        """End the process at once, as a crash would."""
        assert self._running is not None
        self._running.kill()
        self._running.wait()

    def stop(self) -> int:
        """Ask the process to stop and return its exit code; kill it if it does not."""
        if self._running is None:
            return 0
        self._running.send_signal(signal.SIGTERM)
        try:
            return self._running.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    @property
    def is_running(self) -> bool:
        """Tell whether the process runs."""
        return self._running is not None and self._running.poll() is None

    def log_tail(self) -> str:
        """Return the last lines of the server's log."""
        lines = self.place.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _new_log(self) -> bytes:
        with self.place.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read()


class DemoCluster:
    """The processes of the demo, by name."""

    def __init__(self, places: Sequence[Place], launch: Launcher) -> None:
        self.processes = [Process(place, launch(place, places)) for place in places]

    @property
    def running(self) -> list[Process]:
        """Return the processes that run now."""
        return [process for process in self.processes if process.is_running]

    def leader(self) -> Process | None:
        """Return the process that says it leads, None if none does."""
        for process in self.running:
            status = process.server.status()
            if status.leader and status.leader == status.header.member_id:
                return process
        return None

    def stop_all(self) -> dict[str, int]:
        """Stop every running process; return exit codes by name. Never raises."""
        codes = {process.name: process.stop() for process in self.running}
        for process in self.processes:
            process.server.close()
        return codes

"""One server process: started, killed, paused, restarted; always by its own id."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jepsen.nodes.address import Address
from jepsen.nodes.ledger import Ledger
from tests.kit.etcd_client import EtcdClient, Refused

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
POLL_S = 0.03
LOG_TAIL_BYTES = 3000
REPOSITORY = Path(__file__).resolve().parents[2]


class NeverReady(Exception):
    """A server did not come to serve within its time; the text has the end of its log."""


class NodeProcess:
    """One member of the cluster under test.

    ``preload`` adds variables to each start's environment; ``after_kill`` runs when a killed
    process is gone and before anything else happens to its files.
    """

    def __init__(self, address: Address, ledger: Ledger) -> None:
        self.address = address
        self.name = address.name
        self.command: Sequence[str] = ()
        self.environment: dict[str, str] = {}
        self.after_kill: Callable[[], object] = lambda: None
        self.paused = False
        self.starts = 0
        self.crashes: list[str] = []
        self._killed = False
        self._ledger = ledger
        self._process: subprocess.Popen[bytes] | None = None
        self._client: EtcdClient | None = None
        self._guard = threading.Lock()

    @property
    def running(self) -> bool:
        """Whether the process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code of the last start, None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def log_path(self) -> Path:
        """The log of the latest start."""
        return self.address.directory / f"log.{self.starts}"

    def log_tail(self) -> str:
        """Return the end of the latest log."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")

    @property
    def client(self) -> EtcdClient:
        """The harness's own connection, kept over restarts."""
        with self._guard:
            if self._client is None:
                self._client = EtcdClient(self.address.client)
            return self._client

    def start(self, more: Mapping[str, str] | None = None) -> None:
        """Start the process and return at once."""
        assert not self.running, f"{self.name} runs already"
        self.note_crash()
        self.address.directory.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        command = list(self.command)
        if self.address.namespace is not None:
            command = ["ip", "netns", "exec", self.address.namespace, *command]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env={**os.environ, **self.environment, **(more or {})},
            )
        self._killed = False
        self._ledger.add_process(self._process.pid)

    def note_crash(self) -> None:
        """Remember it if the last process ended without having been told to."""
        if self._process is not None and self.exit_code is not None and not self._killed:
            self.crashes.append(f"ended with {self.exit_code}: {self.log_tail()}")
            self._killed = True

    def answers(self, timeout_s: float = 1.0) -> bool:
        """Tell whether the member answers a linearizable read."""
        try:
            return self.client.revision(timeout_s=timeout_s) > 0
        except Refused:
            return False

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the member answers linearizable reads; raises NeverReady."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.running:
                raise NeverReady(f"{self.name} ended with {self.exit_code}:\n{self.log_tail()}")
            if self.answers():
                return
            time.sleep(POLL_S)
        raise NeverReady(f"{self.name}: not ready in {timeout_s} s:\n{self.log_tail()}")

    def kill(self) -> None:
        """SIGKILL; return when the process is gone."""
        if self._process is None:
            return
        self.note_crash()
        self._killed = True
        self._process.kill()
        self._process.wait(STOP_TIMEOUT_S)
        self._ledger.remove_process(self._process.pid)
        self.paused = False
        self.after_kill()

    def retire(self) -> None:
        """Kill a process that may end by itself because its member was removed."""
        self._killed = True
        self.kill()

    def terminate(self) -> int:
        """SIGTERM; return the exit code, after a SIGKILL if it does not come in time."""
        assert self._process is not None
        self._killed = True
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait(STOP_TIMEOUT_S)
        self._ledger.remove_process(self._process.pid)
        return code

    def pause(self) -> None:
        """SIGSTOP."""
        if self.running:
            self.paused = True
            os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self.running and self.paused:
            os.kill(self.pid, signal.SIGCONT)
        self.paused = False

    def close(self) -> None:
        """Kill the process if it runs and close the connection."""
        with self._guard:
            if self._client is not None:
                self._client.close()
                self._client = None
        if self.running:
            self.kill()

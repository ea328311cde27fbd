"""Clusters of real server processes on loopback, with the faults that can be done to them.

Waiting is done here, with a deadline, so that tests name what they wait for and never sleep. Only
processes started here are signalled, each by its own id.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

import grpc

from tests.kit.etcd_client import EtcdClient, Refused
from tests.kit.ports import free_ports
from tests.kit.products import READY_TEXT, TOKEN, Address, Dqlite, Options, Product
from tests.kit.proxy import PeerProxy

T = TypeVar("T")

POLL_S = 0.02
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
REPOSITORY = Path(__file__).resolve().parents[2]


class NeverHappened(AssertionError):
    """What a test waited for did not happen before its deadline."""


def eventually(
    condition: Callable[[], T], what: str, timeout_s: float = 20.0, poll_s: float = POLL_S
) -> T:
    """Return the first true value of ``condition``; a ``Refused`` or timeout counts as false."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            value = condition()
        except Refused as error:
            last = error
        else:
            if value:
                return value
            last = value
        time.sleep(poll_s)
    raise NeverHappened(f"{what}: not within {timeout_s} s; last seen: {last!r}")


class ServerProcess:
    """One member: its command line, its process while it runs, its logs of every start."""

    def __init__(self, address: Address, command: list[str]) -> None:
        self.address = address
        self.name = address.name
        self.command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0
        self._starts = 0
        self._client: EtcdClient | None = None
        self.credentials: grpc.ChannelCredentials | None = None  # None: in the clear

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log_path(self) -> Path:
        """The log of the latest start: standard output and standard error."""
        return self.address.directory / f"log.{self._starts}"

    def log(self) -> bytes:
        return self.log_path.read_bytes()

    @property
    def client(self) -> EtcdClient:
        """A connection to this member, made on first use and kept over restarts."""
        if self._client is None:
            self._client = EtcdClient(self.address.client, self.credentials)
        return self._client

    def start(self, *, wait: bool = True, command: list[str] | None = None) -> None:
        """Start the process; with ``wait`` return only when it has said that it is ready."""
        assert not self.running, f"{self.name} runs already"
        self.address.directory.mkdir(parents=True, exist_ok=True)
        self._starts += 1
        self.started_s = time.monotonic()
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                command or self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> float:
        """Return the seconds from start to the ready line; raise if the process ends before."""
        return self.wait_log(READY_TEXT, timeout_s) - self.started_s

    def wait_log(self, text: bytes, timeout_s: float = START_TIMEOUT_S) -> float:
        """Return the monotonic time at which ``text`` was first seen in the latest log."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = not self.running
            if text in self.log():
                return time.monotonic()
            tail = self.log()[-3000:].decode(errors="replace")
            if ended:
                code = None if self.process is None else self.process.returncode
                raise NeverHappened(f"{self.name} ended with {code} before {text!r}:\n{tail}")
            if time.monotonic() > deadline:
                raise NeverHappened(f"{self.name}: no {text!r} within {timeout_s} s:\n{tail}")
            time.sleep(POLL_S / 4)

    def wait_exit(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Return the exit code."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def kill_after(self, seconds: float) -> None:
        """SIGKILL ``seconds`` from now, wherever the process stands then; it may have ended."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill()

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM; return the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout_s)

    def pause(self) -> None:
        """SIGSTOP; return when every thread has stopped."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        eventually(lambda: _state(self.pid) == "T", f"{self.name} paused", 5.0)

    def resume(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def restart(self, *, wait: bool = True) -> None:
        """Start again with the same command line; kill first if still running."""
        if self.running:
            self.kill()
        self.start(wait=wait)

    def close(self) -> None:
        """Kill the process if it runs and close the client connection."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self.running:
            self.kill()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def addresses(count: int, directory: Path, *, proxied: bool) -> list[Address]:
    """Return where ``count`` new members shall live, on free ports."""
    ports = free_ports()
    result = []
    for number in range(1, count + 1):
        real_peer_port = next(ports)
        result.append(
            Address(
                name=f"n{number}",
                directory=directory / f"n{number}",
                client_port=next(ports),
                peer_port=next(ports) if proxied else real_peer_port,
                real_peer_port=real_peer_port,
                metrics_port=next(ports),
            )
        )
    return result


class Cluster:
    """Members of one product; a context manager that always ends what it started."""

    def __init__(
        self,
        product: Product | None = None,
        size: int = 3,
        *,
        options: Options | None = None,
        proxied: bool = False,
        directory: Path | None = None,
        secret: str = TOKEN,
    ) -> None:
        self.product = product or Dqlite()
        self.options = options or Options()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        if directory is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="dqlite-kit-")
            directory = Path(self._scratch.name)
        self.directory = directory
        everyone = addresses(size, directory, proxied=proxied)
        self.members = [
            ServerProcess(own, self.product.command(own, everyone, self.options, secret))
            for own in everyone
        ]
        self.proxy: PeerProxy | None = None
        if proxied:
            self.proxy = PeerProxy(self.pids)
            for own in everyone:
                self.proxy.add(own.name, own.peer_port, own.real_peer_port)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(failed=kind is not None)

    def __getitem__(self, name: str) -> ServerProcess:
        return next(member for member in self.members if member.name == name)

    def pids(self) -> dict[str, int]:
        """Return the process ids of the members that run."""
        return {member.name: member.pid for member in self.members if member.running}

    def start(self) -> Cluster:
        """Start every member and return when all are voters, serve, and agree on a leader."""
        for member in self.members:
            member.start(wait=not self.product.starts_together)
        for member in self.members:
            member.wait_ready()
        self.wait_voters()
        self.wait_leader()
        return self

    def wait_voters(self, timeout_s: float = 30.0) -> None:
        """Return when every running member answers linearizable reads: learners refuse them."""
        for member in self.running():
            eventually(
                lambda member=member: member.client.revision(), f"{member.name} votes", timeout_s
            )

    @property
    def endpoints(self) -> list[str]:
        return [member.address.client for member in self.members]

    def running(self) -> list[ServerProcess]:
        return [member for member in self.members if member.running]

    def leader(self, among: Sequence[ServerProcess] | None = None) -> ServerProcess | None:
        """Return the member that all of ``among`` (default: all running) name as leader."""
        by_id: dict[int, ServerProcess] = {}
        named = set()
        for member in among or self.running():
            status = member.client.status(timeout_s=1.0)
            by_id[status.header.member_id] = member
            named.add(status.leader)
        return by_id.get(named.pop()) if len(named) == 1 else None

    def wait_leader(
        self, among: Sequence[ServerProcess] | None = None, timeout_s: float = 20.0
    ) -> ServerProcess:
        """Return the leader once all of ``among`` (default: all running) agree on it."""
        leader = eventually(lambda: self.leader(among), "agreement on a leader", timeout_s)
        assert leader is not None
        return leader

    def wait_level(self, timeout_s: float = 30.0) -> int:
        """Return the revision once a linearizable read's revision is applied on all running."""

        def level() -> int:
            members = self.running()
            newest = max(member.client.revision() for member in members)
            here = [member.client.revision(serializable=True) for member in members]
            return newest if all(revision == newest for revision in here) else 0

        return eventually(level, "all members at one revision", timeout_s)

    def isolate(self, member: ServerProcess) -> None:
        """Cut a member off from all others; clients still reach it."""
        assert self.proxy is not None, "only a proxied cluster can be partitioned"
        self.proxy.isolate(
            member.name, [other.name for other in self.members if other is not member]
        )

    def heal(self) -> None:
        """End every partition, stall and delay."""
        assert self.proxy is not None
        self.proxy.heal()

    def close(self, *, failed: bool = False) -> None:
        """Kill everything; when the test failed print the end of each log."""
        for member in self.members:
            with suppress(ProcessLookupError):
                member.close()
            if failed and member.log_path.exists():
                tail = member.log()[-4000:].decode(errors="replace")
                print(f"--- {member.name}, end of its log ---\n{tail}")
        if self.proxy is not None:
            self.proxy.close()
            self.proxy = None
        if self._scratch is not None:
            self._scratch.cleanup()


def run(
    command: Sequence[str], timeout_s: float = 30.0, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its output; never raises for an exit code."""
    return subprocess.run(
        list(command),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=REPOSITORY,
        check=False,
        **more,
    )


def spawn(command: Sequence[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command with its output in a file; the caller ends it."""
    return subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output)

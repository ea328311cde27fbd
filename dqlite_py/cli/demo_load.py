"""Writers that go on through the death of the leader and remember what was acknowledged."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc

from dqlite_py.cli.demo_client import DemoFailed, Server

WRITERS = 8
TOTAL_PUTS = 3000
KILL_AFTER_PUTS = 1000
PREFIX = "demo/load/"
PATIENCE_S = 30.0  # longest time without a single acknowledged write
BACKOFF_S = 0.02
# A put that hangs on the dead leader is given up soon, so that the pause is measured and not it.
PUT_TIMEOUT_S = 1.0


@dataclass
class Outcome:
    """What the writers saw. Times are monotonic seconds."""

    acknowledged: dict[str, str] = field(default_factory=dict)
    unknown: int = 0  # puts that got an error: they may or may not have happened
    began_s: float = 0.0
    ended_s: float = 0.0
    killed_s: float = 0.0
    # First acknowledgement of a put that was sent after the kill.
    recovered_s: float = 0.0

    @property
    def puts_per_s(self) -> float:
        """Return acknowledged puts per second, the pause included."""
        return len(self.acknowledged) / (self.ended_s - self.began_s)

    @property
    def pause_s(self) -> float:
        """Return seconds from the kill to the first acknowledged put sent after it."""
        return self.recovered_s - self.killed_s


class Load:
    """Runs the writers; each key is written once, so an error is never followed by a repeat."""

    def __init__(self, targets: Sequence[str], progress: Callable[[int], None]) -> None:
        self._targets = list(targets)
        self._progress = progress  # told of each acknowledged put, from any thread
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._in_flight = 0
        self._enough_to_kill = threading.Event()
        self.outcome = Outcome()

    def run(self, kill: Callable[[], None]) -> Outcome:
        """Write ``TOTAL_PUTS`` keys; call ``kill`` once, amid them. Raises DemoFailed if stuck."""
        self.outcome.began_s = time.monotonic()
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="writer") as pool:
            writers = [pool.submit(self._write, number) for number in range(WRITERS)]
            if self._enough_to_kill.wait(PATIENCE_S):
                kill()
                with self._lock:
                    self.outcome.killed_s = time.monotonic()
            for writer in writers:
                writer.result()
        self.outcome.ended_s = time.monotonic()
        return self.outcome

    def _write(self, first: int) -> None:
        servers = [Server(target) for target in self._targets]
        chosen = first
        last_success_s = time.monotonic()
        try:
            while len(self.outcome.acknowledged) < TOTAL_PUTS:
                if time.monotonic() - last_success_s > PATIENCE_S:
                    raise DemoFailed(f"no write was acknowledged for {PATIENCE_S:g} s")
                if self._put_next(servers[chosen % len(servers)]):
                    last_success_s = time.monotonic()
                else:
                    chosen += 1
                    time.sleep(BACKOFF_S)
        finally:
            for server in servers:
                server.close()

    def _put_next(self, server: Server) -> bool:
        """Put one more key; return whether it was acknowledged."""
        with self._lock:
            if len(self.outcome.acknowledged) + self._in_flight >= TOTAL_PUTS:
                return False  # the last ones are under way; another is needed only if one fails
            self._in_flight += 1
        number = next(self._numbers)
        key, value = f"{PREFIX}{number:06d}", f"value {number}"
        sent_s = time.monotonic()
        try:
            server.put(key, value, timeout_s=PUT_TIMEOUT_S)
        except grpc.RpcError:
            with self._lock:
                self._in_flight -= 1
                self.outcome.unknown += 1
            return False
        self._acknowledged(key, value, sent_s, time.monotonic())
        return True

    def _acknowledged(self, key: str, value: str, sent_s: float, now_s: float) -> None:
        with self._lock:
            self._in_flight -= 1
            outcome = self.outcome
            outcome.acknowledged[key] = value
            if outcome.killed_s and not outcome.recovered_s and sent_s > outcome.killed_s:
                outcome.recovered_s = now_s
            if len(outcome.acknowledged) >= KILL_AFTER_PUTS:
                self._enough_to_kill.set()
        self._progress(1)

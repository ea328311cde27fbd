"""One cell of a matrix in a process of its own, so that several can run at once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from jepsen.run import CANNOT_RUN_EXIT, OUTCOME_FILE, REPOSITORY, Options

PATIENCE_S = 300.0
"""How much longer than its time limit a cell may take: start, recovery, closing reads, checks."""
STOP_TIMEOUT_S = 30.0
OUTPUT_FILE = "tester.log"
TAIL_CHARACTERS = 2000


class Cells:
    """Runs cells as child processes, from any number of threads.

    A context manager; its end terminates the children that still run and waits for them, so that
    each removes its own servers, namespaces and mounts. Every child claims a ledger, and with it
    addresses, names and folders that no other live run has.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        with self._guard:
            self._closed = True
            left = list(self._running)
        for child in left:
            child.terminate()
        for child in left:
            _end(child)

    def run(self, options: Options, directory: Path) -> dict[str, Any]:
        """Run one cell and return its outcome; that of a tester that broke is ``failed``.

        Whether a cell cannot run here is told by ``skipped``, the reason, instead of a verdict.
        """
        directory.mkdir(parents=True, exist_ok=True)
        (directory / OUTCOME_FILE).unlink(missing_ok=True)
        output = directory.with_name(f"{directory.name}.{OUTPUT_FILE}")
        limit_s = options.time_limit_s + PATIENCE_S
        with output.open("wb") as log:
            child = self._start(command(options, directory), log)
            try:
                code: int | None = child.wait(limit_s)
            except subprocess.TimeoutExpired:
                code = None
                child.terminate()
                _end(child)
            finally:
                with self._guard:
                    self._running.discard(child)
        if code is None:
            return broken(options, f"the cell did not end within {limit_s} s")
        return outcome_of(options, code, directory, output)

    def _start(self, arguments: list[str], log: Any) -> subprocess.Popen[bytes]:
        with self._guard:
            if self._closed:
                raise RuntimeError("no cell is started after the end")
            child = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=REPOSITORY
            )
            self._running.add(child)
            return child


def command(options: Options, directory: Path) -> list[str]:
    """Return the command line of one run."""
    flags = {
        "workload": options.workload,
        "nemesis": options.nemesis,
        "time-limit": options.time_limit_s,
        "seed": options.seed,
        "product": options.product,
        "clients": options.clients,
        "rate": options.rate_per_s,
        "out": directory,
    }
    given = [f"--{name}={value}" for name, value in flags.items()]
    given += ["--loopback"] * options.loopback + ["--report" if options.report else "--no-report"]
    return [sys.executable, "-m", "jepsen", "run", *given]


def outcome_of(options: Options, code: int, directory: Path, output: Path) -> dict[str, Any]:
    """Return what a child that ended with ``code`` left in its directory and its output."""
    found = directory / OUTCOME_FILE
    if found.exists():
        outcome: dict[str, Any] = json.loads(found.read_text())
        return outcome
    said = output.read_text(errors="replace")[-TAIL_CHARACTERS:].strip()
    if code == CANNOT_RUN_EXIT:
        reason = said.rpartition("cannot run: ")[2]
        return {"workload": options.workload, "nemesis": options.nemesis, "skipped": reason}
    return broken(options, f"the tester ended with {code}: {said}")


def broken(options: Options, error: str) -> dict[str, Any]:
    """Return the outcome of a cell whose tester did not come to its end."""
    nothing: Mapping[str, Any] = {"total": 0, "ok": 0, "fail": 0, "info": 0, "by_kind": {}}
    return {
        "workload": options.workload,
        "nemesis": options.nemesis,
        "time_limit_s": options.time_limit_s,
        "verdict": "failed",
        "operations": dict(nothing),
        "availability": {},
        "results": [],
        "errors": [error],
        "crashes": [],
    }


def _end(child: subprocess.Popen[bytes]) -> None:
    """Wait for a terminated child; kill it if it does not come to its end."""
    try:
        child.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

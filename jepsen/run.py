"""One run: a cluster, clients, a nemesis, a history, and what the checkers say of it."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from jepsen.history import HistoryWriter, pair
from jepsen.measure import availability, counts
from jepsen.nemesis import all_nemeses
from jepsen.nemesis.calm import Calm
from jepsen.nemesis.nemesis import Nemesis
from jepsen.net.network import choose
from jepsen.nodes.cluster import Cluster
from jepsen.nodes.equipment import Equipment, missing
from jepsen.nodes.ledger import Ledger
from jepsen.nodes.process import NeverReady
from jepsen.nodes.products import Settings, product
from jepsen.report.page import write_report
from jepsen.workloads import all_workloads
from jepsen.workloads.session import Session
from jepsen.workloads.workload import Scale, Workload

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = "JEPSEN_RESULTS"
OUTCOME_FILE = "outcome.json"
CANNOT_RUN_EXIT = 3
"""The exit code of a run that could not be tried, as CannotRun tells."""
RECOVERY_LIMIT_S = 45.0
JOIN_LIMIT_S = 30.0
SERVICE_LIMIT_S = 12.0
EXPECTED_ENDS = frozenset({"disk-full", "corrupt", "corrupt-db"})
"""Nemeses under which a server may end by itself: going on would be the fault."""


class CannotRun(Exception):
    """The pair of workload and nemesis cannot be tried here; the text says why."""


@dataclass(frozen=True)
class Options:
    """What to run.

    Without ``report`` only a run that is not valid gets its page, plots and EDN.
    """

    workload: str
    nemesis: str = "none"
    product: str = "dqlite"
    time_limit_s: float = 60.0
    seed: int = 0
    clients: int = 12
    rate_per_s: float = 120.0
    loopback: bool = False
    fault: str | None = None
    report: bool = True
    directory: Path | None = None

    @property
    def title(self) -> str:
        """The name of the run's directory."""
        what = self.product if self.fault is None else self.fault
        return f"{what}-{self.workload}-{self.nemesis}-{self.seed}"


def results_directory() -> Path:
    """Return where results go: the variable JEPSEN_RESULTS, or a folder below /var/tmp."""
    given = os.environ.get(RESULTS)
    return Path(given) if given else Path("/var/tmp") / f"jepsen-results-{os.getuid()}"


def commit(part: str = "dqlite_py") -> str:
    """Return the last commit that changed a part, with ``+`` if it was changed since."""
    git = ["git", "-C", str(REPOSITORY)]
    last = [*git, "log", "-1", "--format=%h", "--abbrev=12", "--", part]
    found = subprocess.run(last, capture_output=True, text=True, check=False)
    changes = [*git, "status", "--porcelain", "--", part]
    changed = subprocess.run(changes, capture_output=True, check=False)
    return (found.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else "")


def execute(options: Options, progress: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Do one run and return its outcome, which is also in ``outcome.json`` of its directory.

    Raises CannotRun before anything is started.
    """
    directory = options.directory or results_directory() / "runs" / options.title
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    ledger = Ledger.claim()
    try:
        outcome = Run(options, directory, ledger, progress).execute()
    finally:
        ledger.close()
    (directory / OUTCOME_FILE).write_text(json.dumps(outcome, indent=1) + "\n")
    return outcome


class Run:
    """The parts of one run and their order."""

    def __init__(
        self, options: Options, directory: Path, ledger: Ledger, progress: Callable[[str], None]
    ) -> None:
        self.options = options
        self.directory = directory
        self._ledger = ledger
        self._progress = progress
        self._random = Random(options.seed)
        self._stopping = threading.Event()
        self._errors: list[str] = []
        self._scale = Scale(options.clients, options.rate_per_s, options.time_limit_s)
        self._workload: Workload = all_workloads()[options.workload](
            Random(self._random.random()), self._scale
        )

    def execute(self) -> dict[str, Any]:
        """Do everything; returns the outcome."""
        options = self.options
        began_s = time.monotonic()
        began = {
            "commit": commit(),
            "tester_commit": commit("jepsen"),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        kind = all_nemeses()[options.nemesis]
        server = product(options.product, options.fault)
        network = choose(self._ledger, loopback=options.loopback)
        reason = missing(kind.needs, server, can_lose_packets=network.can_lose_packets)
        if reason is not None:
            network.close()
            raise CannotRun(reason)
        equipment = Equipment(kind.needs, self._ledger)
        members = Path(tempfile.mkdtemp(prefix="jepsen-"))
        self._ledger.add("folders", str(members))
        settings = Settings(snapshot_count=kind.needs.snapshot_count or Settings().snapshot_count)
        with (
            HistoryWriter(str(self.directory / "history.jsonl")) as history,
            Cluster(
                *(server, network, self._ledger, members),
                settings=settings,
                prepare=equipment.prepare,
            ) as cluster,
        ):
            try:
                cluster.start(kind.needs.members)
                cluster.wait_leader()
            except NeverReady as late:
                self._errors.append(f"the cluster never started: {late}")
            else:

                def record(f: str, detail: object) -> None:
                    history.nemesis(f, options.nemesis, detail)

                random = Random(self._random.random())
                nemesis = kind(cluster, equipment, random, record)
                self._drive(cluster, history, nemesis)
            crashes = self._crashes(cluster)
            logs = self._keep_logs(cluster)
            name = network.name
        return began | self._judge(history, name, crashes, logs, began_s)

    def _drive(self, cluster: Cluster, history: HistoryWriter, nemesis: Nemesis) -> None:
        sessions = [
            Session(
                *(number, self.options.clients, cluster, history),
                Random(self._random.random()),
                self._stopping,
            )
            for number in range(self.options.clients)
        ]
        self._workload.open(sessions[0])
        threads = [
            threading.Thread(target=self._client, args=(session,), daemon=True)
            for session in sessions
        ]
        for thread in threads:
            thread.start()
        try:
            self._torment(cluster, history, nemesis)
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(JOIN_LIMIT_S)
        self._stopping.clear()
        if self._recover(cluster):
            self._workload.close(sessions[0])
        for session in sessions:
            session.close()

    def _client(self, session: Session) -> None:
        try:
            while not self._stopping.is_set():
                self._workload.step(session)
                session.rest(self.options.rate_per_s)
        except Exception:
            # A client that breaks ends the run as a failed one, whatever broke it.
            self._errors.append(traceback.format_exc())
            self._stopping.set()

    def _torment(self, cluster: Cluster, history: HistoryWriter, nemesis: Nemesis) -> None:
        """Let faults come and go until time is up, with calm before and between them."""
        limit_s = self.options.time_limit_s
        end_s = time.monotonic() + limit_s
        longest_s = min(6.0, max(1.0, limit_s / 5))
        name = self.options.nemesis
        if isinstance(nemesis, Calm):
            self._pause(limit_s, end_s)
            return
        try:
            while self._pause(longest_s / 2, end_s):
                history.nemesis("start", name)
                self._note(f"{name}: {nemesis.start()}", history)
                self._pause(nemesis.random.uniform(longest_s / 2, longest_s), end_s)
                self._note(f"{name} ended: {nemesis.stop()}", history)
                history.nemesis("stop", name)
                self._await_service(cluster, end_s)
        except NeverReady as late:
            self._errors.append(f"nemesis {name}: {late}")
        finally:
            for node in cluster.nodes:
                node.resume()
            nemesis.stop()
            cluster.network.heal()
            history.nemesis("stop", name)

    def _await_service(self, cluster: Cluster, end_s: float) -> None:
        """Let the next fault meet a cluster that works; a fault without end is found later."""
        end_s = min(end_s, time.monotonic() + SERVICE_LIMIT_S)
        while time.monotonic() < end_s and not self._stopping.is_set():
            if any(node.running and node.answers() for node in cluster.nodes):
                return
            self._stopping.wait(0.1)

    def _note(self, text: str, history: HistoryWriter) -> None:
        history.nemesis("detail", self.options.nemesis, text[:600])
        self._progress(text)

    def _pause(self, seconds: float, end_s: float) -> bool:
        """Wait, at most to the end of the run; return whether it goes on."""
        left_s = end_s - time.monotonic()
        return not self._stopping.wait(max(0.0, min(seconds, left_s))) and left_s > seconds

    def _recover(self, cluster: Cluster) -> bool:
        for node in cluster.nodes:
            if not node.running:
                node.start()
        try:
            cluster.wait_all_ready(RECOVERY_LIMIT_S)
        except NeverReady as late:
            self._errors.append(f"did not recover after all faults had ended: {late}")
            return False
        return True

    def _crashes(self, cluster: Cluster) -> list[str]:
        for node in cluster.nodes:
            node.note_crash()
        if self.options.nemesis in EXPECTED_ENDS:
            return []
        return [f"{node.name} {crash}" for node in cluster.everyone for crash in node.crashes]

    def _keep_logs(self, cluster: Cluster) -> list[str]:
        """Copy the servers' logs to the results; returns those that hold a traceback or panic."""
        bad = []
        for node in cluster.everyone:
            for log in sorted(node.address.directory.glob("log.*")):
                kept = self.directory / f"{node.name}.{log.name}"
                shutil.copyfile(log, kept)
                text = kept.read_bytes()
                if b"Traceback (most recent call last)" in text or b"panic:" in text:
                    bad.append(kept.name)
        return bad

    def _judge(
        self,
        history: HistoryWriter,
        network: str,
        crashes: list[str],
        bad_logs: list[str],
        began_s: float,
    ) -> dict[str, Any]:
        operations = pair(history.events)
        ran_s = time.monotonic() - began_s
        self._progress(f"checking {len(operations)} operations")
        checked = self._workload.check(operations, history.events) if operations else []
        results = [result.to_json() for result in checked]
        options = asdict(self.options)
        del options["directory"], options["report"]
        outcome = {
            **options,
            "network": network,
            "verdict": verdict(results, self._errors, crashes),
            "operations": counts(operations),
            "availability": availability(history.events, operations),
            "results": results,
            "errors": self._errors,
            "crashes": crashes,
            "logs_with_tracebacks": bad_logs,
            "ran_s": round(ran_s, 1),
            "cpu_s": cpu_s(),
            "load_average": round(os.getloadavg()[0], 1),
            "seconds": round(time.monotonic() - began_s, 1),
            "history": str(self.directory / "history.jsonl"),
        }
        if self.options.report or outcome["verdict"] != "valid":
            write_report(self.directory, history.events, outcome)
        return outcome


def cpu_s() -> dict[str, float]:
    """Return the CPU seconds that this process and its ended children took up to now."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "tester": round(own.ru_utime + own.ru_stime, 1),
        "servers": round(children.ru_utime + children.ru_stime, 1),
    }


def verdict(results: list[dict[str, Any]], errors: list[str], crashes: list[str]) -> str:
    """Return ``violation``, ``failed`` (errors, crashes), ``unknown`` or ``valid``."""
    if any(result["violation_count"] for result in results):
        return "violation"
    if errors or crashes or not results:
        return "failed"
    if any(result["undecided"] is not None for result in results):
        return "unknown"
    return "valid"

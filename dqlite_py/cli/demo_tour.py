"""The steps of the demo. Each prints what it does and raises DemoFailed if anything differs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dqlite_py.cli.demo_client import DemoFailed, reason_of
from dqlite_py.cli.demo_cluster import POLL_S, DemoCluster, Process
from dqlite_py.cli.demo_load import PREFIX, TOTAL_PUTS, WRITERS, Load, Outcome
from dqlite_py.pb import admin_pb2

T = TypeVar("T")

PATIENCE_S = 30.0
LEASE_TTL_S = 2


class Tour:
    """Walks through the steps with one cluster, printing to ``console``."""

    def __init__(self, cluster: DemoCluster, console: Console, *, examines: bool = True) -> None:
        self._cluster = cluster
        self._console = console
        self._examines = examines  # whether the servers can examine their database files
        self._step = 0

    def run(self) -> None:
        """Take all steps; return only if all of them went well."""
        self.start_servers()
        self.write_here_read_there()
        self.watch_from_elsewhere()
        self.let_a_lease_expire()
        self.race_two_transactions()
        dead, outcome = self.kill_the_leader_while_writing()
        self.verify_on_survivors(outcome)
        self.bring_back(dead, outcome)
        self.compare_histories()
        if self._examines:
            self.compare_files()

    def start_servers(self) -> None:
        """Start all servers and wait until all of them vote."""
        with self._titled("Start three servers; the second and third join by URL and token"):
            began_s = time.monotonic()
            for process in self._cluster.processes:
                process.start()
            for process in self._cluster.processes:
                process.wait_ready()
            first = self._cluster.processes[0].server
            wanted = len(self._cluster.processes)
            members = until(
                "all servers are voting members",
                lambda: [one for one in first.members() if not one.isLearner],
                lambda voters: len(voters) == wanted,
            )
            leader = until("a leader is elected", self._cluster.leader, bool)
            table = Table("member", "id", "client URL", "role", box=None, pad_edge=False)
            for member in members:
                role = "leader" if leader and leader.name == member.name else "follower"
                table.add_row(member.name, f"{member.ID:x}", ",".join(member.clientURLs), role)
            self._console.print(Padding(table, (0, 0, 0, 3)))
            self._say(f"all three vote after {time.monotonic() - began_s:.1f} s")

    def write_here_read_there(self) -> None:
        """Put through one server and read through the two others."""
        with self._titled("Put through one server, read through the others"):
            writer, *readers = self._cluster.processes
            writer.server.put("demo/greeting", "hello")
            self._say(f"{writer.name}: put demo/greeting = hello")
            for reader in readers:
                value = reader.server.get("demo/greeting")
                self._say(f"{reader.name}: get demo/greeting -> {value}")
                expect(value == "hello", f"{reader.name} does not see the put")

    def watch_from_elsewhere(self) -> None:
        """Watch on the last server what is written through the others."""
        with self._titled("Watch a prefix on one server while others write"):
            first, second, third = self._cluster.processes
            watch = third.server.watch("demo/watched/")
            first.server.put("demo/watched/a", "1")
            second.server.put("demo/watched/a", "2")
            first.server.delete("demo/watched/a")
            seen = []
            for event in watch.events(3):
                kind = "DELETE" if event.type else "PUT"
                seen.append((kind, event.kv.value.decode()))
                self._say(
                    f"{third.name}: revision {event.kv.mod_revision} {kind} "
                    f"{event.kv.key.decode()} {event.kv.value.decode()}"
                )
            expect(seen == [("PUT", "1"), ("PUT", "2"), ("DELETE", "")], "the events differ")

    def let_a_lease_expire(self) -> None:
        """Attach a key to a lease and wait for the key to go."""
        with self._titled(f"Let a lease of {LEASE_TTL_S} s expire"):
            first, second, _ = self._cluster.processes
            watch = second.server.watch("demo/leased")
            granted_s = time.monotonic()
            lease = first.server.grant(LEASE_TTL_S)
            first.server.put("demo/leased", "for a while", lease)
            self._say(f"{first.name}: put demo/leased with lease {lease:x}")
            kinds = [event.type for event in watch.events(2)]
            lived_s = time.monotonic() - granted_s
            self._say(f"{second.name}: sees it deleted after {lived_s:.1f} s")
            expect(kinds == [0, 1], "the watch did not see a put and a delete")
            expect(lived_s >= LEASE_TTL_S, "the lease expired too early")
            expect(second.server.get("demo/leased") is None, "the key is still there")

    def race_two_transactions(self) -> None:
        """Let two servers swap the same value; one must win."""
        with self._titled("Two transactions race: swap `free` for a name"):
            contenders = self._cluster.processes[:2]
            contenders[0].server.put("demo/lock", "free")
            won: dict[str, bool] = {}

            def contend(process: Process) -> None:
                won[process.name] = process.server.swap("demo/lock", "free", process.name)

            threads = [threading.Thread(target=contend, args=[one]) for one in contenders]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for name in sorted(won):
                self._say(f"{name}: {'succeeded' if won[name] else 'failed, as it must'}")
            holder = self._cluster.processes[2].server.get("demo/lock")
            self._say(f"{self._cluster.processes[2].name}: get demo/lock -> {holder}")
            winners = [name for name, success in won.items() if success]
            expect(len(won) == 2, "a transaction was not answered")
            expect([holder] == winners, f"holder {holder}, but winners {winners}")

    def kill_the_leader_while_writing(self) -> tuple[Process, Outcome]:
        """Write through all servers, SIGKILL the leader amid it; return it and the outcome."""
        with self._titled(f"{WRITERS} writers through all servers; SIGKILL to the leader amid it"):
            leader = until("a leader is known", self._cluster.leader, bool)
            assert leader is not None
            with progress_bar(self._console) as advance:
                targets = [process.place.target for process in self._cluster.processes]
                outcome = Load(targets, advance).run(leader.kill)
            expect(outcome.recovered_s > 0, "no write was acknowledged after the kill")
            successor = until("a new leader is elected", self._cluster.leader, bool)
            assert successor is not None
            self._say(
                f"{len(outcome.acknowledged)} puts acknowledged ({outcome.puts_per_s:.0f}/s), "
                f"{outcome.unknown} got an error and may or may not have happened"
            )
            self._say(
                f"{leader.name} (leader) killed; {successor.name} leads now; first new write "
                f"acknowledged {outcome.pause_s:.2f} s after the kill"
            )
        return leader, outcome

    def verify_on_survivors(self, outcome: Outcome) -> None:
        """Look for every acknowledged put on every server that runs."""
        with self._titled("Every acknowledged put must be on both survivors"):
            for process in self._cluster.running:
                self._verify(process, outcome, local=False)

    def bring_back(self, dead: Process, outcome: Outcome) -> None:
        """Restart the killed server with the same command line and watch it catch up."""
        with self._titled(f"Restart {dead.name} with the same command line; it must catch up"):
            leader = self._cluster.leader()
            assert leader is not None
            goal = leader.server.status().raftAppliedIndex
            began_s = time.monotonic()
            dead.start()
            dead.wait_ready()
            applied = until(
                f"{dead.name} has caught up",
                lambda: dead.server.status().raftAppliedIndex,
                lambda index: index >= goal,
            )
            self._say(
                f"{dead.name}: applied index {applied} (leader had {goal}) "
                f"after {time.monotonic() - began_s:.2f} s"
            )
            self._verify(dead, outcome, local=True)

    def compare_histories(self) -> None:
        """Compare etcd's hash over all keys and revisions on all servers."""
        with self._titled("The hash over all keys and their history must be equal"):
            revision = self._cluster.processes[0].server.put("demo/end", "now").header.revision
            hashes = set()
            for process in self._cluster.processes:
                process.server.get("demo/end")  # linearizable: this server has applied it after
                answer = process.server.hash_kv(revision)
                hashes.add(answer.hash)
                self._say(f"{process.name}: hash {answer.hash:08x} at revision {revision}")
            expect(len(hashes) == 1, "the hashes differ")

    def compare_files(self) -> None:
        """Let each server checkpoint and examine its SQLite files; all must be sound and equal."""
        with self._titled("SQLite's integrity check, and the database files byte by byte"):
            reports = until(
                "all servers have the same files",
                lambda: {one.name: one.server.check() for one in self._cluster.processes},
                lambda found: len({_fingerprint(report) for report in found.values()}) == 1,
            )
            for name, report in reports.items():
                for database in report.databases:
                    self._say(
                        f"{name}: {database.name}: integrity {', '.join(database.integrity)}, "
                        f"{database.page_count} pages, sha256 {database.sha256.hex()[:16]}"
                    )
                    expect(list(database.integrity) == ["ok"], f"{name} has a damaged database")
                expect(len(report.databases) > 0, f"{name} reports no database")

    def _verify(self, process: Process, outcome: Outcome, *, local: bool) -> None:
        found = process.server.get_prefix(PREFIX, local=local)
        wrong = [key for key, value in outcome.acknowledged.items() if found.get(key) != value]
        self._say(
            f"{process.name}: {len(outcome.acknowledged) - len(wrong)} of "
            f"{len(outcome.acknowledged)} acknowledged puts found"
        )
        expect(not wrong, f"{process.name} lost {len(wrong)} puts, the first is {wrong[:1]}")

    @contextmanager
    def _titled(self, text: str) -> Iterator[None]:
        self._step += 1
        self._console.print(f"\n[bold]{self._step}. {text}[/bold]", highlight=False)
        try:
            yield
        except grpc.RpcError as error:
            raise DemoFailed(f"a call failed: {reason_of(error)}") from None

    def _say(self, text: str) -> None:
        self._console.print(f"   {text}", highlight=False, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[int], None]]:
    """Show a bar of acknowledged puts; give the function that advances it, for any thread."""
    columns = (
        TextColumn("   puts"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("puts", total=TOTAL_PUTS)
        yield lambda count: bar.advance(task, count)


def expect(condition: bool, complaint: str) -> None:
    """Raise DemoFailed with ``complaint`` unless ``condition`` holds."""
    if not condition:
        raise DemoFailed(complaint)


def until(what: str, look: Callable[[], T], good: Callable[[T], bool]) -> T:
    """Look until the result is good and return it; raise DemoFailed after ``PATIENCE_S``."""
    deadline_s = time.monotonic() + PATIENCE_S
    problem = ""
    while True:
        try:
            result = look()
            if good(result):
                return result
            problem = ""
        except grpc.RpcError as error:
            problem = f": {reason_of(error)}"
        if time.monotonic() > deadline_s:
            raise DemoFailed(f"waited {PATIENCE_S:g} s in vain until {what}{problem}")
        time.sleep(POLL_S)


def _fingerprint(report: admin_pb2.CheckResponse) -> tuple[tuple[str, bytes, int], ...]:
    return tuple((one.name, one.sha256, one.page_count) for one in report.databases)

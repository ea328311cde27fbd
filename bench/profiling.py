"""``python -m bench profile``: where the leader's processor time goes under constant puts.

Three views of the same load:

- each thread's processor time, from the kernel;
- Python functions, from py-spy, which samples from outside. It cannot tell a thread that runs
  from one that waits inside a C function, so samples of a worker waiting for its next job are
  dropped and the rest of each thread's samples share the time that the kernel saw it use. Time
  inside a C function (SQLite, lz4, protobuf) counts for the Python function that called it; what
  the event loop itself does, waiting included, counts for ``Runner.run``;
- machine code by shared library, from perf where it is installed.
"""

from __future__ import annotations

import linecache
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import counters
from bench.failures import CannotMeasure
from bench.measure import TICKS_PER_S, load
from bench.scenarios import WARM_UP_CALLS, WARM_UP_S, fill, leader_first
from tests.kit.processes import REPOSITORY, Cluster, ServerProcess
from tests.kit.products import Product

Result = dict[str, Any]

SAMPLES_PER_S = 200
PERF_SAMPLES_PER_S = 499
GRACE_S = 30.0
PRODUCT = "dqlite_py/"
THREAD = re.compile(r"thread \((?P<id>\d+)\)(?:: (?P<name>.*))?")
FRAME = re.compile(r"(?P<function>.+) \((?P<file>[^()]+?)(?::(?P<line>\d+))?\)")
WAITS_FOR_A_JOB = re.compile(r"\.get\(\)")
LIBRARIES = {
    "__init__": "apsw with SQLite",
    "_block": "lz4",
    "_message": "protobuf",
    "loop": "uvloop",
    "[kernel": "kernel",
    "libpython3": "Python's interpreter",
    "python3": "Python's interpreter",
    "_cmsgpack": "msgpack",
}


@dataclass(frozen=True)
class Frame:
    """A Python function on a sampled stack."""

    function: str
    file: str

    @property
    def package(self) -> str:
        """The product's package, or the foreign one, that the function belongs to."""
        if PRODUCT in self.file:
            parts = self.file.rpartition(PRODUCT)[2].split("/")
            depth = 2 if parts[0] == "http" and len(parts) > 2 else 1
            return PRODUCT + "/".join(parts[:depth]).removesuffix(".py")
        return self.file.split("/")[0].removesuffix(".py").strip("<>")

    def __str__(self) -> str:
        return f"{self.function} ({self.file})"


@dataclass(frozen=True)
class Sample:
    """A stack, the outermost function first, and how often it was seen on a thread."""

    thread: int
    thread_name: str
    stack: tuple[Frame, ...]
    line: str  # the source line on top of the stack, "" where it is not known
    count: int


@dataclass
class Profile:
    """Microseconds a put: on top of the stack (own), and anywhere on it (whole)."""

    own_functions: Counter[Frame] = field(default_factory=Counter)
    whole_functions: Counter[Frame] = field(default_factory=Counter)
    own_packages: Counter[str] = field(default_factory=Counter)
    whole_packages: Counter[str] = field(default_factory=Counter)


def samples_in(text: str, source: Callable[[str, int], str]) -> Iterator[Sample]:
    """Yield what py-spy's raw format holds: a thread and frames parted by semicolons, a count.

    ``source`` returns a line of a file of which py-spy shortened the name.
    """
    for line in text.splitlines():
        names, _, count = line.rpartition(" ")
        thread, *frames = names.split(";")
        whose = THREAD.fullmatch(thread)
        found = [frame for name in frames if (frame := FRAME.fullmatch(name))]
        if whose is None or not found:
            continue
        top = found[-1]
        yield Sample(
            thread=int(whose["id"]),
            thread_name=whose["name"] or "",
            stack=tuple(Frame(frame["function"], frame["file"]) for frame in found),
            line=source(top["file"], int(top["line"] or 0)),
            count=int(count),
        )


def product_line(file: str, number: int) -> str:
    """Return a line of the product's source, "" for files of others."""
    if not file.startswith(PRODUCT):
        return ""
    return linecache.getline(str(REPOSITORY / file), number)


def profile_of(samples: Iterable[Sample], us_per_thread: dict[int, float]) -> Profile:
    """Share each thread's microseconds a put among the samples in which it was not waiting.

    A function that occurs twice on a stack counts once for it.
    """
    working = [sample for sample in samples if not WAITS_FOR_A_JOB.search(sample.line)]
    seen: Counter[int] = Counter()
    for sample in working:
        seen[sample.thread] += sample.count
    profile = Profile()
    for sample in working:
        us: Any = us_per_thread.get(sample.thread, 0.0) * sample.count / seen[sample.thread]
        profile.own_functions[sample.stack[-1]] += us
        profile.own_packages[sample.stack[-1].package] += us
        for frame in set(sample.stack):
            profile.whole_functions[frame] += us
        for package in {frame.package for frame in sample.stack}:
            profile.whole_packages[package] += us
    return profile


def thread_times_s(pid: int) -> dict[int, float]:
    """Return the processor seconds so far of each thread of a process."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        found[int(task.name)] = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return found


def shares_in_perf(text: str) -> list[tuple[str, float]]:
    """Return library and percent of each line of ``perf report --sort dso``."""
    rows = re.findall(r"^\s*([\d.]+)%\s+(\S+)\s*$", text, re.MULTILINE)
    return [(LIBRARIES.get(name.split(".")[0], name), float(share)) for share, name in rows]


def tools() -> str:
    """Return py-spy's path; raise CannotMeasure if it is not installed."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise CannotMeasure("py-spy is not installed (pip install -e '.[bench]')")
    return found


def while_loaded(
    command: Sequence[str], leader: ServerProcess, concurrency: int, seconds: float
) -> Result:
    """Run a profiler that ends by itself after ``seconds``, under a load that lasts longer."""
    process = subprocess.Popen(
        list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        found = load([leader], "put", concurrency, seconds + 1)
        said, _ = process.communicate(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"{command[0]} did not end within {GRACE_S} s") from None
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        raise CannotMeasure(f"{command[0]}: exit {process.returncode}: {said.strip()[-400:]}")
    return found


def python_profile(
    spy: str, leader: ServerProcess, concurrency: int, seconds: float, scratch: Path
) -> tuple[Profile, Counter[str], float]:
    """Return the profile, each thread's microseconds a put, and puts/s meanwhile."""
    out, revision = scratch / "stacks", leader.client.revision()
    before = thread_times_s(leader.pid)
    command = [
        *(spy, "record", "--format=raw", "--threads", f"--rate={SAMPLES_PER_S}"),
        *(f"--duration={max(1, round(seconds))}", f"--pid={leader.pid}", f"--output={out}"),
    ]
    found = while_loaded(command, leader, concurrency, seconds)
    after = thread_times_s(leader.pid)
    puts = leader.client.revision() - revision
    if not puts or not out.exists():
        raise CannotMeasure("nothing was put, or py-spy wrote nothing")
    us = {thread: 1e6 * (s - before.get(thread, 0.0)) / puts for thread, s in after.items()}
    samples = list(samples_in(out.read_text(), product_line))
    names = {sample.thread: sample.thread_name for sample in samples}
    threads: Counter[str] = Counter()
    for thread, spent in us.items():
        threads[names.get(thread, "not of Python")] += spent  # type: ignore[assignment]
    return profile_of(samples, us), threads, found["per_s"]


def machine_code(
    leader: ServerProcess, concurrency: int, seconds: float, scratch: Path
) -> list[tuple[str, float]]:
    """Return the share of each shared library in percent; raise CannotMeasure without perf."""
    if shutil.which("perf") is None:
        raise CannotMeasure("perf is not installed (Debian: apt install linux-perf)")
    data = scratch / "perf.data"
    record = [
        *("perf", "record", "--event=cpu-clock", f"--freq={PERF_SAMPLES_PER_S}"),
        *(f"--output={data}", f"--pid={leader.pid}", "--", "sleep", str(seconds)),
    ]
    while_loaded(record, leader, concurrency, seconds)
    done = subprocess.run(
        ["perf", "report", f"--input={data}", "--stdio", "--no-children", "--sort=dso"],
        capture_output=True,
        text=True,
        check=False,
        timeout=GRACE_S,
    )
    shares = shares_in_perf(done.stdout)
    if not shares:
        raise CannotMeasure(f"perf: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    return shares


def table(title: str, own: Counter[Any], whole: Counter[Any], rows: int) -> list[str]:
    """Return a Markdown table of the largest of ``own``, with ``whole`` beside it."""
    total: Any = sum(own.values()) or 1.0
    lines = [f"| {title} | own % | own us a put | with what it calls % |", "|---|---|---|---|"]
    lines += [
        f"| {item} | {100 * us / total:.1f} | {us:.1f} | {100 * whole[item] / total:.1f} |"
        for item, us in own.most_common(rows)
    ]
    return [*lines, ""]


def short_table(title: str, us_of: Iterable[tuple[Any, float]], total: float) -> list[str]:
    """Return a Markdown table of microseconds a put and their share of ``total``."""
    lines = [f"| {title} | % | us a put |", "|---|---|---|"]
    lines += [f"| {item} | {100 * us / total:.1f} | {us:.1f} |" for item, us in us_of]
    return [*lines, ""]


def of_the_product(profile: Profile) -> list[tuple[Frame, float]]:
    """Return the product's functions by their time with all they call, the largest first."""
    return [
        (frame, us)
        for frame, us in profile.whole_functions.most_common()
        if frame.file.startswith(PRODUCT) and not frame.file.startswith(PRODUCT + "cli/")
    ]


def profiled(product: Product, concurrency: int, seconds: float, rows: int) -> str:
    """Return a Markdown report on the leader of three members under ``concurrency`` puts.

    Raises CannotMeasure without py-spy; without perf the report says what is missing.
    """
    spy = tools()
    with tempfile.TemporaryDirectory(prefix="profile-") as directory, Cluster(product) as cluster:
        cluster.start()
        members, scratch = leader_first(cluster), Path(directory)
        leader = members[0]
        fill(leader.client)
        load([leader], "put", WARM_UP_CALLS, WARM_UP_S)
        before = counters.read(cluster, leader)
        plain = load([leader], "put", concurrency, seconds)
        after = counters.read(cluster, leader)
        pids = list(cluster.pids().values())
        costs = counters.costs(before, after, plain["done"], "put", pids)
        profile, threads, watched_per_s = python_profile(spy, leader, concurrency, seconds, scratch)
        try:
            shares = machine_code(leader, concurrency, seconds, scratch)
        except CannotMeasure as error:
            shares, why = [], f"By library: {error}."
    figures = (
        f"{plain['per_s']:,.0f} puts/s without a profiler, {watched_per_s:,.0f} with py-spy."
        f" Without one: {1e3 * costs['leader_cpu_s_per_1000']:.0f} us of the leader's processor a"
        f" put, {1e3 * costs['cpu_s_per_1000']:.0f} us of all three members; other processes took"
        f" {costs['others_cpu_percent']} % of the machine. The tables are of the load under py-spy."
    )
    lines = [f"# Profile of the leader at c={concurrency}", "", figures, ""]
    total: Any = sum(threads.values()) or 1.0
    lines += short_table("thread", threads.most_common(rows), total)
    lines += table("package", profile.own_packages, profile.whole_packages, rows)
    lines += table("function", profile.own_functions, profile.whole_functions, rows)
    lines += short_table("function, with what it calls", of_the_product(profile)[:rows], total)
    if shares:
        lines += ["| machine code of (perf) | % |", "|---|---|"]
        lines += [f"| {name} | {share:.1f} |" for name, share in shares[:rows]]
    else:
        lines.append(why)
    return "\n".join(lines) + "\n"

"""What the bench reads from tools and the kernel, and that nothing becomes a made-up zero."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench import counters, h2load
from bench.counters import Reading, Socket
from bench.failures import CannotMeasure
from bench.load import summary
from bench.measure import spread
from bench.scenarios import attempt, check_perf_verdicts
from bench.wire import METHODS, request
from tests.kit.processes import ServerProcess

H2LOAD_OUTPUT = """\
finished in 1.50s, 5304.67 req/s, 352.30KB/s
requests: 4 total, 7973 started, 4 done, 3 succeeded, 0 failed, 1 errored, 0 timeout
traffic: 528.45KB (541129) total, 15.55KB (15926) headers (space savings 94.73%), 90B (90) data
"""
H2LOAD_LOG = "1000\t200\t1730\n1001\t200\t3148\n1002\t200\t900\n1003\t-1\t5\n"
SS_OUTPUT = """\
0      44    127.0.0.1:42204   127.0.0.1:29962 timer:(on,200ms,0) ino:11 sk:1 cgroup:/ <->
\t ts sack bbr bytes_sent:42958 bytes_acked:42915 bytes_received:144 segs_out:1083
0      0     127.0.0.1:29962   127.0.0.1:42204 ino:12 sk:2 cgroup:/ <->
\t ts sack bbr bytes_received:42915 segs_out:1
"""


def member(answer: bytes = b"") -> ServerProcess:
    client = SimpleNamespace(raw=lambda path, message: answer)
    address = SimpleNamespace(client="127.0.0.1:1")
    return cast("ServerProcess", SimpleNamespace(name="n1", client=client, address=address))


def reading(**changes: Any) -> Reading:
    values: dict[str, Any] = {
        "at_s": 0.0,
        "members_cpu_s": 0.0,
        "leader_cpu_s": 0.0,
        "machine_cpu_s": 0.0,
        "own_cpu_s": 0.0,
        "disk_bytes": 0,
        "peers": {},
        "leader_inodes": frozenset({11}),
        "revision": 1,
    }
    return Reading(**(values | changes))


def peers(*sockets: Socket) -> dict[tuple[tuple[str, str], int], Socket]:
    return {(socket.ends, socket.inode): socket for socket in sockets}


def test_h2loads_answers_and_times_are_read() -> None:
    seen = h2load.parsed(H2LOAD_OUTPUT, H2LOAD_LOG)
    assert seen == h2load.Seen(1.5, 4, 1, 90, [0.00173, 0.003148, 0.0009])


def test_h2load_without_a_result_is_a_failure() -> None:
    with pytest.raises(CannotMeasure, match="Could not connect"):
        h2load.parsed("Could not connect to host", "")


def test_a_missing_h2load_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure, match="nghttp2-client"):
        h2load.run([member()], "put", 1, 0.1)


def test_a_missing_ss_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotMeasure, match="iproute2"):
        counters.read_peer_sockets([1])


def test_reads_that_brought_trailers_only_are_errors_though_http_says_200() -> None:
    message = request("range", b"k", b"")
    answered = h2load.Seen(1.0, done=100, not_2xx=0, answer_bytes=100 * 300, latencies_s=[])
    assert h2load.unanswered(member(b"x" * 295), "range", message, answered) == 0
    some = h2load.Seen(1.0, done=100, not_2xx=0, answer_bytes=60 * 300, latencies_s=[])
    assert h2load.unanswered(member(b"x" * 295), "range", message, some) == 40


def test_streams_are_spread_with_the_leader_first() -> None:
    members = [member(), member(), member()]
    assert [width for _, width in spread(members, 16)] == [6, 5, 5]
    assert spread(members, 1) == [(members[0], 1)]


def test_h2loads_command_asks_for_one_connection_with_many_streams() -> None:
    command = h2load.command(member(), "range", 22, 2.5, Path("scratch"))
    assert "--clients=1" in command
    assert "--max-concurrent-streams=22" in command
    assert "--duration=2500ms" in command
    assert command[-1] == "http://127.0.0.1:1" + METHODS["range"]


def test_peer_sockets_are_read_with_an_end_that_sent_nothing() -> None:
    assert counters.peer_sockets(SS_OUTPUT) == [
        Socket(("127.0.0.1:42204", "127.0.0.1:29962"), 11, 42958),
        Socket(("127.0.0.1:29962", "127.0.0.1:42204"), 12, 0),
    ]


def test_peer_bytes_are_what_was_sent_since_and_tell_of_ends_that_are_gone() -> None:
    ends, others, gone = ("a", "b"), ("b", "a"), ("c", "d")
    before = reading(peers=peers(Socket(ends, 11, 100), Socket(gone, 13, 7)))
    after = reading(peers=peers(Socket(ends, 11, 400), Socket(others, 12, 50)))
    assert counters.peer_bytes(before, after) == (350, 300, 1)


def test_the_disks_sectors_are_found_by_the_devices_number() -> None:
    table = "   7 0 loop0 0 0 0 0 0 0 0\n 254 0 vda 1 2 3 4 5 6 10 8 9\n"
    assert counters.disk_bytes_written(table, os.makedev(254, 0)) == 5120
    assert counters.disk_bytes_written(table, os.makedev(8, 1)) is None


def test_costs_of_puts_are_per_revision_and_reads_per_answer() -> None:
    before = reading()
    after = reading(
        at_s=10.0, members_cpu_s=2.0, leader_cpu_s=1.0, machine_cpu_s=4.0, own_cpu_s=1.0,
        disk_bytes=3000, revision=1001,
    )  # fmt: skip
    puts = counters.costs(before, after, 900, "put", [])
    assert (puts["cpu_s_per_1000"], puts["leader_cpu_s_per_1000"]) == (2.0, 1.0)
    assert puts["disk_bytes_per_call"] == 3.0
    assert puts["others_cpu_percent"] == round(100 * 1.0 / (10.0 * (os.cpu_count() or 1)), 1)
    assert counters.costs(before, after, 500, "range", [])["cpu_s_per_1000"] == 4.0


def test_a_load_that_nobody_answered_has_no_costs() -> None:
    with pytest.raises(CannotMeasure):
        counters.costs(reading(), reading(), 0, "range", [])
    with pytest.raises(CannotMeasure):
        counters.costs(reading(), reading(), 10, "put", [])


def test_no_disk_counter_gives_no_disk_figure() -> None:
    after = reading(at_s=1.0, disk_bytes=None, revision=2)
    assert counters.costs(reading(), after, 1, "put", [])["disk_bytes_per_call"] is None


def test_latencies_of_nothing_are_no_zeros() -> None:
    found = summary([], 3, 1.0)
    assert (found["p50_ms"], found["p99_ms"], found["errors"]) == (None, None, 3)


def test_check_perf_is_read_whether_it_passed_or_not() -> None:
    passed = check_perf_verdicts(
        "\r 10%\rPASS: Throughput is 150 writes/s\nPASS: Slowest request took 0.055s\n"
    )
    assert (passed["per_s"], passed["slowest_s"]) == (150, 0.055)
    failed = check_perf_verdicts(
        "FAIL: Throughput too low: 2707 writes/s\nSlowest request took too long: 1.25s\n"
    )
    assert (failed["per_s"], failed["slowest_s"]) == (2707, 1.25)
    assert check_perf_verdicts("Error: context deadline exceeded")["per_s"] is None


def test_a_failing_server_is_recorded_with_its_reason() -> None:
    def fails() -> dict[str, Any]:
        raise ConnectionRefusedError("nobody listens")

    assert attempt(fails) == {"failed": "ConnectionRefusedError: nobody listens"}

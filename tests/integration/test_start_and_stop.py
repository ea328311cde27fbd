"""Starting, being refused, stopping and starting again, as an operator sees it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from tests.kit.processes import Cluster, ServerProcess, run
from tests.kit.products import Dqlite, under_test

pytestmark = pytest.mark.process

STOP_WITHIN_S = 5.0
COLD_START_WITHIN_S = 1.5
REFUSED, WRONG_USAGE = 1, 2


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    if under_test().name != "dqlite":
        pytest.skip("about this project's own command line")
    with Cluster(Dqlite()) as unstarted:
        yield unstarted


def refusal_of(command: list[str]) -> str:
    """Run a server that must refuse to start; return its one line that says why."""
    done = run(command, timeout_s=20.0)
    output = done.stdout + done.stderr
    assert done.returncode == REFUSED, f"exit {done.returncode}: {output}"
    assert "Traceback" not in output, output
    lines = [line for line in output.splitlines() if line.startswith("dqlite-py:")]
    assert len(lines) == 1, output
    assert output.splitlines()[-1] == lines[0], output
    return lines[0]


def command_with(server: ServerProcess, **flags: str) -> list[str]:
    """Return the server's command line with some flags given another value."""
    changed = list(server.command)
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        at = next(i for i, part in enumerate(changed) if part.startswith(flag + "="))
        changed[at] = f"{flag}={value}"
    return changed


def test_a_lone_server_serves_soon_and_keeps_its_data_over_a_stop(cluster: Cluster) -> None:
    server = cluster.members[0]
    server.start(wait=False)
    took_s = server.wait_ready()
    print(f"cold start: {took_s:.2f} s")
    server.client.put(b"k", b"v")
    assert server.terminate(STOP_WITHIN_S) == 0
    server.start()
    assert server.client.get(b"k") == b"v"
    server.kill()
    server.start()
    assert server.client.get(b"k") == b"v"


def test_three_servers_stop_on_request_and_start_with_the_same_command_lines(
    cluster: Cluster,
) -> None:
    cluster.start()
    cluster.members[0].client.put(b"k", b"v")
    leader = cluster.wait_leader()
    assert leader.terminate(STOP_WITHIN_S) == 0
    others = cluster.running()
    cluster.wait_leader(others, timeout_s=5.0)
    assert others[0].client.get(b"k") == b"v"
    leader.start()
    cluster.wait_leader()
    for member in cluster.members:
        assert member.terminate(STOP_WITHIN_S) == 0
    for member in cluster.members:
        member.start(wait=False)
    for member in cluster.members:
        member.wait_ready()
    assert cluster.members[2].client.get(b"k") == b"v"
    assert len(cluster.members[1].client.members().members) == len(cluster.members)


def test_a_wrong_token_is_refused(cluster: Cluster) -> None:
    first, second, third = cluster.members
    first.start()
    assert "token" in refusal_of(command_with(second, token="not-the-token"))
    # Nothing was left behind that would keep the right token from working.
    second.start()
    third.start()
    assert len(first.client.members().members) == len(cluster.members)


def test_a_data_directory_in_use_is_refused(cluster: Cluster) -> None:
    first, second, _ = cluster.members
    first.start()
    directory = str(first.address.data_dir)
    assert directory in refusal_of(command_with(second, data_dir=directory))
    first.client.put(b"k", b"v")


def test_a_port_in_use_is_refused(cluster: Cluster) -> None:
    first, second, _ = cluster.members
    first.start()
    for flag, port in (
        ("listen_client_urls", first.address.client_port),
        ("listen_peer_urls", first.address.real_peer_port),
        ("listen_metrics_urls", first.address.metrics_port),
    ):
        lone = dataclasses.replace(
            second.address, directory=second.address.directory.with_name(flag)
        )
        command = Dqlite().command(lone, [lone], cluster.options, "secret")
        moved = ServerProcess(lone, command)
        line = refusal_of(command_with(moved, **{flag: f"http://127.0.0.1:{port}"}))
        assert str(port) in line, (flag, line)
    first.client.put(b"k", b"v")


def test_a_server_to_join_that_is_not_there_is_refused(cluster: Cluster) -> None:
    first, second, _ = cluster.members
    assert str(first.address.client_port) in refusal_of(second.command)


def test_wrong_usage_has_its_own_exit_code(cluster: Cluster) -> None:
    done = run([*cluster.members[0].command, "--no-such-flag=1"])
    assert done.returncode == WRONG_USAGE
    assert "no-such-flag" in done.stderr

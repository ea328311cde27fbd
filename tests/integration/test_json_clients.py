"""JSON clients of a server process: sizes, streams that are left, and the server's end."""

from __future__ import annotations

import base64
import http.client
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.kit.processes import Cluster, ServerProcess, eventually
from tests.kit.products import Dqlite

pytestmark = pytest.mark.process

TIMEOUT_S = 20.0
MIB = 1024 * 1024
WATCH_ALL = b'{"create_request":{"key":"AA==","range_end":"AA=="}}'


class Stream:
    """One request on a connection of its own, and its answer as it comes."""

    def __init__(self, member: ServerProcess, path: str, body: bytes) -> None:
        self._connection = http.client.HTTPConnection(member.address.client, timeout=TIMEOUT_S)
        self._connection.request("POST", f"/v3/{path}", body)
        self.answer = self._connection.getresponse()

    def line(self) -> Any:
        return json.loads(self.answer.readline())["result"]

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


@pytest.fixture
def member() -> Iterator[ServerProcess]:
    with Cluster(Dqlite(), 1) as cluster:
        yield cluster.start().members[0]


def ask(member: ServerProcess, path: str, **fields: Any) -> tuple[int, Any]:
    with closing(Stream(member, path, json.dumps(fields).encode())) as stream:
        return stream.answer.status, json.loads(stream.answer.read())


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def figure(member: ServerProcess, name: str) -> float:
    with urllib.request.urlopen(f"http://{member.address.client}/metrics") as response:
        text = response.read().decode()
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_values_up_to_the_limit_pass_and_larger_ones_are_refused_as_by_etcd(
    member: ServerProcess,
) -> None:
    value = bytes(range(256)) * 4096  # 1 MiB
    assert ask(member, "kv/put", key=encoded(b"k"), value=encoded(value))[0] == 200
    _, answer = ask(member, "kv/range", key=encoded(b"k"))
    assert base64.b64decode(answer["kvs"][0]["value"]) == value
    status, answer = ask(member, "kv/put", key=encoded(b"k"), value=encoded(b"x" * (7 * MIB // 4)))
    assert (status, answer["message"]) == (400, "etcdserver: request is too large")
    status, answer = ask(member, "kv/put", key=encoded(b"k"), value=encoded(b"x" * (5 * MIB // 2)))
    assert (status, answer["code"]) == (429, 8)


def test_a_watch_that_its_client_leaves_is_forgotten(member: ServerProcess) -> None:
    streams = [Stream(member, "watch", WATCH_ALL) for _ in range(20)]
    for stream in streams:
        assert stream.line()["created"]
    assert figure(member, "etcd_debugging_mvcc_watch_stream_total") == 20
    ask(member, "kv/put", key=encoded(b"k"))
    for stream in streams:
        [event] = stream.line()["events"]
        assert event["kv"]["key"] == encoded(b"k")
        stream.close()
    eventually(
        lambda: figure(member, "etcd_debugging_mvcc_watch_stream_total") == 0,
        "the server forgets the watches",
    )


def test_a_client_that_does_not_read_disturbs_nobody(member: ServerProcess) -> None:
    with closing(Stream(member, "watch", WATCH_ALL)) as idle:
        for _ in range(40):
            status, _ = ask(member, "kv/put", key=encoded(b"k"), value=encoded(b"x" * 300_000))
            assert status == 200
        # 12 MB of events are not kept for it, but it gets them all when it reads.
        assert figure(member, "dqlite_watch_queued_bytes") < 8 * MIB
        assert idle.line()["created"]
        events: list[Any] = []
        while len(events) < 40:
            events += idle.line()["events"]
        versions = [int(event["kv"]["version"]) for event in events]
    assert versions == list(range(1, 41))


def test_a_server_that_stops_breaks_streams_off_and_ends_in_time(member: ServerProcess) -> None:
    with closing(Stream(member, "watch", WATCH_ALL)) as stream:
        assert stream.line()["created"]
        assert member.terminate() == 0
        try:
            rest = stream.answer.read()
        except (http.client.IncompleteRead, ConnectionError):
            return  # broken off
    # Ended by the server's own word, which is an error.
    assert json.loads(rest)["error"]["message"] == "etcdserver: server stopped"

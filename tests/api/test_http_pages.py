"""The HTTP side, spoken to over real sockets with bytes and with the standard library's client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from dqlite_py.api.http import HttpServer
from dqlite_py.api.pages import Pages
from dqlite_py.api.web import WebApp
from dqlite_py.errors import LeaderChanged, ReadInterrupted, StartRefused
from dqlite_py.metrics import CONTENT_TYPE, Metrics
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.fake_replica import FakeReplica

TIMEOUT_S = 5.0


class Store:
    revision = 5

    def __init__(self) -> None:
        self.alarms: frozenset[tuple[int, int]] = frozenset()


class Site:
    """One running HTTP server."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.tasks = tasks
        self.replica = FakeReplica()
        self.store = Store()
        self.metrics = Metrics()
        self.failures: list[tuple[str, str]] = []
        self.port = 0
        pages = Pages(
            self.replica, self.store, self.metrics.exposition, metrics_type=CONTENT_TYPE
        ).table()
        self.server = HttpServer(
            WebApp({**pages, "/broken": self._broken}),
            lambda path, error: self.failures.append((path, repr(error))),
        )

    async def _broken(self, query: object) -> object:
        raise ValueError("secret")

    async def exchange(self, data: bytes) -> bytes:
        """Send bytes, return all that comes back until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        async with asyncio.timeout(TIMEOUT_S):
            answer = await reader.read()
        writer.close()
        return answer

    async def get(self, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        request = f"{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        head, _, body = (await self.exchange(request.encode())).partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in rest)
        return int(first.split()[1]), headers, body


def serving(scenario: Callable[[Site], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            site = Site(tasks)
            [site.port] = await site.server.start(["127.0.0.1:0"], tasks)
            await scenario(site)
            await site.server.stop()

    asyncio.run(main())


def test_a_member_with_a_leader_is_healthy() -> None:
    async def scenario(site: Site) -> None:
        status, headers, body = await site.get("/health")
        assert (status, body) == (200, b'{"health":"true","reason":""}')
        assert headers["content-type"] == "application/json"
        assert site.replica.calls == [("barrier",)]

    serving(scenario)


def test_without_a_leader_only_the_local_check_is_healthy() -> None:
    async def scenario(site: Site) -> None:
        site.replica.leader_id = 0
        status, _, body = await site.get("/health")
        assert (status, body) == (503, b'{"health":"false","reason":"RAFT NO LEADER"}')
        status, _, body = await site.get("/health?serializable=true")
        assert (status, json.loads(body)["health"]) == (200, "true")

    serving(scenario)


def test_a_failing_quorum_read_is_named() -> None:
    async def scenario(site: Site) -> None:
        site.replica.barrier_error = LeaderChanged()
        status, _, body = await site.get("/health")
        assert status == 503
        assert json.loads(body)["reason"] == "RANGE ERROR:etcdserver: leader changed"
        status, _, body = await site.get("/readyz")
        assert status == 503
        assert b"[-]linearizable_read failed: etcdserver: leader changed" in body
        assert (await site.get("/livez"))[::2] == (200, b"ok\n")

    serving(scenario)


def test_each_check_has_a_path_of_its_own() -> None:
    async def scenario(site: Site) -> None:
        site.replica.barrier_error = LeaderChanged()
        assert (await site.get("/readyz/serializable_read"))[::2] == (200, b"ok\n")
        status, _, body = await site.get("/readyz/linearizable_read")
        failed = b"[-]linearizable_read failed: etcdserver: leader changed\n\n"
        assert (status, body) == (503, failed)
        assert (await site.get("/livez/linearizable_read"))[0] == 404
        assert (await site.get("/readyz?exclude=linearizable_read&exclude=unknown"))[0] == 200

    serving(scenario)


def test_verbose_lists_the_checks_that_ran() -> None:
    async def scenario(site: Site) -> None:
        _, headers, body = await site.get("/readyz?verbose&exclude=data_corruption")
        assert body.decode().splitlines() == [
            "[+]serializable_read ok",
            "[+]linearizable_read ok",
            "[+]non_learner ok",
            "ok",
        ]
        assert headers["x-content-type-options"] == "nosniff"
        _, _, body = await site.get("/livez/serializable_read?verbose")
        assert body == b"[+]serializable_read ok\nok\n"

    serving(scenario)


def test_a_learner_is_alive_but_not_ready() -> None:
    async def scenario(site: Site) -> None:
        site.replica.is_learner = True
        assert (await site.get("/livez"))[0] == 200
        status, _, body = await site.get("/readyz")
        assert status == 503
        assert b"[-]non_learner failed: not supported for learner\n" in body

    serving(scenario)


def test_an_alarm_is_bad_health_unless_excluded() -> None:
    async def scenario(site: Site) -> None:
        site.store.alarms = frozenset({(11, rpc.NOSPACE)})
        status, _, body = await site.get("/health")
        assert (status, json.loads(body)["reason"]) == (503, "ALARM NOSPACE")
        assert (await site.get("/health?exclude=NOSPACE"))[0] == 200
        site.store.alarms = frozenset({(11, rpc.CORRUPT)})
        assert (await site.get("/readyz"))[0] == 503
        status, _, body = await site.get("/readyz?exclude=data_corruption&verbose")
        assert status == 200
        assert body.splitlines()[-1] == b"ok"

    serving(scenario)


def test_the_version_is_plain_numbers() -> None:
    async def scenario(site: Site) -> None:
        _, _, body = await site.get("/version")
        versions = json.loads(body)
        assert set(versions) == {"etcdserver", "etcdcluster", "storage"}
        for version in versions.values():
            assert len([int(part) for part in version.split(".")]) == 3

    serving(scenario)


def unknown() -> float:
    raise ReadInterrupted


def test_metrics_show_what_is_bound_and_what_was_counted() -> None:
    async def scenario(site: Site) -> None:
        site.metrics.sample("etcd_server_has_leader", lambda: 1)
        site.metrics.sample("etcd_server_proposals_committed_total", lambda: 7)
        site.metrics.sample("etcd_server_leader_changes_seen_total", lambda: 2)
        site.metrics.sample("etcd_mvcc_db_total_size_in_bytes", unknown)
        site.metrics.wal_fsync_s.observe(0.003)
        for _ in range(3):
            site.metrics.call_handled("unary", "/etcdserverpb.KV/Range", "NOT_FOUND")
        _, headers, body = await site.get("/metrics")
        assert headers["content-type"].startswith("text/plain")
        lines = body.decode().splitlines()
        assert "etcd_server_has_leader 1.0" in lines
        assert "etcd_server_proposals_committed_total 7.0" in lines
        assert "etcd_server_leader_changes_seen_total 2.0" in lines
        assert 'etcd_disk_wal_fsync_duration_seconds_bucket{le="0.004"} 1.0' in lines
        labels = 'grpc_code="NotFound",grpc_method="Range",grpc_service="etcdserverpb.KV"'
        assert f'grpc_server_handled_total{{{labels},grpc_type="unary"}} 3.0' in lines
        assert not any("etcd_mvcc_db_total_size" in line for line in lines)
        assert not any("_created" in line for line in lines)

    serving(scenario)


def test_unknown_paths_methods_and_bad_requests_are_refused() -> None:
    async def scenario(site: Site) -> None:
        assert (await site.get("/nothing"))[0] == 404
        assert (await site.get("/health", "POST"))[0] == 405
        assert (await site.exchange(b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
        endless = b"GET /health HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 20_000
        assert (await site.exchange(endless)).startswith(b"HTTP/1.1 431")

    serving(scenario)


def test_a_page_that_fails_says_so_to_the_operator_only() -> None:
    async def scenario(site: Site) -> None:
        status, _, body = await site.get("/broken")
        assert (status, body) == (500, b"internal error\n")
        assert site.failures == [("/broken", "ValueError('secret')")]

    serving(scenario)


def test_one_connection_carries_several_requests_and_head_has_no_body() -> None:
    async def scenario(site: Site) -> None:
        first = b"HEAD /version HTTP/1.1\r\nhost: x\r\n\r\n"
        last = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        answer = await site.exchange(first + last)
        assert answer.count(b"HTTP/1.1 200") == 2
        assert b"etcdserver" not in answer
        assert answer.endswith(b"ok\n")

    serving(scenario)


def test_a_taken_port_is_refused_in_one_line() -> None:
    async def scenario(site: Site) -> None:
        other = Site(site.tasks)
        with pytest.raises(StartRefused) as caught:
            await other.server.start([f"127.0.0.1:{site.port}"], site.tasks)
        assert str(site.port) in caught.value.reason
        assert "\n" not in caught.value.reason

    serving(scenario)

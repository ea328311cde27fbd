"""Real routes with fake services on a client port, spoken to by grpcio's client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest

from dqlite_py.api import cluster, health, kv, lease, maintenance
from dqlite_py.api.admission import Admission
from dqlite_py.api.header import HeaderFiller
from dqlite_py.api.routes import Call, Route, Send, bidi, table
from dqlite_py.api.serving import ClientServer, Observers
from dqlite_py.api.status import STATUS, Code
from dqlite_py.config import Endpoint
from dqlite_py.errors import DqliteError, LeaseNotFound, StartRefused, StatementFailed
from dqlite_py.http.web import WebRequest, WebResponse
from dqlite_py.pb import health_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.fake_replica import FakeReplica

TIMEOUT_S = 10.0
ANY_PORT = Endpoint("http", "127.0.0.1", 0)
SETTING = "listen-client-urls"


async def no_pages(request: WebRequest, response: WebResponse) -> None:
    raise AssertionError(request.path)


class Services:
    """The key-value and lease services, answering as ``outcome`` says."""

    revision = 5
    alarms = frozenset({(11, rpc.NOSPACE)})

    def __init__(self) -> None:
        self.outcome: Exception | None = None

    def _header(self) -> rpc.ResponseHeader:
        if self.outcome is not None:
            raise self.outcome
        return rpc.ResponseHeader(revision=self.revision)

    async def range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        return rpc.RangeResponse(header=self._header(), count=len(request.key))

    async def put(self, request: rpc.PutRequest) -> rpc.PutResponse:
        return rpc.PutResponse(header=self._header())

    async def delete_range(self, request: rpc.DeleteRangeRequest) -> rpc.DeleteRangeResponse:
        return rpc.DeleteRangeResponse(header=self._header())

    async def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        return rpc.TxnResponse(header=self._header())

    async def compact(self, request: rpc.CompactionRequest) -> rpc.CompactionResponse:
        return rpc.CompactionResponse(header=self._header())

    async def hash_kv(self, request: rpc.HashKVRequest) -> rpc.HashKVResponse:
        return rpc.HashKVResponse(header=self._header(), hash=1)

    async def alarm(self, request: rpc.AlarmRequest) -> rpc.AlarmResponse:
        return rpc.AlarmResponse(header=self._header())

    async def grant(self, request: rpc.LeaseGrantRequest) -> rpc.LeaseGrantResponse:
        return rpc.LeaseGrantResponse(header=self._header(), ID=request.ID, TTL=request.TTL)

    async def revoke(self, request: rpc.LeaseRevokeRequest) -> rpc.LeaseRevokeResponse:
        return rpc.LeaseRevokeResponse(header=self._header())

    async def keep_alive(self, request: rpc.LeaseKeepAliveRequest) -> rpc.LeaseKeepAliveResponse:
        return rpc.LeaseKeepAliveResponse(header=self._header(), ID=request.ID, TTL=9)

    async def time_to_live(
        self, request: rpc.LeaseTimeToLiveRequest
    ) -> rpc.LeaseTimeToLiveResponse:
        return rpc.LeaseTimeToLiveResponse(header=self._header(), ID=request.ID, TTL=-1)

    async def leases(self, request: rpc.LeaseLeasesRequest) -> rpc.LeaseLeasesResponse:
        return rpc.LeaseLeasesResponse(header=self._header())


class Served:
    """One running server and a client channel to it."""

    def __init__(self) -> None:
        self.services = Services()
        self.replica = FakeReplica()
        self.failures: list[tuple[str, str]] = []
        self.handled: list[tuple[str, Code]] = []
        self.cancelled = asyncio.Event()
        self.channel: grpc.aio.Channel

    async def stuck(
        self, requests: AsyncIterator[rpc.WatchRequest], send: Send, call: Call
    ) -> None:
        try:
            async for _ in requests:
                await send(rpc.WatchResponse(created=True).SerializeToString())
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    def routes(self) -> Sequence[Route]:
        headers = HeaderFiller(self.replica)
        return [
            *kv.routes(self.services, headers),
            *lease.routes(self.services, headers),
            *cluster.routes(self.replica, headers),
            *maintenance.routes(
                self.services, self.services, self.replica, headers, quota_bytes=2**31
            ),
            *health.routes(),
            bidi("/etcdserverpb.Watch/Watch", rpc.WatchRequest, rpc.WatchResponse, self.stuck),
        ]

    async def call(self, path: str, request: Any, response: Any, **kwargs: Any) -> Any:
        method = self.channel.unary_unary(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return await method(request, timeout=TIMEOUT_S, **kwargs)

    def stream(self, path: str, response: Any, **kwargs: Any) -> Any:
        method = self.channel.stream_stream(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=response.FromString,
        )
        return method(timeout=TIMEOUT_S, **kwargs)


def served(scenario: Callable[[Served], Awaitable[None]]) -> None:
    """Run ``scenario`` against a server on a loopback port of its own."""

    async def main() -> None:
        world = Served()
        admission = Admission(world.replica, election_timeout_s=0.005)
        server = ClientServer(
            table(admission.guard(world.routes())),
            no_pages,
            Observers(
                failed=lambda path, error: world.failures.append((path, repr(error))),
                handled=lambda route, code: world.handled.append((route.path, code)),
                ended=lambda reason: None,
            ),
            max_request_bytes=1_572_864,
        )
        [port] = await server.start([ANY_PORT], None, SETTING)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            world.channel = channel
            await scenario(world)
        await server.stop(0)

    asyncio.run(main())


PUT = ("/etcdserverpb.KV/Put", rpc.PutRequest(key=b"k"), rpc.PutResponse)
RANGE = ("/etcdserverpb.KV/Range", rpc.RangeRequest(key=b"abc"), rpc.RangeResponse)


async def refused(call: Awaitable[Any]) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, caught.value.details() or ""


def test_answers_carry_ids_and_term_of_the_answering_member() -> None:
    async def scenario(world: Served) -> None:
        response = await world.call(*RANGE)
        assert response.count == 3
        assert response.header == rpc.ResponseHeader(
            cluster_id=22, member_id=11, revision=5, raft_term=3
        )
        assert world.handled == [("/etcdserverpb.KV/Range", Code.OK)]

    served(scenario)


def test_every_error_of_the_table_arrives_with_its_code_and_text() -> None:
    async def scenario(world: Served) -> None:
        for cls, (code, text) in STATUS.items():
            world.services.outcome = cls(**dict.fromkeys(cls.FIELDS, "secret"))
            assert await refused(world.call(*PUT)) == (code.name, text)
        assert world.failures == []

    served(scenario)


def test_an_unknown_error_is_internal_tells_nothing_and_is_reported_once() -> None:
    async def scenario(world: Served) -> None:
        world.services.outcome = ValueError("secret")
        assert await refused(world.call(*PUT)) == ("INTERNAL", "internal error")
        assert world.failures == [("/etcdserverpb.KV/Put", "ValueError('secret')")]

    served(scenario)


def test_methods_that_are_not_in_the_table_are_unimplemented() -> None:
    async def scenario(world: Served) -> None:
        call = world.call(
            "/etcdserverpb.Auth/AuthEnable", rpc.AuthEnableRequest(), rpc.AuthEnableResponse
        )
        assert (await refused(call))[0] == "UNIMPLEMENTED"

    served(scenario)


def test_requests_up_to_two_mebibytes_are_received_and_larger_ones_are_not() -> None:
    async def scenario(world: Served) -> None:
        fits = rpc.PutRequest(key=b"k", value=bytes(2 * 1024 * 1024 - 100))
        await world.call(PUT[0], fits, PUT[2])
        too_large = rpc.PutRequest(key=b"k", value=bytes(2 * 1024 * 1024))
        code, _ = await refused(world.call(PUT[0], too_large, PUT[2]))
        assert code == "RESOURCE_EXHAUSTED"

    served(scenario)


def test_hasleader_is_refused_at_once_without_a_leader() -> None:
    async def scenario(world: Served) -> None:
        world.replica.leader_id = 0
        call = world.call(*RANGE, metadata=(("hasleader", "true"),))
        assert await refused(call) == ("UNAVAILABLE", "etcdserver: no leader")
        assert (await world.call(*RANGE)).count == 3

    served(scenario)


def test_an_open_stream_with_hasleader_ends_after_three_leaderless_timeouts() -> None:
    async def scenario(world: Served) -> None:
        path = "/etcdserverpb.Watch/Watch"
        stream = world.stream(path, rpc.WatchResponse, metadata=(("hasleader", "true"),))
        await stream.write(rpc.WatchRequest())
        assert (await stream.read()).created
        world.replica.leader_id = 0
        assert await refused(stream.read()) == ("UNAVAILABLE", "etcdserver: no leader")
        assert world.handled == [(path, Code.UNAVAILABLE)]

    served(scenario)


def test_a_cancelled_stream_cancels_its_handler() -> None:
    async def scenario(world: Served) -> None:
        stream = world.stream("/etcdserverpb.Watch/Watch", rpc.WatchResponse)
        await stream.write(rpc.WatchRequest())
        await stream.read()
        stream.cancel()
        async with asyncio.timeout(TIMEOUT_S):
            await world.cancelled.wait()

    served(scenario)


def test_a_learner_serves_status_and_serializable_range_only() -> None:
    async def scenario(world: Served) -> None:
        world.replica.is_leader, world.replica.is_learner = False, True
        refusal = ("FAILED_PRECONDITION", "etcdserver: rpc not supported for learner")
        assert await refused(world.call(*RANGE)) == refusal
        assert await refused(world.call(*PUT)) == refusal
        stream = world.stream("/etcdserverpb.Watch/Watch", rpc.WatchResponse)
        assert await refused(stream.read()) == refusal
        local = rpc.RangeRequest(key=b"abc", serializable=True)
        assert (await world.call(RANGE[0], local, RANGE[2])).count == 3
        status = await world.call(
            "/etcdserverpb.Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse
        )
        assert status.isLearner

    served(scenario)


def test_keepalives_are_answered_one_by_one_until_an_error_ends_the_stream() -> None:
    async def scenario(world: Served) -> None:
        stream = world.stream("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
        for lease_id in (4, 5):
            await stream.write(rpc.LeaseKeepAliveRequest(ID=lease_id))
            answer = await stream.read()
            assert (answer.ID, answer.TTL, answer.header.member_id) == (lease_id, 9, 11)
        world.services.outcome = LeaseNotFound()
        await stream.write(rpc.LeaseKeepAliveRequest(ID=6))
        assert await refused(stream.read()) == (
            "NOT_FOUND",
            "etcdserver: requested lease not found",
        )

    served(scenario)


def test_status_names_alarms_and_a_missing_leader() -> None:
    async def scenario(world: Served) -> None:
        world.replica.leader_id = 0
        status = await world.call(
            "/etcdserverpb.Maintenance/Status", rpc.StatusRequest(), rpc.StatusResponse
        )
        assert list(status.errors) == ["memberID:11 alarm:NOSPACE", "etcdserver: no leader"]
        assert (status.version, status.storageVersion) == ("3.6.14", "3.6.0")
        assert (status.raftIndex, status.raftAppliedIndex, status.dbSize) == (8, 7, 8192)
        assert status.HasField("downgradeInfo")

    served(scenario)


@pytest.mark.parametrize("url", ["", "127.0.0.1:1", "http://x", "ftp://x:1", "http://x:1/y"])
def test_members_with_unusable_peer_urls_are_refused(url: str) -> None:
    async def scenario(world: Served) -> None:
        request = rpc.MemberAddRequest(peerURLs=[url] if url else [])
        call = world.call("/etcdserverpb.Cluster/MemberAdd", request, rpc.MemberAddResponse)
        assert await refused(call) == (
            "INVALID_ARGUMENT",
            "etcdserver: given member URLs are invalid",
        )
        assert world.replica.calls == []

    served(scenario)


def test_a_member_is_added_as_learner_and_listed_linearizably() -> None:
    async def scenario(world: Served) -> None:
        request = rpc.MemberAddRequest(peerURLs=["http://127.0.0.1:2390"], isLearner=True)
        added = await world.call("/etcdserverpb.Cluster/MemberAdd", request, rpc.MemberAddResponse)
        assert (added.member.ID, added.member.isLearner, added.header.revision) == (12, True, 0)
        listed = await world.call(
            "/etcdserverpb.Cluster/MemberList",
            rpc.MemberListRequest(linearizable=True),
            rpc.MemberListResponse,
        )
        assert listed.members == added.members
        assert world.replica.calls[-1] == ("barrier",)

    served(scenario)


def test_only_the_leader_moves_leadership() -> None:
    async def scenario(world: Served) -> None:
        path = "/etcdserverpb.Maintenance/MoveLeader"
        request = rpc.MoveLeaderRequest(targetID=12)
        answer = await world.call(path, request, rpc.MoveLeaderResponse)
        assert not answer.HasField("header")
        world.replica.leader_id = 12
        refusal = await refused(world.call(path, request, rpc.MoveLeaderResponse))
        assert refusal == ("FAILED_PRECONDITION", "etcdserver: not leader")
        assert world.replica.calls == [("transfer", 12)]

    served(scenario)


def test_health_is_serving() -> None:
    async def scenario(world: Served) -> None:
        path, answer = "/grpc.health.v1.Health/Check", health_pb2.HealthCheckResponse
        response = await world.call(path, health_pb2.HealthCheckRequest(), answer)
        assert response.status == health_pb2.HealthCheckResponse.SERVING
        unknown = world.call(path, health_pb2.HealthCheckRequest(service="x"), answer)
        assert await refused(unknown) == ("NOT_FOUND", "unknown service")

    served(scenario)


def test_a_second_server_on_the_same_port_is_refused_in_one_line() -> None:
    async def main() -> None:
        observers = Observers(lambda *_: None, lambda *_: None, lambda *_: None)
        first, second = (
            ClientServer({}, no_pages, observers, max_request_bytes=1) for _ in range(2)
        )
        [port] = await first.start([ANY_PORT], None, SETTING)
        with pytest.raises(StartRefused) as caught:
            await second.start([Endpoint("http", "127.0.0.1", port)], None, SETTING)
        assert f"127.0.0.1:{port}" in caught.value.reason
        assert "\n" not in caught.value.reason
        await first.stop(0)

    asyncio.run(main())


def test_the_table_covers_every_error_a_request_can_meet() -> None:
    covered = {cls for cls in DqliteError.registry.values() if set(cls.__mro__) & set(STATUS)}
    requests = [DqliteError.registry[name] for name in ("RequestRefused", "OutcomeUnknown")]
    missing = {
        cls
        for cls in DqliteError.registry.values()
        if any(issubclass(cls, root) and cls is not root for root in requests)
    } - covered
    # SQL of our own that SQLite refuses is a fault of this program: INTERNAL, and reported.
    assert missing == {StatementFailed}

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc.aio
import pytest

from dqlite_py.cluster.join import JoinRequest
from dqlite_py.cluster.join_client import CHALLENGE_METHOD, REDEEM_METHOD, join
from dqlite_py.cluster.join_service import JoinService
from dqlite_py.cluster.tokens import Token
from dqlite_py.errors import AuthenticationFailed, ConnectionLost, StartRefused, TooManyLearners
from dqlite_py.pb import join_pb2
from tests.kit.member_list_replica import MemberListReplica

TOKEN = Token.parse("open-sesame")
REQUEST = JoinRequest("n2", ("http://127.0.0.1:11",), ("http://127.0.0.1:12",))


class StoppedClock:
    def now_s(self) -> float:
        return 0.0

    def wall_s(self) -> float:
        return 0.0


def service(replica: Any) -> JoinService:
    return JoinService(replica, TOKEN, StoppedClock(), secrets.token_bytes)


@asynccontextmanager
async def served(challenge: Any, redeem: Any) -> AsyncIterator[str]:
    """Serve two handlers on a free loopback port; give the URL."""

    def method(handler: Any, request_type: Any) -> grpc.RpcMethodHandler:
        async def answer(request: Any, context: Any) -> Any:
            try:
                return await handler(request)
            except AuthenticationFailed:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request_type.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    handlers = {
        CHALLENGE_METHOD.rpartition("/")[2]: method(challenge, join_pb2.ChallengeRequest),
        REDEEM_METHOD.rpartition("/")[2]: method(redeem, join_pb2.RedeemRequest),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("dqlite.v1.Join", handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def join_through(replica: Any, request: JoinRequest = REQUEST, token: Token = TOKEN) -> Any:
    member = service(replica)
    async with served(member.challenge, member.redeem) as url:
        return await join(url, token, request, secrets.token_bytes, timeout_s=5.0)


def test_a_joiner_becomes_a_learner_and_learns_the_members() -> None:
    leader = MemberListReplica()
    answer = asyncio.run(join_through(leader))
    assert (answer.cluster_id, answer.member_id) == (99, 2)
    assert [one.name for one in answer.members] == ["n1", "n2"]
    assert answer.members[1].is_learner
    assert leader.token_ids == [TOKEN.id]
    assert leader.barriers == 1


def test_any_member_lets_in_because_the_leader_decides() -> None:
    leader = MemberListReplica()
    follower = MemberListReplica(member_id=3, leader=leader)
    service(leader)
    answer = asyncio.run(join_through(follower))
    assert answer.member_id == 2
    assert len(leader.records) == 2
    assert len(follower.records) == 1


def test_joining_twice_gives_the_same_id() -> None:
    leader = MemberListReplica()
    first = asyncio.run(join_through(leader))
    second = asyncio.run(join_through(leader))
    assert first.member_id == second.member_id
    assert len(leader.records) == 2


def test_a_member_that_has_run_is_refused() -> None:
    leader = MemberListReplica()
    asyncio.run(join_through(leader))
    leader.records[1] = replace(leader.records[1], client_urls=REQUEST.client_urls)
    with pytest.raises(StartRefused, match="member remove 2"):
        asyncio.run(join_through(leader))


def test_what_passes_is_tried_again() -> None:
    leader = MemberListReplica()
    leader.raised = [TooManyLearners(), ConnectionLost()]
    assert asyncio.run(join_through(leader)).member_id == 2


def test_a_wrong_token_is_refused_at_once() -> None:
    leader = MemberListReplica()
    with pytest.raises(StartRefused, match="does not accept this token"):
        asyncio.run(join_through(leader, token=Token.parse("wrong-token")))
    assert len(leader.records) == 1


def test_a_server_without_the_secret_gains_nothing() -> None:
    asked: list[Any] = []

    async def challenge(request: Any) -> Any:
        return join_pb2.ChallengeResponse(
            version=1, server_nonce=b"s" * 32, cluster_id=1, member_id=1, proof=b"p" * 32
        )

    async def redeem(request: Any) -> Any:
        asked.append(request)
        return join_pb2.RedeemResponse()

    async def attempt() -> None:
        async with served(challenge, redeem) as url:
            await join(url, TOKEN, REQUEST, secrets.token_bytes, timeout_s=5.0)

    with pytest.raises(StartRefused, match="does not know this token"):
        asyncio.run(attempt())
    assert asked == []


def test_a_recorded_redeem_is_worth_nothing() -> None:
    leader = MemberListReplica()
    member = service(leader)
    seen: list[Any] = []

    async def redeem(request: Any) -> Any:
        seen.append(request)
        return await member.redeem(request)

    async def attempt() -> None:
        async with served(member.challenge, redeem) as url:
            await join(url, TOKEN, REQUEST, secrets.token_bytes, timeout_s=5.0)
        leader.records = leader.records[:1]  # the member was removed since
        await member.redeem(seen[0])

    with pytest.raises(AuthenticationFailed):
        asyncio.run(attempt())
    assert len(leader.records) == 1


def test_the_secret_and_its_key_never_travel() -> None:
    leader = MemberListReplica()
    member = service(leader)
    wire: list[bytes] = []

    def recorded(handler: Any) -> Any:
        async def record(request: Any) -> Any:
            response = await handler(request)
            wire.extend([request.SerializeToString(), response.SerializeToString()])
            return response

        return record

    async def attempt() -> None:
        async with served(recorded(member.challenge), recorded(member.redeem)) as url:
            await join(url, TOKEN, REQUEST, secrets.token_bytes, timeout_s=5.0)

    asyncio.run(attempt())
    everything = b"".join(wire)
    assert len(wire) == 4
    assert TOKEN.text.encode() not in everything
    assert TOKEN.key not in everything


def test_nobody_at_the_url_is_one_line_after_the_timeout() -> None:
    async def attempt() -> None:
        await join("http://127.0.0.1:1", TOKEN, REQUEST, secrets.token_bytes, timeout_s=0.3)

    with pytest.raises(StartRefused, match="could not join through") as refused:
        asyncio.run(attempt())
    assert "\n" not in refused.value.reason

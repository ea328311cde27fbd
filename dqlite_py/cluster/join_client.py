"""The joiner's side of joining, over gRPC to any member's client URL."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc.aio

from dqlite_py.cluster.join import NONCE_BYTES, VERSION, JoinAnswer, JoinRequest, Nonces, prover
from dqlite_py.cluster.join_messages import member_from_pb
from dqlite_py.cluster.join_trust import establish
from dqlite_py.cluster.tokens import Token
from dqlite_py.config import Endpoint
from dqlite_py.errors import AuthenticationFailed, StartRefused
from dqlite_py.pb import join_pb2
from dqlite_py.system.tls.contexts import TlsFiles

log = logging.getLogger(__name__)

CHALLENGE_METHOD = "/dqlite.v1.Join/Challenge"
REDEEM_METHOD = "/dqlite.v1.Join/Redeem"
CALL_TIMEOUT_S = 12.0  # longer than the leader may take to admit
JOIN_TIMEOUT_S = 15.0
RETRY_S = 0.25
NO_FILES = TlsFiles()
# A server that has not started, or has no leader, yet.
PASSING_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def join(
    url: str,
    token: Token,
    request: JoinRequest,
    random_bytes: Callable[[int], bytes],
    timeout_s: float = JOIN_TIMEOUT_S,
    own: TlsFiles = NO_FILES,
) -> JoinAnswer:
    """Become a member of the cluster of the server at ``url``; return its ids and members.

    Asks again, within ``timeout_s``, while the server or its cluster is not ready. ``random_bytes``
    must be fit for secrets. ``own`` is what is shown to a server under TLS, and the authorities
    that it is verified with unless the token pins one. Raises StartRefused saying why not; nothing
    has been stored then, and joining again is safe.
    """
    reason = told = "no answer"
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                answer, reason = await _attempt(url, token, request, random_bytes, own)
                if answer is not None:
                    return answer
                if reason != told:
                    log.info("not joined yet", extra={"server": url, "reason": reason})
                told = reason
                await asyncio.sleep(RETRY_S)
    except TimeoutError:
        raise StartRefused(
            reason=f"could not join through {url} within {timeout_s:g} s: {reason}"
        ) from None


async def _attempt(
    url: str,
    token: Token,
    request: JoinRequest,
    random_bytes: Callable[[int], bytes],
    own: TlsFiles,
) -> tuple[JoinAnswer | None, str]:
    """Try once; return the answer, or None and why it is worth trying again."""
    try:
        opened = await _channel(Endpoint.parse("server", url), token, own)
    except OSError as error:  # nobody listens yet
        return None, error.strerror or str(error)
    async with opened as channel:
        try:
            answer = await exchange(channel, token, request, random_bytes(NONCE_BYTES))
        except grpc.aio.AioRpcError as error:
            if error.code() in PASSING_CODES:
                return None, error.details() or error.code().name
            raise StartRefused(reason=_refused_call(url, error)) from None
        except AuthenticationFailed as error:
            raise StartRefused(reason=f"could not join through {url}: {error.detail}") from None
    if answer.refusal and answer.retry:
        return None, answer.refusal
    if answer.refusal:
        raise StartRefused(reason=f"the cluster at {url} refuses: {answer.refusal}")
    return answer, ""


async def _channel(endpoint: Endpoint, token: Token, own: TlsFiles) -> grpc.aio.Channel:
    """Return a channel; under TLS only to a server that has been verified."""
    if not endpoint.secure:
        if token.authority_sha256:
            raise StartRefused(
                reason=f"the token pins a certificate authority; use https:// instead of {endpoint}"
            )
        return grpc.aio.insecure_channel(endpoint.address)
    trust = await establish(endpoint, token, own)
    return grpc.aio.secure_channel(endpoint.address, trust.credentials())


async def exchange(
    channel: grpc.aio.Channel, token: Token, request: JoinRequest, client_nonce: bytes
) -> JoinAnswer:
    """Run the protocol once over ``channel``.

    Raises AuthenticationFailed when the server does not prove that it knows the token, and
    AioRpcError when it can not be reached or refuses the joiner's proof.
    """
    challenge: join_pb2.ChallengeResponse = await _unary(
        channel, CHALLENGE_METHOD, join_pb2.ChallengeResponse
    )(
        join_pb2.ChallengeRequest(version=VERSION, client_nonce=client_nonce, token_id=token.id),
        timeout=CALL_TIMEOUT_S,
    )
    nonces = Nonces(client_nonce, challenge.server_nonce)
    proofs = prover(token, challenge.cluster_id, challenge.member_id)
    proofs.check_challenge(nonces, challenge.proof)
    response: join_pb2.RedeemResponse = await _unary(
        channel, REDEEM_METHOD, join_pb2.RedeemResponse
    )(
        join_pb2.RedeemRequest(
            version=VERSION,
            client_nonce=client_nonce,
            server_nonce=challenge.server_nonce,
            name=request.name,
            peer_urls=request.peer_urls,
            client_urls=request.client_urls,
            proof=proofs.redeem_proof(nonces, request),
        ),
        timeout=CALL_TIMEOUT_S,
    )
    answer = JoinAnswer(
        response.cluster_id,
        response.member_id,
        tuple(member_from_pb(member) for member in response.members),
        response.refusal,
        response.retry,
    )
    proofs.check_answer(nonces, request, answer, response.proof)
    return answer


def _unary(channel: grpc.aio.Channel, method: str, response_type: Any) -> Any:
    return channel.unary_unary(
        method,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response_type.FromString,
    )


def _refused_call(url: str, error: grpc.aio.AioRpcError) -> str:
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return f"the server at {url} does not accept this token"
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return f"the server at {url} does not let servers join; is it a dqlite-py server?"
    return f"could not join through {url}: {error.details()}"

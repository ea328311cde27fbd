"""The member's side of joining: checks proofs, lets the leader decide, proves the answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgpack

from dqlite_py.cluster.admission import Admit, Refuse, Resume, decide
from dqlite_py.cluster.join import (
    NONCE_BYTES,
    VERSION,
    JoinAnswer,
    JoinRequest,
    Nonces,
    PendingChallenges,
    Prover,
    check_shape,
    prover,
)
from dqlite_py.cluster.join_messages import member_from_list, member_to_list, member_to_pb
from dqlite_py.cluster.tokens import Token
from dqlite_py.errors import (
    AuthenticationFailed,
    ConfChangeInProgress,
    DqliteError,
    MemberNotEnoughStarted,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    PeerUnreachable,
    RequestRefused,
    TooManyLearners,
    TooManyRequests,
    UnhealthyCluster,
)
from dqlite_py.node.contract import ReplicaPort
from dqlite_py.pb import join_pb2
from dqlite_py.seams import Clock

log = logging.getLogger(__name__)

ADMIT_CALL = "cluster.admit"
ADMIT_TIMEOUT_S = 10.0
# What hinders a membership change for a while; any other refusal needs the operator.
PASSING: dict[type[DqliteError], str] = {
    NoLeader: "the cluster has no leader",
    NotLeader: "leadership is moving",
    PeerUnreachable: "the leader can not be reached",
    ConfChangeInProgress: "another membership change is in progress",
    TooManyLearners: "another new member has not caught up yet",
    UnhealthyCluster: "too few members are healthy",
    MemberNotEnoughStarted: "too few members have started",
    TooManyRequests: "the cluster is overloaded",
}


class JoinService:
    """Serves ``dqlite.v1.Join`` on any member; admission itself runs on the leader, one at a time.

    ``random_bytes`` must be fit for secrets (``secrets.token_bytes``).
    """

    def __init__(
        self,
        replica: ReplicaPort,
        token: Token,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._replica = replica
        self._token = token
        self._clock = clock
        self._random_bytes = random_bytes
        self._pending = PendingChallenges()
        self._admitting = asyncio.Lock()
        replica.register_call(ADMIT_CALL, self._on_admit)

    async def challenge(
        self, request: join_pb2.ChallengeRequest, _call: object = None
    ) -> join_pb2.ChallengeResponse:
        """Answer a challenge; raise AuthenticationFailed for an unknown token or version."""
        if request.version != VERSION:
            raise AuthenticationFailed(detail=f"join protocol {request.version} is not known here")
        if request.token_id != self._token.id:
            raise AuthenticationFailed(detail="unknown token")
        nonces = Nonces(request.client_nonce, self._random_bytes(NONCE_BYTES))
        self._pending.issue(nonces, self._clock.now_s())
        return join_pb2.ChallengeResponse(
            version=VERSION,
            server_nonce=nonces.server,
            cluster_id=self._replica.cluster_id,
            member_id=self._replica.member_id,
            proof=self._prover().challenge_proof(nonces),
        )

    async def redeem(
        self, request: join_pb2.RedeemRequest, _call: object = None
    ) -> join_pb2.RedeemResponse:
        """Make the joiner a learner, or say why not, under proof.

        The answer leaves after the membership change is committed. Raises AuthenticationFailed when
        the joiner does not prove that it knows the token.
        """
        nonces = Nonces(request.client_nonce, request.server_nonce)
        asked = JoinRequest(request.name, tuple(request.peer_urls), tuple(request.client_urls))
        self._prover().check_redeem(nonces, asked, request.proof)
        self._pending.redeem(nonces, self._clock.now_s())
        answer = await self._admit(asked)
        log.info(
            "join request answered",
            extra={
                "joiner": asked.name,
                "joiner_id": f"{answer.member_id:x}",
                "refusal": answer.refusal,
            },
        )
        return join_pb2.RedeemResponse(
            cluster_id=answer.cluster_id,
            member_id=answer.member_id,
            members=[member_to_pb(member) for member in answer.members],
            refusal=answer.refusal,
            retry=answer.retry,
            proof=self._prover().answer_proof(nonces, asked, answer),
        )

    def _prover(self) -> Prover:
        return prover(self._token, self._replica.cluster_id, self._replica.member_id)

    async def _admit(self, asked: JoinRequest) -> JoinAnswer:
        if malformed := check_shape(asked):
            return self._refused(malformed, retry=False)
        payload = msgpack.packb([asked.name, asked.peer_urls, asked.client_urls])
        try:
            data = await self._replica.call_leader(ADMIT_CALL, payload, ADMIT_TIMEOUT_S)
        except (RequestRefused, OutcomeUnknown) as error:
            if isinstance(error, OutcomeUnknown):
                # May be asked again all the same: admission is idempotent.
                return self._refused(f"no answer from the leader: {error}", retry=True)
            passing = PASSING.get(type(error))
            return self._refused(passing or str(error), retry=passing is not None)
        member_id, members, refusal = msgpack.unpackb(data)
        return JoinAnswer(
            self._replica.cluster_id,
            member_id,
            tuple(member_from_list(member) for member in members),
            refusal,
        )

    def _refused(self, reason: str, *, retry: bool) -> JoinAnswer:
        return JoinAnswer(self._replica.cluster_id, 0, (), reason, retry)

    async def _on_admit(self, payload: bytes) -> bytes:
        """(leader) Decide and add; two joiners with one name must not overtake each other."""
        if not self._replica.is_leader:
            raise NotLeader
        name, peer_urls, client_urls = msgpack.unpackb(payload)
        asked = JoinRequest(name, tuple(peer_urls), tuple(client_urls))
        if self._admitting.locked():
            raise ConfChangeInProgress
        async with self._admitting:
            await self._replica.barrier()
            decision = decide(self._replica.members(), asked)
            match decision:
                case Refuse():
                    return _packed(0, [], decision.reason)
                case Resume():
                    member_id = decision.member.id
                case Admit():
                    added = await self._replica.add_member(
                        asked.peer_urls, is_learner=True, name=asked.name, token_id=self._token.id
                    )
                    member_id = added.id
            members = [member_to_list(member) for member in self._replica.members()]
            return _packed(member_id, members, "")


def _packed(member_id: int, members: list[list[Any]], refusal: str) -> bytes:
    data: bytes = msgpack.packb([member_id, members, refusal])
    return data

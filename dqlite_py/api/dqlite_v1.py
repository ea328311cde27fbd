"""This product's own calls beside etcd's: joining, and examining one member's files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dqlite_py.api.routes import Call, Route, unary
from dqlite_py.cluster.join_service import JoinService
from dqlite_py.pb import admin_pb2, join_pb2

JOIN = "/dqlite.v1.Join/"
ADMIN = "/dqlite.v1.Admin/"

# Examines this member's databases, with a checkpoint before it if asked.
Examine = Callable[[bool], Awaitable[admin_pb2.CheckResponse]]


def join_routes(service: JoinService) -> list[Route]:
    """Return the calls by which servers join; a learner serves them too, the leader decides."""
    return [
        unary(
            JOIN + "Challenge",
            join_pb2.ChallengeRequest,
            join_pb2.ChallengeResponse,
            service.challenge,
            learner_serves=_always,
        ),
        unary(
            JOIN + "Redeem",
            join_pb2.RedeemRequest,
            join_pb2.RedeemResponse,
            service.redeem,
            learner_serves=_always,
        ),
    ]


def admin_routes(examine: Examine) -> list[Route]:
    """Return the calls that examine this member."""

    async def check(request: admin_pb2.CheckRequest, _call: Call) -> admin_pb2.CheckResponse:
        return await examine(request.checkpoint)

    return [
        unary(
            ADMIN + "Check",
            admin_pb2.CheckRequest,
            admin_pb2.CheckResponse,
            check,
            learner_serves=_always,
        )
    ]


def _always(_request: Any) -> bool:
    return True

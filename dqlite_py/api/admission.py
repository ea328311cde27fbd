"""Checks that apply to every call before its handler runs (etcd behaviour).

The client-api-version metadata must be text; ``hasleader: true`` asks for a member that knows a
leader; a learner serves few calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any

from dqlite_py.api.routes import Call, Kind, Route, Send
from dqlite_py.errors import InvalidClientApiVersion, NoLeader, NotSupportedForLearner
from dqlite_py.node.contract import ReplicaPort

LEADERLESS_CHECKS = 3  # consecutive election timeouts without a leader that end a stream


class Admission:
    """Wraps routes so that their handlers run only for calls that this member may serve."""

    def __init__(self, replica: ReplicaPort, *, election_timeout_s: float) -> None:
        self._replica = replica
        self._election_timeout_s = election_timeout_s

    def guard(self, routes: Iterable[Route]) -> list[Route]:
        """Return the routes with their handlers behind the checks.

        A refused call raises InvalidClientApiVersion, NotSupportedForLearner or NoLeader. A stream
        that asks for a leader is ended with NoLeader once none has been known for three election
        timeouts.
        """
        return [
            replace(
                route,
                handler=self._unary(route) if route.kind is Kind.UNARY else self._stream(route),
            )
            for route in routes
        ]

    def _unary(self, route: Route) -> Callable[[Any, Call], Awaitable[Any]]:
        handler, learner_serves = route.handler, route.learner_serves

        def admitted(request: Any, call: Call) -> Awaitable[Any]:
            if call.metadata:
                self._check_metadata(call)
            replica = self._replica  # a leader is no learner, and knows the former at once
            if not replica.is_leader and replica.is_learner and not learner_serves(request):
                raise NotSupportedForLearner
            return handler(request, call)

        return admitted

    def _stream(self, route: Route) -> Callable[[Any, Send, Call], Awaitable[None]]:
        async def admitted(requests: AsyncIterator[Any] | Any, send: Send, call: Call) -> None:
            self._check_metadata(call)
            if self._replica.is_learner and not route.learner_serves(None):
                raise NotSupportedForLearner
            if _wants_leader(call):
                await self._while_led(route.handler(requests, send, call))
            else:
                await route.handler(requests, send, call)

        return admitted

    def _check_metadata(self, call: Call) -> None:
        version = call.metadata.get("client-api-version", "")
        if isinstance(version, bytes):
            try:
                version.decode()
            except UnicodeDecodeError:
                raise InvalidClientApiVersion from None
        if _wants_leader(call) and self._replica.leader_id == 0:
            raise NoLeader

    async def _while_led(self, handling: Awaitable[None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                watchdog = group.create_task(self._raise_when_leaderless())
                await handling
                watchdog.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _raise_when_leaderless(self) -> None:
        misses = 0
        while misses < LEADERLESS_CHECKS:
            await asyncio.sleep(self._election_timeout_s)
            misses = misses + 1 if self._replica.leader_id == 0 else 0
        raise NoLeader


def _wants_leader(call: Call) -> bool:
    return call.metadata.get("hasleader") == "true"

"""membership: learners come and go in the list of members, which is linearizable.

The learners that clients add never start: they change nobody's quorum, so any number of changes
can be asked for. Voters come and go by the nemesis `member`, not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.checkers.linearizable import check_membership
from jepsen.checkers.result import Result
from jepsen.history import Event, Operation
from jepsen.workloads.session import TIMEOUT_S, Aborted, Answer, Session
from jepsen.workloads.workload import Scale, Workload
from tests.kit.etcd_client import EtcdClient, Refused

OPENING_TRIES_S = 20.0
NOWHERE = "192.0.2."
"""The beginning of addresses that are kept for documentation: nobody is there."""


class Members(Workload):
    """Adding, removing and listing learners that exist by name only."""

    name = "membership"

    def __init__(self, random: Random, scale: Scale) -> None:
        super().__init__(random, scale)
        self._numbers = itertools.count(1)
        self._known: list[str] = []

    def open(self, session: Session) -> None:
        if not session.repeat(lambda: self._list(session) is not None, within_s=OPENING_TRIES_S):
            raise Refused("UNAVAILABLE", "no list of members before the start")

    def step(self, session: Session) -> None:
        kind = session.random.random()
        known = self._known
        if kind < 0.2 and not known:
            number = next(self._numbers)
            _add(session, f"http://{NOWHERE}{1 + number % 250}:{10_000 + number}")
        elif kind < 0.4 and known:
            _remove(session, session.random.choice(known))
        else:
            self._list(session)

    def _list(self, session: Session) -> Answer | None:
        answer = _list(session)
        if answer is not None:
            peers = [member["peer"] for member in answer.value]
            self._known = [peer for peer in peers if peer.startswith(f"http://{NOWHERE}")]
        return answer

    def close(self, session: Session) -> None:
        session.repeat(lambda: self._list(session) is not None, within_s=OPENING_TRIES_S)

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        return [check_membership(operations, time_limit_s=self.scale.check_limit_s)]


def _members(client: EtcdClient) -> Any:
    request = rpc.MemberListRequest(linearizable=True)
    return client.call("MemberList", request, TIMEOUT_S).members


def _list(session: Session) -> Answer | None:
    def call(client: EtcdClient) -> Answer:
        listed = [
            {"peer": ",".join(member.peerURLs), "learner": member.isLearner}
            for member in _members(client)
        ]
        return Answer(listed)

    return session.perform("list", call, reads_only=True)


def _add(session: Session, peer: str) -> None:
    def call(client: EtcdClient) -> Answer:
        request = rpc.MemberAddRequest(peerURLs=[peer], isLearner=True)
        client.call("MemberAdd", request, TIMEOUT_S)
        return Answer({"peer": peer, "learner": True})

    session.perform("add", call, value={"peer": peer, "learner": True})


def _remove(session: Session, peer: str) -> None:
    """Remove by peer URL: a list gives the id, and a member that it does not show is no member."""

    def call(client: EtcdClient) -> Answer:
        try:
            found = [member.ID for member in _members(client) if peer in member.peerURLs]
        except Refused as error:
            raise Aborted(f"not asked for: {error}") from error
        if not found:
            raise Aborted("not a member")
        client.call("MemberRemove", rpc.MemberRemoveRequest(ID=found[0]), TIMEOUT_S)
        return Answer({"peer": peer})

    session.perform("remove", call, value={"peer": peer})

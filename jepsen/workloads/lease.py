"""lease: keys live as long as their lease, never shorter, and are gone when it is."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from random import Random
from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from jepsen.checkers.leases import check_leases
from jepsen.checkers.result import Result
from jepsen.history import Event, Operation
from jepsen.workloads.session import TIMEOUT_S, Answer, Session, kv_json
from jepsen.workloads.workload import Scale, Workload
from tests.kit.etcd_client import EtcdClient

TTLS_S = (2, 3, 5)
KNOWN_LEASES = 12
RECENT_KEYS = 30
OLD_SHARE = 0.3
CLOSING_S = 18.0
CLOSING_KEYS = 100
CLOSING_PAUSE_S = 0.5


class Leases(Workload):
    """Grants, renewals, revocations, keys that hang on leases, and reads of them."""

    name = "lease"

    def __init__(self, random: Random, scale: Scale) -> None:
        super().__init__(random, scale)
        self._ids = itertools.count(random.randrange(1 << 40) + 1)
        self._names = itertools.count()
        self._guard = threading.Lock()
        self._leases: list[int] = []
        self._keys: list[str] = []

    def step(self, session: Session) -> None:
        random = session.random
        with self._guard:
            lease = random.choice(self._leases) if self._leases else None
            old = random.random() < OLD_SHARE
            recent = self._keys if old else self._keys[-RECENT_KEYS:]
            key = random.choice(recent) if recent else None
        kind = random.random()
        if lease is None or kind < 0.12:
            self._grant(session)
        elif kind < 0.35:
            self._put(session, lease)
        elif kind < 0.5:
            _keep_alive(session, lease)
        elif kind < 0.54:
            self._revoke(session, lease)
        elif key is not None:
            _observe(session, key)

    def _grant(self, session: Session) -> None:
        lease, ttl_s = next(self._ids), session.random.choice(TTLS_S)

        def call(client: EtcdClient) -> Answer:
            request = rpc.LeaseGrantRequest(TTL=ttl_s, ID=lease)
            answer = client.call("LeaseGrant", request, TIMEOUT_S)
            return Answer(
                {"id": answer.ID, "ttl_s": answer.TTL}, {"revision": answer.header.revision}
            )

        if session.perform("grant", call, value={"id": lease, "ttl_s": ttl_s}) is not None:
            with self._guard:
                self._leases = [*self._leases[-KNOWN_LEASES + 1 :], lease]

    def _put(self, session: Session, lease: int) -> None:
        key = f"l{next(self._names)}"

        def call(client: EtcdClient) -> Answer:
            answer = client.put(key.encode(), b"x", lease=lease, timeout_s=TIMEOUT_S)
            return Answer({"id": lease, "value": "x"}, {"revision": answer.header.revision})

        session.perform("put", call, key=key, value={"id": lease, "value": "x"})
        with self._guard:
            self._keys.append(key)

    def _revoke(self, session: Session, lease: int) -> None:
        def call(client: EtcdClient) -> Answer:
            answer = client.call("LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease), TIMEOUT_S)
            return Answer({"id": lease}, {"revision": answer.header.revision})

        session.perform("revoke", call, value={"id": lease})

    def close(self, session: Session) -> None:
        """Look at the youngest keys until they are gone, or should long have been."""
        left = self._keys[-CLOSING_KEYS:]

        def look() -> bool:
            for key in list(left):
                answer = _observe(session, key)
                if answer is not None and answer.value is None:
                    left.remove(key)
            session.stopping.wait(CLOSING_PAUSE_S)
            return not left

        session.repeat(look, within_s=CLOSING_S)

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        return [check_leases(operations, events)]


def _keep_alive(session: Session, lease: int) -> None:
    def call(client: EtcdClient) -> Answer:
        answer = client.keep_alive(lease, TIMEOUT_S)
        return Answer({"id": answer.ID, "ttl_s": answer.TTL}, {"revision": answer.header.revision})

    session.perform("keepalive", call, value={"id": lease})


def _observe(session: Session, key: str) -> Answer | None:
    def call(client: EtcdClient) -> Answer:
        answer = client.range(key.encode(), timeout_s=TIMEOUT_S)
        found: Any = kv_json(answer.kvs[0]) if answer.kvs else None
        return Answer(found, {"revision": answer.header.revision})

    return session.perform("observe", call, key=key, reads_only=True)

"""The pages /health, /livez, /readyz, /version and /metrics, as etcd's tools expect them.

Beside them /cacerts, for servers that join.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from dqlite_py.api.maintenance import Committed
from dqlite_py.api.status import status_of
from dqlite_py.api.version import CLUSTER_VERSION, SERVER_VERSION, STORAGE_VERSION
from dqlite_py.api.web import JSON, Answer, Page, Query, refusal
from dqlite_py.errors import DqliteError
from dqlite_py.node.contract import ReplicaPort
from dqlite_py.pb import rpc_pb2 as rpc

CHECK_TIMEOUT_S = 5.0
PEM = "application/x-pem-file"

Check = Callable[[], Awaitable[str]]  # "" when all is well, otherwise what is wrong


class Pages:
    """Health as this member sees it. No page raises; bad health is a 503 with the reason."""

    def __init__(
        self,
        replica: ReplicaPort,
        committed: Committed,
        exposition: Callable[[], bytes],
        *,
        metrics_type: str,
        authority: Callable[[], bytes] = bytes,
    ) -> None:
        self._replica = replica
        self._committed = committed
        self._exposition = exposition
        self._metrics_type = metrics_type
        self._authority = authority

    def table(self) -> dict[str, Page]:
        """Return the pages by path; every check of /livez and /readyz also has its own."""
        local = {"serializable_read": self._local_read}
        cluster: dict[str, Check] = {
            "data_corruption": self._no_corruption,
            **local,
            "linearizable_read": self._linearizable_read,
            "non_learner": self._no_learner,
        }
        return {
            "/health": self._health,
            **_checked("/livez", local),
            **_checked("/readyz", cluster),
            "/version": self._version,
            "/metrics": self._metrics,
            "/cacerts": self._cacerts,
        }

    async def _health(self, query: Query) -> Answer:
        reason = self._alarm(query.get("exclude", ()))
        if not reason and query.get("serializable", [""])[0] == "true":
            reason = _range_error(await self._local_read())
        elif not reason:
            reason = "RAFT NO LEADER" if self._replica.leader_id == 0 else ""
            reason = reason or _range_error(await self._linearizable_read())
        # etcd's shape: the truth as text.
        body = {"health": "false" if reason else "true", "reason": reason}
        text = json.dumps(body, separators=(",", ":")).encode()
        return Answer(text, 503 if reason else 200, JSON)

    async def _version(self, _query: Query) -> Answer:
        versions = {
            "etcdserver": SERVER_VERSION,
            "etcdcluster": CLUSTER_VERSION,
            "storage": STORAGE_VERSION,
        }
        return Answer(json.dumps(versions, separators=(",", ":")).encode(), 200, JSON)

    async def _cacerts(self, _query: Query) -> Answer:
        """Who vouches for this port's certificate: joiners compare it with their token (k3s)."""
        bundle = self._authority()
        if not bundle:
            return refusal(404, "404 page not found")
        return Answer(bundle, 200, PEM)

    async def _metrics(self, _query: Query) -> Answer:
        return Answer(self._exposition(), 200, self._metrics_type)

    def _alarm(self, excluded: object) -> str:
        assert isinstance(excluded, list | tuple)
        for _member, alarm in sorted(self._committed.alarms):
            name = rpc.AlarmType.Name(rpc.AlarmType.ValueType(alarm))
            if name not in excluded:
                return f"ALARM {name}"
        return ""

    async def _no_corruption(self) -> str:
        corrupt = any(alarm == rpc.CORRUPT for _member, alarm in self._committed.alarms)
        return "alarm activated: CORRUPT" if corrupt else ""

    async def _no_learner(self) -> str:
        return "not supported for learner" if self._replica.is_learner else ""

    async def _local_read(self) -> str:
        return await _problem(self._replica.read(lambda _session: None))

    async def _linearizable_read(self) -> str:
        return await _problem(self._replica.barrier())


def _range_error(problem: str) -> str:
    return f"RANGE ERROR:{problem}" if problem else ""


async def _problem(attempt: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await attempt
    except TimeoutError:
        return "context deadline exceeded"
    except DqliteError as error:
        return status_of(error)[1]
    return ""


def _checked(root: str, checks: Mapping[str, Check]) -> dict[str, Page]:
    """Return a page for all of ``checks`` but the excluded, and one for each."""

    async def all_of(query: Query) -> Answer:
        excluded = query.get("exclude", ())  # names that do not exist exclude nothing
        return await _run({name: checks[name] for name in checks if name not in excluded}, query)

    def one(name: str) -> Page:
        return lambda query: _run({name: checks[name]}, query)

    return {root: all_of, **{f"{root}/{name}": one(name) for name in checks}}


async def _run(checks: Mapping[str, Check], query: Query) -> Answer:
    """Run the checks; a failure shows the outcome of each (etcd 3.5.11 and later)."""
    lines, failed = [], False
    for name, check in checks.items():
        problem = await check()
        failed = failed or bool(problem)
        lines.append(f"[-]{name} failed: {problem}\n" if problem else f"[+]{name} ok\n")
    if failed:
        return refusal(503, "".join(lines))
    shown = "".join(lines) if "verbose" in query else ""
    return Answer(f"{shown}ok\n".encode(), headers=(("x-content-type-options", "nosniff"),))

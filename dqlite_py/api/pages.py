"""The pages /health, /livez, /readyz, /version and /metrics, as etcd's tools expect them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping

from dqlite_py.api.http import JSON, Answer, Page, Query
from dqlite_py.api.maintenance import Committed
from dqlite_py.api.status import status_of
from dqlite_py.api.version import CLUSTER_VERSION, SERVER_VERSION, STORAGE_VERSION
from dqlite_py.errors import DqliteError
from dqlite_py.node.contract import ReplicaPort
from dqlite_py.pb import rpc_pb2 as rpc

CHECK_TIMEOUT_S = 5.0

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
    ) -> None:
        self._replica = replica
        self._committed = committed
        self._exposition = exposition
        self._metrics_type = metrics_type

    def table(self) -> dict[str, Page]:
        """Return the pages by path."""
        local = {"serializable_read": self._local_read}
        quorum: dict[str, Check] = {
            "data_corruption": self._no_corruption,
            **local,
            "linearizable_read": self._linearizable_read,
        }
        return {
            "/health": self._health,
            "/livez": lambda query: _checked("livez", local, query),
            "/readyz": lambda query: _checked("readyz", quorum, query),
            "/version": self._version,
            "/metrics": self._metrics,
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
        return "alarm CORRUPT is raised" if corrupt else ""

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


async def _checked(name: str, checks: Mapping[str, Check], query: Query) -> Answer:
    lines, failed = [], False
    for check, run in checks.items():
        if check in query.get("exclude", ()):
            lines.append(f"[+]{check} excluded: ok")
            continue
        problem = await run()
        failed = failed or bool(problem)
        lines.append(f"[-]{check} failed: {problem}" if problem else f"[+]{check} ok")
    if failed:
        return Answer("\n".join([*lines, f"{name} check failed", ""]).encode(), 503)
    shown = [*lines, "ok", ""] if "verbose" in query else ["ok", ""]
    return Answer("\n".join(shown).encode())

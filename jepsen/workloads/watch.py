"""watch: some clients write, others watch from any member and resume where they were."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from jepsen.checkers.result import Result
from jepsen.checkers.watches import check_watches
from jepsen.history import INFO, OK, Event, Operation
from jepsen.workloads.requests import ask_one, ask_txn
from jepsen.workloads.session import Session, kv_json
from jepsen.workloads.workload import Scale, Workload
from tests.kit.etcd_client import Refused

KEYS = [f"w{number}" for number in range(5)]
ALL_KEYS = ("w", "x")
LAST_KEY = "wz"
WATCHERS = 3
WINDOW_S = (0.5, 3.0)
CONVERGE_S = 20.0
COMPACTED_TEXT = "required revision has been compacted"


@dataclass
class Watcher:
    """Where a watcher stands; a new name where it cannot go on without a gap."""

    number: int
    key: str
    range_end: str | None
    prev_kv: bool
    generation: int = 0
    next_revision: int = 1

    @property
    def name(self) -> str:
        """The name in the history."""
        return f"watcher{self.number}.{self.generation}"

    def restart(self, revision: int) -> None:
        """Begin anew at a revision: what lies before is gone."""
        self.generation += 1
        self.next_revision = revision


class Watches(Workload):
    """Sessions 0 to 2 watch, the others write."""

    name = "watch"

    def __init__(self, random: Random, scale: Scale) -> None:
        super().__init__(random, scale)
        self._values = itertools.count(1)
        ranges = [ALL_KEYS, (KEYS[0], None), ALL_KEYS]
        self._watchers = [
            Watcher(number, key, end, prev_kv=number < 2)
            for number, (key, end) in enumerate(ranges)
        ]
        self._behind: list[str] = []

    def step(self, session: Session) -> None:
        if session.number < WATCHERS:
            window_s = session.random.uniform(*WINDOW_S)
            watch_once(session, self._watchers[session.number], window_s)
        else:
            self._write(session)

    def _write(self, session: Session) -> None:
        random = session.random
        kind = random.random()
        if kind < 0.25:
            op: dict[str, Any] = {"op": "delete", "key": random.choice(KEYS), "prev_kv": False}
            if kind < 0.05:
                op["range_end"] = "x"
            session.perform("delete", lambda c: ask_one(c, op), key=op["key"], value=op)
        elif kind < 0.75:
            op = self._put(random.choice(KEYS))
            session.perform("put", lambda c: ask_one(c, op), key=op["key"], value=op)
        else:
            keys = random.sample(KEYS, random.randint(2, 4))
            txn = {"compare": [], "success": [self._put(key) for key in keys], "failure": []}
            session.perform("txn", lambda c: ask_txn(c, txn), value=txn)

    def _put(self, key: str) -> dict[str, Any]:
        return {"op": "put", "key": key, "value": f"v{next(self._values)}", "prev_kv": False}

    def close(self, session: Session) -> None:
        """Write once more, and let every watcher of all keys see it."""
        last = [0]

        def write() -> bool:
            op = self._put(LAST_KEY)
            answer = session.perform("put", lambda c: ask_one(c, op), key=LAST_KEY, value=op)
            if answer is None or answer.extra is None:
                return False
            last[0] = answer.extra["revision"]
            return True

        if not session.repeat(write, within_s=CONVERGE_S):
            self._behind.append("nothing could be written at the end")
            return
        for watcher in self._watchers:
            if watcher.range_end is None:
                continue

            def caught_up(watcher: Watcher = watcher) -> bool:
                watch_once(session, watcher, CONVERGE_S / 4, until=last[0])
                return watcher.next_revision > last[0]

            if not session.repeat(caught_up, within_s=CONVERGE_S):
                self._behind.append(f"{watcher.name} did not see revision {last[0]}")

    def check(self, operations: Sequence[Operation], events: Sequence[Event]) -> list[Result]:
        results = [check_watches(operations, events, time_limit_s=self.scale.check_limit_s)]
        if self._behind:
            results.append(Result("watchers converge", undecided="; ".join(self._behind)))
        return results


def watch_once(session: Session, watcher: Watcher, window_s: float, until: int = 0) -> None:
    """Watch for a while from where the watcher stands; ends early once it saw ``until``."""
    fields = {
        "watcher": watcher.name,
        "key": watcher.key,
        "range_end": watcher.range_end,
        "start_revision": watcher.next_revision,
        "prev_kv": watcher.prev_kv,
        "progress_notify": True,
        "filters": [],
    }
    node = session.pick()
    invocation = session.history.invoke(session.process, "watch", value=fields, node=node.name)
    responses: list[dict[str, Any]] = []
    error: Refused | None = None
    try:
        with session.client(node).watch(timeout_s=window_s) as stream:
            first = stream.watch_key(
                watcher.key.encode(),
                (watcher.range_end or "").encode(),
                start_revision=watcher.next_revision,
                prev_kv=watcher.prev_kv,
                progress_notify=True,
            )
            responses.append(_response(first))
            for answer in stream:
                responses.append(_response(answer))
                if answer.canceled or (until and _newest(responses) >= until):
                    break
    except Refused as refused:
        error = refused
    ended = error is None or error.code == "DEADLINE_EXCEEDED"
    session.history.complete(
        invocation,
        OK if ended else INFO,
        {**fields, "responses": responses},
        error=None if error is None else str(error)[:200],
    )
    if not ended:
        session.renew()
        session.stopping.wait(0.05)
    _advance(watcher, responses)


def _advance(watcher: Watcher, responses: Sequence[dict[str, Any]]) -> None:
    watcher.next_revision = max(watcher.next_revision, _newest(responses) + 1)
    for response in responses:
        if response["kind"] == "canceled" and response["compact_revision"]:
            watcher.restart(response["compact_revision"])


def _newest(responses: Sequence[dict[str, Any]]) -> int:
    """Return the newest revision that the watcher knows itself to have reached."""
    newest = 0
    for response in responses:
        if response["kind"] == "progress":
            newest = max(newest, response["revision"])
        for event in response["events"]:
            newest = max(newest, event["kv"]["mod_revision"])
    return newest


def _response(answer: Any) -> dict[str, Any]:
    if answer.created:
        kind = "created"
    elif answer.canceled:
        kind = "canceled"
    else:
        kind = "events" if answer.events else "progress"
    return {
        "kind": kind,
        "time_ns": time.monotonic_ns(),
        "revision": answer.header.revision,
        "compact_revision": answer.compact_revision,
        "events": [
            {
                "type": "put" if event.type == event.PUT else "delete",
                "kv": kv_json(event.kv),
                "prev_kv": kv_json(event.prev_kv) if event.HasField("prev_kv") else None,
            }
            for event in answer.events
        ],
    }

"""A correct store with concurrent clients, simulated: where the checkers' good histories come from.

Each request takes effect at one moment between its invocation and its completion. Some answers
are lost: such a request takes effect at once, long after, or never. The store here is written
apart from ``jepsen.model``, so that the two can disagree.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from jepsen.history import FAIL, INFO, INVOKE, OK, Event

Answer = tuple[Any, dict[str, Any]]
"""The value of the completion, and its extra."""


@dataclass(frozen=True)
class Ask:
    """What a client asks for, and what the store does when it takes effect."""

    f: str
    value: Any
    effect: Callable[[], Answer]
    key: str | None = None
    extra: dict[str, Any] | None = None


class SmallStore:
    """Keys with etcd's revisions, and every event that ever happened."""

    def __init__(self) -> None:
        self.revision = 1
        self.rows: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self._wrote = False

    def txn(self, compare: list[Any], success: list[Any], failure: list[Any]) -> Answer:
        held = all(self._compare(*comparison) for comparison in compare)
        self._wrote = False
        responses = [self._run(op) for op in (success if held else failure)]
        self.revision += self._wrote
        return {"succeeded": held, "responses": responses}, {"revision": self.revision}

    def _compare(self, key: str, target: str, relation: str, operand: Any) -> bool:
        row = self.rows.get(key)
        if target == "value" and row is None:
            return False
        name = {"value": "value", "mod": "mod_revision", "create": "create_revision"}.get(target)
        actual = (row or {}).get(name or target, 0)
        return {"=": actual == operand, "!=": actual != operand}.get(
            relation, actual < operand if relation == "<" else actual > operand
        )

    def _run(self, op: dict[str, Any]) -> dict[str, Any]:
        if op["op"] == "put":
            return {"prev_kv": self._put(op) if op.get("prev_kv") else (self._put(op), None)[1]}
        names = [op["key"]] if op["key"] in self.rows else []
        if op.get("range_end"):
            names = sorted(name for name in self.rows if op["key"] <= name < op["range_end"])
        if op["op"] == "delete":
            gone = [self.rows.pop(name) for name in names]
            for row in gone:
                self._wrote = True
                kv = {"key": row["key"], "mod_revision": self.revision + 1}
                self.events.append({"type": "delete", "kv": kv, "prev_kv": row})
            return {"deleted": len(gone), "prev_kvs": gone if op.get("prev_kv") else []}
        limit = op.get("limit") or len(names)
        rows = [dict(self.rows[name]) for name in names[:limit]]
        return {"kvs": rows, "count": len(names), "more": len(names) > limit}

    def _put(self, op: dict[str, Any]) -> dict[str, Any] | None:
        self._wrote = True
        before = self.rows.get(op["key"])
        row = {
            "key": op["key"],
            "value": op["value"],
            "create_revision": before["create_revision"] if before else self.revision + 1,
            "mod_revision": self.revision + 1,
            "version": before["version"] + 1 if before else 1,
            "lease": op.get("lease", 0),
        }
        self.rows[op["key"]] = row
        self.events.append({"type": "put", "kv": dict(row), "prev_kv": before})
        return before


@dataclass
class Weather:
    """How often answers are lost and requests refused; times in arbitrary units."""

    unknown: float = 0.05
    refused: float = 0.02
    latency: float = 1.0
    pause: float = 0.5
    late: float = 20.0


class World:
    """Clients on virtual time, each with one request after the other."""

    def __init__(self, rng: random.Random, asks: Iterator[Ask], clients: int, weather: Weather):
        self.events: list[Event] = []
        self._rng = rng
        self._asks = asks
        self._clients = clients
        self._weather = weather
        self._agenda: list[tuple[float, int, Callable[[float], None]]] = []
        self._counter = iter(range(1 << 60))

    def run(self) -> None:
        for client in range(self._clients):
            self._at(self._rng.random(), lambda now, process=client: self._start(now, process))
        while self._agenda:
            moment, _, action = heapq.heappop(self._agenda)
            action(moment)

    def _at(self, moment: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._agenda, (moment, next(self._counter), action))

    def _record(
        self, now: float, kind: str, process: int, ask: Ask, answer: Answer | None = None
    ) -> None:
        value, extra = answer or (ask.value if kind == INVOKE else None, {})
        extra = {**(ask.extra or {}), **extra}
        stamp, index = int(now * 1_000_000), len(self.events)
        self.events.append(
            Event(index, stamp, kind, process, ask.f, ask.key, value, "n1", None, extra)
        )

    def _start(self, now: float, process: int) -> None:
        ask = next(self._asks, None)
        if ask is None:
            return
        weather, draw = self._weather, self._rng.expovariate
        self._record(now, INVOKE, process, ask)
        acts = now + draw(1) * weather.latency
        ends = acts + draw(1) * weather.latency
        following = process
        fate = self._rng.random()
        if fate < weather.refused:
            self._at(ends, lambda then: self._record(then, FAIL, process, ask))
        elif fate < weather.refused + weather.unknown:
            following = process + self._clients
            self._at(ends, lambda then: self._record(then, INFO, process, ask))
            chance = self._rng.random()
            if chance < 0.6:
                delay = 0 if chance < 0.4 else draw(1) * weather.late
                self._at(acts + delay, lambda _: (ask.effect(), None)[1])
        else:
            answer: list[Answer] = []
            self._at(acts, lambda _: answer.append(ask.effect()))
            self._at(ends, lambda then: self._record(then, OK, process, ask, answer[0]))
        self._at(ends + draw(1) * weather.pause, lambda then: self._start(then, following))


def simulate(
    rng: random.Random,
    asks: Iterator[Ask],
    *,
    clients: int = 8,
    weather: Weather | None = None,
) -> list[Event]:
    """Run the requests of ``asks`` from several clients and return what they recorded."""
    world = World(rng, asks, clients, weather or Weather())
    world.run()
    return world.events


def renumber(events: list[Event]) -> list[Event]:
    """Give events the indexes of their places, after a test has edited the list."""
    return [replace(event, index=place) for place, event in enumerate(events)]


def registers(
    rng: random.Random, count: int, *, keys: int = 5, values: int = 5, unique: bool = False
) -> Iterator[Ask]:
    """Reads, writes and swaps of several keys of one store."""
    store = SmallStore()
    fresh = iter(range(1 << 60))

    def value() -> int:
        return next(fresh) if unique else rng.randrange(values)

    for _ in range(count):
        key = f"k{rng.randrange(keys)}"
        kind = rng.random()
        if kind < 0.5:
            yield Ask("read", None, lambda key=key: read_register(store, key), key)
        elif kind < 0.8:
            new = value()
            yield Ask("write", new, lambda key=key, new=new: write_register(store, key, new), key)
        else:
            old, new = rng.randrange(values), value()
            yield Ask("cas", [old, new], lambda k=key, o=old, n=new: swap(store, k, o, n), key)


def read_register(store: SmallStore, key: str) -> Answer:
    row = store.rows.get(key)
    found = {"revision": store.revision, "mod_revision": row["mod_revision"] if row else 0}
    return (row["value"] if row else None), found


def write_register(store: SmallStore, key: str, value: int) -> Answer:
    put = {"op": "put", "key": key, "value": value, "prev_kv": True}
    answer, extra = store.txn([], [put], [])
    return value, {**extra, "prev": answer["responses"][0]["prev_kv"]}


def swap(store: SmallStore, key: str, old: int, new: int) -> Answer:
    put = {"op": "put", "key": key, "value": new}
    answer, extra = store.txn([[key, "value", "=", old]], [put], [])
    return [old, new], {**extra, "succeeded": answer["succeeded"]}


def whole_store(rng: random.Random, count: int, *, keys: int = 8) -> Iterator[Ask]:
    """Puts, ranges, deletes and guarded transactions over one store."""
    store = SmallStore()
    fresh = iter(range(1 << 60))

    def name() -> str:
        return f"k{rng.randrange(keys)}"

    def put() -> dict[str, Any]:
        shows = rng.random() < 0.5
        return {"op": "put", "key": name(), "value": f"v{next(fresh)}", "prev_kv": shows}

    def get() -> dict[str, Any]:
        if rng.random() < 0.5:
            return {"op": "range", "key": name()}
        return {"op": "range", "key": "k", "range_end": "l", "limit": rng.choice([0, 3])}

    for _ in range(count):
        kind = rng.random()
        op = put() if kind < 0.3 else get()
        if 0.6 < kind < 0.7:
            op = {"op": "delete", "key": name(), "prev_kv": True}
        if kind < 0.7:
            effect = lambda op=op: store.txn([], [op], [])  # noqa: E731
            yield Ask(op["op"], op, effect)
            continue
        first, second = rng.sample([f"k{number}" for number in range(keys)], 2)
        ops = [{**put(), "key": first}, {**put(), "key": second}, get()]
        seen = store.rows.get(first, {}).get("mod_revision", 0)
        compare = [[first, "mod", rng.choice(["=", "<", ">"]), seen]]
        request = {"compare": compare, "success": ops, "failure": [get()]}
        yield Ask("txn", request, lambda ask=request: store.txn(*ask.values()))

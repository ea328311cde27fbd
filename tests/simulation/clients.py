"""Clients that do everything at once and judge every answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from dqlite_py.errors import Compacted, FutureRevision, OutcomeUnknown, RequestRefused
from dqlite_py.pb import rpc_pb2 as rpc
from tests.simulation.consensus import require
from tests.simulation.member import Gone, SimServer
from tests.simulation.world import World

KEYS = [f"k{number:02}".encode() for number in range(48)]
_SIZES = (0, 8, 8, 60, 60, 400, 3000)
_CLIENTS = 8
UNKNOWN = (Gone, OutcomeUnknown)


@dataclass(slots=True)
class Asked:
    """One request: when it was sent, and below which revision its answer must not lie."""

    member: SimServer
    floor: int
    started_s: float


class Clients:
    """What all clients of one run know together."""

    def __init__(self, world: World, operations: int, duration_s: float) -> None:
        self.world = world
        self.left = operations
        self.pause_s = duration_s * _CLIENTS / max(operations, 1)
        self.floor = 1  # the newest revision that a finished request has proven
        self.refused: set[bytes] = set()  # values of requests that had no effect, surely
        self._values = 0

    async def run(self) -> None:
        """Work until the operations are used up, or the run has taken far too long."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(_CLIENTS):
                tasks.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        rng = random.Random(f"{self.world.seed}/client/{number}")
        works: list[tuple[Callable[[random.Random], Awaitable[None]], int]] = [
            (self.put, 34),
            (self.compare_and_swap, 16),
            (self.delete, 6),
            (self.delete_interval, 2),
            (self.read_one, 16),
            (self.read_interval, 10),
            (self.read_past, 6),
            (self.read_locally, 10),
            (self.compact, 1),
            (self.burst, 1),
        ]
        choices, weights = zip(*works, strict=True)
        while self.left > 0 and self.world.active:
            self.left -= 1
            self.world.coverage.hit("operations")
            (work,) = rng.choices(choices, weights)
            try:
                await work(rng)
            except UNKNOWN:
                self.world.coverage.hit("operations with unknown outcome")
                await asyncio.sleep(rng.uniform(0, 0.2))
            except RequestRefused:
                await asyncio.sleep(rng.uniform(0, 0.2))
            await asyncio.sleep(rng.uniform(0, self.pause_s))

    # --- how to ask ------------------------------------------------------------------------------
    def member(self, rng: random.Random) -> SimServer:
        members = self.world.answering()
        if not members:
            raise Gone
        return rng.choice(members)

    def _begin(self, member: SimServer) -> Asked:
        return Asked(member, self.floor, asyncio.get_running_loop().time())

    def value(self, rng: random.Random) -> bytes:
        self._values += 1
        return f"{self._values}:".encode() + rng.randbytes(rng.choice(_SIZES))

    def _written(self, asked: Asked, revision: int) -> None:
        """A write was acknowledged: its revision is newer than all that was known before."""
        require(revision > asked.floor, f"a write got {revision} after {asked.floor} was known")
        self.floor = max(self.floor, revision)

    def _was_read(self, asked: Asked, revision: int) -> None:
        """A linearizable answer: not older than what was known when it was asked for."""
        require(
            revision >= asked.floor,
            f"stale: {asked.member.name} answered at {revision}, {asked.floor} was known at "
            f"{asked.started_s:.4f}",
        )
        self.floor = max(self.floor, revision)

    def _reading(self, member: SimServer) -> None:
        self.world.coverage.hit("linearizable reads")
        if member.deposed or self.world.is_cut_off(member):
            self.world.coverage.hit("stale-read attempts")

    # --- writes ----------------------------------------------------------------------------------
    async def put(self, rng: random.Random) -> None:
        await self.put_key(rng, rng.choice(KEYS), 0)

    async def put_key(self, rng: random.Random, key: bytes, lease: int) -> int:
        """Put a value never used before; return its revision."""
        member, value = self.member(rng), self.value(rng)
        asked = self._begin(member)
        request = rpc.PutRequest(key=key, value=value, lease=lease)
        revision = (await self._write(member.kv.put(request), asked, [value])).header.revision
        self._written(asked, revision)
        self.world.history.when_known(revision, lambda: self._check_put(key, value, revision))
        return int(revision)

    async def burst(self, rng: random.Random) -> None:
        """Put so many keys at once that batches overlap and entries hold many requests."""
        count = min(rng.choice((20, 40, 80)), self.left)
        self.left -= count
        self.world.coverage.hit("operations", count)
        puts = [self.put_key(rng, rng.choice(KEYS), 0) for _ in range(count)]
        for result in await asyncio.gather(*puts, return_exceptions=True):
            if isinstance(result, UNKNOWN):
                self.world.coverage.hit("operations with unknown outcome")
            elif isinstance(result, Exception) and not isinstance(result, RequestRefused):
                raise result

    async def _write(self, request: Any, asked: Asked, values: list[bytes]) -> Any:
        """Send a write; what is refused must never take effect."""
        try:
            return await asked.member.ask(request)
        except RequestRefused:
            self.refused.update(values)
            raise

    def _check_put(self, key: bytes, value: bytes, revision: int) -> None:
        found = self.world.history.by_revision.get(revision, [])
        written = [change for change in found if (change.key, change.value) == (key, value)]
        require(len(written) == 1, f"put of {key!r} acknowledged at {revision}, found {found}")

    async def delete(self, rng: random.Random) -> None:
        await self._delete(rng, rng.choice(KEYS), b"")

    async def delete_interval(self, rng: random.Random) -> None:
        start = rng.randrange(len(KEYS) - 4)
        await self._delete(rng, KEYS[start], KEYS[start + 3])

    async def _delete(self, rng: random.Random, key: bytes, end: bytes) -> None:
        member = self.member(rng)
        asked = self._begin(member)
        request = rpc.DeleteRangeRequest(key=key, range_end=end, prev_kv=True)
        response = await member.ask(member.kv.delete_range(request))
        revision = response.header.revision
        if not response.deleted:
            self._was_read(asked, revision)
            before = revision
        else:
            self._written(asked, revision)
            before = revision - 1
        history = self.world.history
        history.when_known(
            revision,
            lambda: history.check_pairs("delete", response.prev_kvs, key, end, before),
        )

    async def compare_and_swap(self, rng: random.Random) -> None:
        """Raise a key from a version known to the history, sometimes an old one."""
        history, key, value = self.world.history, rng.choice(KEYS), self.value(rng)
        other, second = rng.choice([k for k in KEYS if k != key]), self.value(rng)
        guess = history.at(key, max(1, history.revision - rng.choice((0, 0, 0, 0, 20))))
        wanted = guess.revision if guess else 0
        request = rpc.TxnRequest()
        request.compare.add(
            target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, key=key, mod_revision=wanted
        )
        request.success.add(request_put=rpc.PutRequest(key=key, value=value))
        if rng.random() < 0.4:
            request.success.add(request_put=rpc.PutRequest(key=other, value=second))
        request.failure.add(request_range=rpc.RangeRequest(key=key))
        member = self.member(rng)
        asked = self._begin(member)
        response = await self._write(member.kv.txn(request), asked, [value, second])
        revision = response.header.revision
        if response.succeeded:
            self._written(asked, revision)
            history.when_known(revision, lambda: self._check_swap(key, value, wanted, revision))
        else:
            self.refused.update((value, second))
            self._was_read(asked, revision)
            pairs = response.responses[0].response_range.kvs
            history.when_known(revision, lambda: self._check_no_swap(key, wanted, pairs, revision))

    def _check_swap(self, key: bytes, value: bytes, wanted: int, revision: int) -> None:
        before = self.world.history.at(key, revision - 1)
        found = before.revision if before else 0
        require(found == wanted, f"swap of {key!r} at {revision} found {found}, wanted {wanted}")
        self._check_put(key, value, revision)

    def _check_no_swap(self, key: bytes, wanted: int, pairs: Any, revision: int) -> None:
        before = self.world.history.at(key, revision)
        found = before.revision if before else 0
        require(found != wanted, f"swap of {key!r} refused at {revision} though it was {wanted}")
        self.world.history.check_pairs("refused swap", pairs, key, b"", revision)

    async def compact(self, rng: random.Random) -> None:
        history = self.world.history
        wanted = max(1, history.revision - rng.choice((0, 5, 50, 200)))
        history.compact_asked = max(history.compact_asked, wanted)
        member = self.member(rng)
        request = rpc.CompactionRequest(revision=wanted, physical=rng.random() < 0.3)
        try:
            await member.ask(member.kv.compact(request))
        except RequestRefused:
            return  # compacted already, or this member is behind the history
        self.world.coverage.hit("compactions")

    # --- reads -----------------------------------------------------------------------------------
    async def read_one(self, rng: random.Random) -> None:
        await self._read(rng, rng.choice(KEYS), b"")

    async def read_interval(self, rng: random.Random) -> None:
        start = rng.randrange(len(KEYS))
        await self._read(rng, KEYS[start], rng.choice((b"\x00", KEYS[-1], b"l")))

    def _reader(self, rng: random.Random) -> SimServer:
        """Choose whom to read from: gladly one that may be behind without knowing it."""
        doubtful = [m for m in self.world.answering() if m.deposed or self.world.is_cut_off(m)]
        return rng.choice(doubtful) if doubtful and rng.random() < 0.5 else self.member(rng)

    async def _read(self, rng: random.Random, key: bytes, end: bytes) -> None:
        member = self._reader(rng)
        asked = self._begin(member)
        self._reading(member)
        response = await member.ask(member.kv.range(rpc.RangeRequest(key=key, range_end=end)))
        revision = response.header.revision
        self._was_read(asked, revision)
        history = self.world.history
        history.when_known(
            revision, lambda: history.check_pairs("read", response.kvs, key, end, revision)
        )

    async def read_past(self, rng: random.Random) -> None:
        history = self.world.history
        past = max(1, history.revision - rng.randrange(0, 60))
        member = self.member(rng)
        request = rpc.RangeRequest(key=KEYS[0], range_end=b"\x00", revision=past)
        asked = self._begin(member)
        self._reading(member)
        try:
            response = await member.ask(member.kv.range(request))
        except Compacted:
            require(past < history.compact_asked, f"{past} is not compacted")
            return
        except FutureRevision:
            require(past > asked.floor, f"{past} is said to be in the future")
            return
        history.check_pairs("read of the past", response.kvs, KEYS[0], b"\x00", past)

    async def read_locally(self, rng: random.Random) -> None:
        """A serializable read may be old, but never wrong, and never older than the last."""
        member = self.member(rng)
        key = rng.choice(KEYS)
        life, before = member.lives, member.kv.revision
        request = rpc.RangeRequest(key=key, serializable=True)
        response = await member.ask(member.kv.range(request))
        revision = response.header.revision
        self.world.coverage.hit("serializable reads")
        if life == member.lives:
            require(revision >= before, f"{member.name} went back from {before} to {revision}")
        history = self.world.history
        history.when_known(
            revision, lambda: history.check_pairs("local read", response.kvs, key, b"", revision)
        )

    # --- at the end ------------------------------------------------------------------------------
    def check_refused(self) -> None:
        done = self.refused & self.world.history.by_value.keys()
        require(not done, f"refused, yet executed: {sorted(done)[:3]}")

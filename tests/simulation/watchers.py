"""Watch clients that check each response against the history and resume after every failure."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

from dqlite_py.errors import DqliteError
from dqlite_py.pb import rpc_pb2 as rpc
from tests.simulation.clients import KEYS
from tests.simulation.consensus import Violation, require
from tests.simulation.history import Change
from tests.simulation.member import Gone, SimServer
from tests.simulation.world import World

_SILENCE_S = 8.0  # after which a client turns to another member


class Watcher:
    """Watches one interval from one revision on, wherever somebody answers."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.rng = random.Random(f"{world.seed}/watcher/{number}")
        self.name = f"watcher {number}"
        self.next = 0  # the first revision not delivered yet; 0 until it is known
        self.first, self.end = self._interval()
        self.delivered = 0
        self._streams = 0

    def _interval(self) -> tuple[bytes, bytes]:
        start = self.rng.randrange(len(KEYS))
        return self.rng.choice(((b"\x00", b"\x00"), (KEYS[start], b""), (KEYS[start], b"\x00")))

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(self.rng.uniform(0.01, 0.5))
            members = self.world.answering()
            if not members:
                continue
            if self.next == 0:
                history = self.world.history
                oldest = max(history.compact_asked, 2)
                self.next = self.rng.randint(
                    min(oldest, history.revision + 1), history.revision + 1
                )
            try:
                await self._watch(self.rng.choice(members))
            except (Gone, DqliteError):
                continue

    async def _watch(self, member: SimServer) -> None:
        """Stand on one stream until it ends, or at random."""
        self._streams += 1
        if self._streams > 1:
            self.world.coverage.hit("watch resumes")
        request = rpc.WatchCreateRequest(
            key=self.first, range_end=self.end, start_revision=self.next
        )
        heard = asyncio.Event()
        loop = asyncio.get_running_loop()
        leaves_s = loop.time() + self.rng.choice((1.0, 5.0, 30.0))
        stream = loop.create_task(
            member.ask_for_ever(member.hub.watch(_asking(request), self._receiver(heard)))
        )
        try:
            while not stream.done() and loop.time() < leaves_s:
                heard.clear()
                waiting = loop.create_task(heard.wait())
                await asyncio.wait(
                    [stream, waiting], timeout=_SILENCE_S, return_when=asyncio.FIRST_COMPLETED
                )
                waiting.cancel()
                if not heard.is_set():
                    break
        finally:
            stream.cancel()
            await asyncio.wait([stream])
        if not stream.cancelled() and (error := stream.exception()) is not None:
            raise error

    def _receiver(self, heard: asyncio.Event) -> Any:
        pace_s = self.rng.choice((0.0, 0.0, 0.005, 0.2))

        async def receive(data: bytes) -> None:
            if pace_s:
                await asyncio.sleep(self.rng.random() * pace_s)
            heard.set()
            response = rpc.WatchResponse.FromString(data)
            try:
                self._judge(response)
            except Violation as error:
                self.world.violated(f"{self.name}: {error}")

        return receive

    def _judge(self, response: rpc.WatchResponse) -> None:
        if response.canceled:
            require(response.compact_revision > self.next, f"cancelled: {response}")
            require(
                response.compact_revision <= self.world.history.compact_asked,
                f"compacted beyond what was asked: {response}",
            )
            self.next = response.compact_revision
            raise Gone
        if response.created:
            return
        if response.events:
            self._judge_events(response)
        elif response.header.revision >= self.next:
            # A progress notification: nothing up to here is still to come.
            self._expect([], response.header.revision)

    def _judge_events(self, response: rpc.WatchResponse) -> None:
        found = []
        for event in response.events:
            pair = event.kv
            if event.type == event.DELETE:
                found.append(Change(pair.mod_revision, pair.key, None, 0, 0, 0))
            else:
                found.append(
                    Change(
                        pair.mod_revision,
                        pair.key,
                        pair.value,
                        pair.create_revision,
                        pair.version,
                        pair.lease,
                    )
                )
        self._expect(found, found[-1].revision)
        self.delivered += len(found)
        self.world.coverage.hit("watch events", len(found))

    def _expect(self, found: list[Change], last: int) -> None:
        low, self.next = self.next, last + 1
        history = self.world.history

        def check() -> None:
            expected = history.between(self.first, self.end, low, last)
            require(
                found == expected,
                f"{self.name} was sent {_named(found)} for {low}..{last} instead of "
                f"{_named(expected)}",
            )

        history.when_known(last, check)

    def is_complete(self) -> bool:
        """Whether everything in the history has been delivered."""
        history = self.world.history
        return not history.between(self.first, self.end, self.next, history.revision)


def _named(changes: list[Change]) -> str:
    return str([(c.revision, c.key, c.value is None) for c in changes])


async def _asking(request: rpc.WatchCreateRequest) -> AsyncIterator[rpc.WatchRequest]:
    yield rpc.WatchRequest(create_request=request)
    await asyncio.get_running_loop().create_future()

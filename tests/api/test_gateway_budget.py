"""What streams of JSON leave incomplete counts against what all incomplete requests may hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from dqlite_py.http.budget import Budget
from dqlite_py.http.web import BodyUnusable, WebRequest
from tests.api.gateway_site import Site
from tests.kit.fake_transport import settle
from tests.kit.web_client import RecordedAnswer

SIZE_BYTES = 200
BEGUN = b'{"ID":1,"unknown":"' + b"x" * 150


class Stream:
    """A stream of renewals whose pieces the test sends."""

    def __init__(self, site: Site, budget: Budget) -> None:
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.answer = RecordedAnswer()
        request = WebRequest("POST", "/v3/lease/keepalive", "", {}, self._chunks(), budget=budget)
        self.task = asyncio.ensure_future(site.gateway(request, self.answer))

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._pieces.put_nowait(piece)
        await settle()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while piece := await self._pieces.get():
            yield piece


def test_the_oldest_incomplete_object_gives_way() -> None:
    async def scene() -> None:
        site, budget = Site(), Budget(SIZE_BYTES)
        idle, busy = Stream(site, budget), Stream(site, budget)
        await idle.say(BEGUN)
        assert budget.left_bytes == SIZE_BYTES - len(BEGUN)
        await busy.say(BEGUN, b'"}', b"")
        await busy.task
        assert busy.answer.status == 200
        assert budget.left_bytes == SIZE_BYTES
        await idle.say(b'"}')
        with pytest.raises(BodyUnusable):
            await idle.task

    asyncio.run(scene())


def test_whole_objects_hold_nothing() -> None:
    async def scene() -> None:
        budget = Budget(SIZE_BYTES)
        stream = Stream(Site(), budget)
        for _ in range(20):
            await stream.say(b'{"ID":1}{"ID":2', b"}")
        assert budget.left_bytes == SIZE_BYTES
        await stream.say(b"")
        await stream.task
        assert len(stream.answer.body.splitlines()) == 40

    asyncio.run(scene())

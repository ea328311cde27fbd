"""The bounded queue of serialised responses on their way to one client."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

MOST_RESPONSES = 1024


class Outbox:
    """First in, first out; ``limit_bytes`` tells its share of memory and may change at any time.

    It always takes one response when it is empty, however large. What must not be lost (answers to
    the client's own requests) is put without asking for room; ``room`` holds such requests back.
    """

    def __init__(self, limit_bytes: Callable[[], int], drained: Callable[[], None]) -> None:
        self._limit_bytes = limit_bytes
        self._drained = drained  # called when there is room again
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._full = False
        self._wanted_bytes = 0  # the largest offer turned down since there was room
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._failure: Exception | None = None

    @property
    def queued_bytes(self) -> int:
        """Bytes put and not yet taken by the transport."""
        return self._bytes

    @property
    def has_room(self) -> bool:
        """Whether offers may succeed; once full, the queue must be half empty first."""
        return not self._full

    def put(self, response: bytes) -> None:
        """Queue a response."""
        self._queue.append(response)
        self._bytes += len(response)
        self._wake.set()
        if self._bytes >= self._limit_bytes() or len(self._queue) >= MOST_RESPONSES:
            self._fill()

    def offer(self, responses: list[bytes]) -> bool:
        """Queue all of ``responses`` or, if there is no room, none; return whether they were."""
        size = sum(map(len, responses))
        if self._full or (self._queue and self._bytes + size > self._limit_bytes()):
            self._wanted_bytes = max(self._wanted_bytes, size)
            self._fill()
            return False
        for response in responses:
            self.put(response)
        return True

    def fail(self, error: Exception) -> None:
        """Make ``send_all`` raise ``error``."""
        self._failure = self._failure or error
        self._wake.set()

    async def room(self) -> None:
        """Return when the queue has room."""
        await self._room.wait()

    async def send_all(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        """Send what is queued, in order, for ever; raise what ``fail`` was given."""
        while True:
            while self._queue and self._failure is None:
                # It counts as queued until the transport has taken it.
                await send(self._queue[0])
                self._bytes -= len(self._queue.popleft())
                self._empty()
            if self._failure is not None:
                raise self._failure
            self._wake.clear()
            await self._wake.wait()

    def _fill(self) -> None:
        self._full = True
        self._room.clear()

    def _empty(self) -> None:
        if not self._full:
            return
        room_bytes = min(self._limit_bytes() // 2, self._limit_bytes() - self._wanted_bytes)
        if not self._queue or (
            self._bytes <= room_bytes and len(self._queue) <= MOST_RESPONSES // 2
        ):
            self._full = False
            self._wanted_bytes = 0
            self._room.set()
            self._drained()

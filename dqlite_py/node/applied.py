"""Who waits for which log index to become visible here."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable


class AppliedIndex:
    """The last index whose effect readers see, and those who wait for it to move."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._sequence = 0
        self._waiters: list[tuple[int, int, Callable[[], None]]] = []

    def advance(self, index: int) -> None:
        """Move forward to ``index`` and call those who waited for it, in order."""
        assert index >= self.index, (index, self.index)
        self.index = index
        while self._waiters and self._waiters[0][0] <= index:
            heapq.heappop(self._waiters)[2]()

    def when(self, index: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` as soon as ``index`` is applied; at once if it is."""
        if index <= self.index:
            callback()
            return
        self._sequence += 1
        heapq.heappush(self._waiters, (index, self._sequence, callback))

    async def wait(self, index: int) -> None:
        """Return when ``index`` is applied."""
        if index <= self.index:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.when(index, lambda: None if future.done() else future.set_result(None))
        await future

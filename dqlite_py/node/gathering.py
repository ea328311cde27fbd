"""When queued commands do better to wait for others and share an entry.

Every entry costs the whole cluster messages and disk writes, whatever its size. On top of an
uncommitted batch only many commands are worth one. With nothing below, those whom the last batch
answered are about to come again, so a short moment collects most of them. A client that is alone,
or one of a few, never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dqlite_py.node.limits import ReplicaLimits

_GATHER_FROM = 8  # commands in a usual batch from which on waiting for more pays
# How much of the usual size each smaller batch leaves. Slow, because a smaller size is waited for
# less and would make itself come true.
_FADING = 0.995
# A crowd of which less than this part came in a moment of waiting has gone: whoever is left should
# wait a few times more, not hundreds of times.
_GONE = 4


class Gathering:
    """Decides for one pipeline. Event loop only."""

    def __init__(self, limits: ReplicaLimits, pump: Callable[[], None]) -> None:
        """``pump`` is called when the moment of waiting is over."""
        self._limits = limits
        self._pump = pump
        self._usual_size = 0.0  # commands in the largest of the latest batches, fading
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def took(self, commands: int) -> None:
        """A batch of so many commands is being executed: its moment is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._usual_size = max(commands, self._usual_size * _FADING)

    def waits(self, commands: int, *, on_top: bool) -> bool:
        """Whether ``commands`` queued ones wait; ``on_top`` of a batch that is not committed."""
        enough = self._limits.overlap_commands_min
        if on_top:
            return commands < enough
        if self._over:
            self._over = False
            if commands * _GONE < self._usual_size:
                self._usual_size /= 2
            return False
        if self._usual_size < _GATHER_FROM:
            return False
        if commands >= min(self._usual_size, enough):
            return False
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limits.gather_s, self._end)
        return True

    def _end(self) -> None:
        self._timer = None
        self._over = True
        self._pump()

"""Linearizable reads on any member: batched ReadIndex rounds (Raft dissertation section 6.4).

All readers that arrive while a round is under way join the next one, because a round answers only
for what was acknowledged before it began. A lost round (leader changed, message dropped) is begun
again with a new context; the reads have not run yet, so repeating is safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from dqlite_py.errors import RequestTimeout
from dqlite_py.seams import Clock

_RETRY_S = 0.5

Done = Callable[[Exception | None], None]


@dataclass(slots=True, eq=False)
class _Round:
    context: bytes
    begun_s: float
    readers: list[tuple[float, Done]] = field(default_factory=list)


class ReadBarrier:
    """Joins readers into rounds. Event loop only."""

    def __init__(
        self,
        clock: Clock,
        *,
        prefix: bytes,
        timeout_s: float,
        begin: Callable[[bytes], None],
        when_applied: Callable[[int, Callable[[], None]], None],
    ) -> None:
        """``prefix`` makes contexts unique among members and process lives."""
        self._clock = clock
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._begin = begin
        self._when_applied = when_applied
        self._sequence = 0
        self._waiting: list[tuple[float, Done]] = []
        self._round: _Round | None = None
        self._confirmed: list[_Round] = []  # by the leader, but not applied here yet
        self._scheduled = False

    def join(self, done: Done) -> None:
        """Call ``done(None)`` once a round begun after now is confirmed and applied here.

        ``done(RequestTimeout())`` if that takes longer than the request timeout.
        """
        self._waiting.append((self._clock.now_s() + self._timeout_s, done))
        if self._round is None and not self._scheduled:
            # Everything that arrives in this turn of the event loop shares the round.
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start)

    async def wait(self) -> None:
        """Coroutine form of ``join``."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.join(done)
        await future

    def _start(self) -> None:
        self._scheduled = False
        if self._round is not None or not self._waiting:
            return
        readers, self._waiting = self._waiting, []
        self._send(readers)

    def _send(self, readers: list[tuple[float, Done]]) -> None:
        self._sequence += 1
        context = self._prefix + self._sequence.to_bytes(8, "big")
        self._round = _Round(context, self._clock.now_s(), readers)
        self._begin(context)

    def confirmed(self, context: bytes, index: int) -> None:
        """A ReadState came out of the core."""
        current = self._round
        if current is None or current.context != context:
            return  # an abandoned round
        self._round = None
        self._confirmed.append(current)

        def applied() -> None:
            self._confirmed.remove(current)
            for _, done in current.readers:
                done(None)

        self._when_applied(index, applied)
        self._start()

    def restart(self) -> None:
        """Leadership moved: an unconfirmed round may never be answered; begin it anew."""
        if self._round is not None:
            self._send(self._round.readers)

    def check(self) -> None:
        """Expire readers and repeat an unanswered round; called a few times a second."""
        now_s = self._clock.now_s()
        self._waiting = _expire(self._waiting, now_s)
        for confirmed in self._confirmed:
            confirmed.readers = _expire(confirmed.readers, now_s)
        current = self._round
        if current is None:
            return
        current.readers = _expire(current.readers, now_s)
        if now_s - current.begun_s >= _RETRY_S:
            if current.readers or self._waiting:
                readers, self._waiting = current.readers + self._waiting, []
                self._send(readers)
            else:
                self._round = None

    def fail(self, error: Exception) -> None:
        """The replica stops: answer everybody."""
        readers = self._waiting + (self._round.readers if self._round else [])
        for confirmed in self._confirmed:
            readers += confirmed.readers
            confirmed.readers = []
        self._waiting = []
        self._round = None
        for _, done in readers:
            done(error)


def _expire(readers: list[tuple[float, Done]], now_s: float) -> list[tuple[float, Done]]:
    kept = []
    for deadline_s, done in readers:
        if deadline_s < now_s:
            done(RequestTimeout())
        else:
            kept.append((deadline_s, done))
    return kept

"""Calls under way to one peer: their futures, deadlines and outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dqlite_py.errors import (
    ConnectionLost,
    DqliteError,
    PeerUnreachable,
    RequestTimeout,
    TooManyRequests,
)
from dqlite_py.seams import Clock


class PendingCall:
    """One call: ``sent`` decides whether a failure leaves its outcome unknown."""

    __slots__ = ("call_id", "deadline_s", "future", "sent")

    def __init__(self, call_id: int, deadline_s: float, future: asyncio.Future[bytes]) -> None:
        self.call_id = call_id
        self.deadline_s = deadline_s
        self.future = future
        self.sent = False


class CallTable:
    """The calls to one peer that have no outcome yet.

    One timer looks through all deadlines while there are any, because a timer for each call costs
    more than the rest of the call.
    """

    def __init__(self, clock: Clock, limit: int, timer_s: float) -> None:
        self._clock = clock
        self._limit = limit
        self._timer_s = timer_s
        self._calls: dict[int, PendingCall] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._calls)

    def open(self, timeout_s: float) -> PendingCall:
        """Register a call; raise TooManyRequests at the limit."""
        if len(self._calls) >= self._limit:
            raise TooManyRequests
        loop = asyncio.get_running_loop()
        self._last_id += 1
        call = PendingCall(self._last_id, self._clock.now_s() + timeout_s, loop.create_future())
        self._calls[call.call_id] = call
        if self._timer is None:
            self._timer = loop.call_later(self._timer_s, self._expire)
        return call

    def forget(self, call: PendingCall) -> None:
        """Drop a call whose caller is no longer interested; harmless when it is settled."""
        self._calls.pop(call.call_id, None)

    def answer(self, call_id: int, payload: bytes) -> None:
        """Settle a call with its answer; one that nobody waits for any more is ignored."""
        call = self._calls.pop(call_id, None)
        if call is not None and not call.future.done():
            call.future.set_result(payload)

    def fail(self, call_id: int, error: DqliteError) -> None:
        """Settle a call with the error that the other side raised."""
        call = self._calls.pop(call_id, None)
        if call is not None and not call.future.done():
            call.future.set_exception(error)

    def connection_gone(self) -> None:
        """Fail all calls: ConnectionLost for those sent, PeerUnreachable for the others."""
        calls = list(self._calls.values())
        self._calls.clear()
        for call in calls:
            self._abandon(call, ConnectionLost)
        self._stop_timer()

    def _expire(self) -> None:
        self._timer = None
        now_s = self._clock.now_s()
        for call in [call for call in self._calls.values() if call.deadline_s <= now_s]:
            del self._calls[call.call_id]
            self._abandon(call, RequestTimeout)
        if self._calls:
            self._timer = asyncio.get_running_loop().call_later(self._timer_s, self._expire)

    def _abandon(self, call: PendingCall, unknown: Callable[[], DqliteError]) -> None:
        if not call.future.done():
            call.future.set_exception(unknown() if call.sent else PeerUnreachable())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

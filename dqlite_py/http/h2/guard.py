"""How much pointless work a peer may make before it is told to calm down."""

from __future__ import annotations

from dataclasses import dataclass

from dqlite_py.http.h2.errors import ConnectionBroken, ErrorCode


@dataclass(frozen=True, slots=True)
class Rate:
    """``burst`` at once, and ``per_s`` a second in the long run."""

    burst: int
    per_s: float


class Guard:
    """A token bucket over one kind of frame."""

    __slots__ = ("_left", "_rate", "_since_s", "_what")

    def __init__(self, rate: Rate, what: str) -> None:
        self._rate = rate
        self._what = what
        self._left = float(rate.burst)
        self._since_s: float | None = None

    def charge(self, now_s: float) -> None:
        """Count one more; raise ConnectionBroken (ENHANCE_YOUR_CALM) when they are too many."""
        if self._left < 1.0:
            if self._since_s is not None:
                earned = max(0.0, now_s - self._since_s) * self._rate.per_s
                self._left = min(float(self._rate.burst), self._left + earned)
            if self._left < 1.0:
                raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, f"too many {self._what}")
            self._since_s = now_s
        elif self._since_s is None:
            self._since_s = now_s
        self._left -= 1.0

    def refund(self, count: int) -> None:
        """Let ``count`` more pass: we gave the peer cause for them."""
        self._left = min(float(self._rate.burst), self._left + count)


class PingPolicy:
    """Pings closer together than allowed are strikes; too many strikes end the connection.

    What the server sends in between forgives them, so that clients which measure the link while
    data flows are not punished (grpc-go behaviour, with etcd's minimum interval).
    """

    __slots__ = ("_interval_s", "_last_s", "_most", "_strikes", "_without_streams_s", "forgiven")

    def __init__(self, interval_s: float, without_streams_s: float, most: int) -> None:
        self._interval_s = interval_s
        self._without_streams_s = without_streams_s
        self._most = most
        self._last_s: float | None = None
        self._strikes = 0
        self.forgiven = True  # set by the sender when it sends headers or data

    def pinged(self, now_s: float, *, streams: bool) -> None:
        """Count a ping; raise ConnectionBroken (ENHANCE_YOUR_CALM) at the last strike."""
        if self.forgiven:
            self.forgiven = False
            self._strikes = 0
            self._last_s = now_s
            return
        least_s = self._interval_s if streams else self._without_streams_s
        if self._last_s is not None and now_s - self._last_s < least_s:
            self._strikes += 1
        self._last_s = now_s
        if self._strikes > self._most:
            raise ConnectionBroken(ErrorCode.ENHANCE_YOUR_CALM, "too_many_pings")

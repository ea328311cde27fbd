"""What is remembered of streams that exist no more, or never did."""

from __future__ import annotations

from collections import OrderedDict, deque

MOST_RESETS = 10_000  # as many as one change of leader can end at once
MOST_GAPS = 100


class PastStreams:
    """Numbers that we reset or that the peer passed over; of each kind the latest."""

    __slots__ = ("_gaps", "_resets")

    def __init__(self) -> None:
        self._resets: OrderedDict[int, None] = OrderedDict()
        self._gaps: deque[tuple[int, int]] = deque(maxlen=MOST_GAPS)

    def opened(self, stream_id: int, last_stream_id: int) -> None:
        """Take note of the numbers between two requests that follow each other."""
        if stream_id > last_stream_id + 2:
            self._gaps.append((last_stream_id + 1, stream_id))

    def passed_over(self, stream_id: int) -> bool:
        """Whether the peer used a higher number without ever using this one.

        A request there is out of turn, not on a closed stream (RFC 9113 section 5.1.1).
        """
        return any(low <= stream_id < high for low, high in self._gaps)

    def reset(self, stream_id: int) -> None:
        """Take note of our RST_STREAM."""
        self._resets[stream_id] = None
        if len(self._resets) > MOST_RESETS:
            self._resets.popitem(last=False)

    def was_reset(self, stream_id: int) -> bool:
        """Whether frames on this stream may have crossed our RST_STREAM (section 5.1)."""
        return stream_id in self._resets

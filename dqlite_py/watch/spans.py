"""Finds the watchers of a key: a dictionary for single keys, an interval tree for ranges."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

W = TypeVar("W", bound=Hashable)

FROM_KEY = b"\x00"  # as range_end: every key from the first one on


class Span(Generic[W]):
    """The watchers that share one interval; ``range_end`` is empty for a single key."""

    __slots__ = ("key", "range_end", "watchers")

    def __init__(self, key: bytes, range_end: bytes) -> None:
        self.key = key
        self.range_end = range_end
        self.watchers: dict[W, None] = {}  # a set that keeps its order, so that runs repeat

    def reaches(self, key: bytes) -> bool:
        """Tell whether ``key``, which is not below the span's own, is inside."""
        return self.range_end == FROM_KEY or key < self.range_end


class SpanIndex(Generic[W]):
    """Watchers by interval. Looking up a key costs O(log spans + matches).

    The tree is an array of spans sorted by key, read as an implicit balanced tree in which every
    node knows the span that reaches farthest below it. It is built again after spans came or went:
    lookups are frequent, new spans rare.
    """

    def __init__(self) -> None:
        self._single: dict[bytes, Span[W]] = {}
        self._ranges: dict[tuple[bytes, bytes], Span[W]] = {}
        self._sorted: list[Span[W]] | None = []
        self._farthest: list[Span[W]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, key: bytes, range_end: bytes, watcher: W) -> None:
        """Add ``watcher``, which must not be there yet."""
        if range_end:
            span = self._ranges.get((key, range_end))
            if span is None:
                span = self._ranges[key, range_end] = Span(key, range_end)
                self._sorted = None
        else:
            span = self._single.get(key)
            if span is None:
                span = self._single[key] = Span(key, range_end)
        assert watcher not in span.watchers
        span.watchers[watcher] = None
        self._size += 1

    def remove(self, key: bytes, range_end: bytes, watcher: W) -> None:
        """Remove ``watcher``, which must be there."""
        span = self._ranges[key, range_end] if range_end else self._single[key]
        del span.watchers[watcher]
        self._size -= 1
        if not span.watchers:
            if range_end:
                del self._ranges[key, range_end]
                self._sorted = None
            else:
                del self._single[key]

    def matching(self, key: bytes) -> Iterator[Span[W]]:
        """Yield every span that holds ``key``; the index must not change meanwhile."""
        single = self._single.get(key)
        if single is not None:
            yield single
        if self._sorted is None:
            self._build()
        assert self._sorted is not None
        if self._sorted:
            yield from self._search(0, len(self._sorted), key)

    def watchers(self) -> list[W]:
        """Return all watchers."""
        spans = [*self._single.values(), *self._ranges.values()]
        return [watcher for span in spans for watcher in span.watchers]

    def _build(self) -> None:
        self._sorted = sorted(self._ranges.values(), key=lambda span: span.key)
        self._farthest = list(self._sorted)
        if self._sorted:
            self._fill_farthest(0, len(self._sorted))

    def _fill_farthest(self, low: int, high: int) -> Span[W]:
        middle = (low + high) // 2
        best = self._farthest[middle]
        for start, end in ((low, middle), (middle + 1, high)):
            if start < end:
                other = self._fill_farthest(start, end)
                if best.range_end != FROM_KEY and other.reaches(best.range_end):
                    best = other
        self._farthest[middle] = best
        return best

    def _search(self, low: int, high: int, key: bytes) -> Iterator[Span[W]]:
        assert self._sorted is not None
        middle = (low + high) // 2
        if not self._farthest[middle].reaches(key):
            return
        if low < middle:
            yield from self._search(low, middle, key)
        span = self._sorted[middle]
        if span.key <= key:
            if span.reaches(key):
                yield span
            if middle + 1 < high:
                yield from self._search(middle + 1, high, key)

"""Where each entry lies, in memory: arrays of numbers, and the youngest entries themselves."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from dqlite_py.raft import Compacted, Entry, Unavailable
from dqlite_py.storage.segment import Placement


class LogIndex:
    """Positions of the entries ``start + 1 .. last``; 24 bytes each, found in constant time."""

    def __init__(self, start: int, start_term: int) -> None:
        self.start = start
        self.start_term = start_term
        self._terms = array("Q")
        self._segments = array("Q")
        self._offsets = array("I")
        self._lengths = array("I")

    @property
    def last(self) -> int:
        """The last index present; ``start`` if there is none."""
        return self.start + len(self._terms)

    @property
    def last_term(self) -> int:
        """The term of the entry at ``last``."""
        return self._terms[-1] if self._terms else self.start_term

    def term(self, index: int) -> int:
        """Return the term at ``index``; raises Compacted or Unavailable."""
        slot = index - self.start - 1
        if slot >= len(self._terms):
            raise Unavailable(f"index {index}")
        if slot >= 0:
            return self._terms[slot]
        if slot == -1:
            return self.start_term
        raise Compacted(f"index {index}")

    def place(self, sequence: int, placement: Placement) -> None:
        """Append an entry, dropping what stood at its index and after it.

        Of an entry at or below ``start`` only that is kept, and the term at ``start``. The index
        must not leave a gap.
        """
        slot = placement.index - self.start - 1
        if slot < 0:
            self._cut(0)
            if slot == -1:
                self.start_term = placement.term
            return
        assert slot <= len(self._terms), (placement.index, self.last)
        if slot < len(self._terms):
            self._cut(slot)
        self._terms.append(placement.term)
        self._segments.append(sequence)
        self._offsets.append(placement.offset)
        self._lengths.append(placement.stored_bytes)

    def _cut(self, slot: int) -> None:
        for column in (self._terms, self._segments, self._offsets, self._lengths):
            del column[slot:]

    def locate(self, index: int) -> tuple[int, Placement]:
        """Return the segment's sequence and the placement of an entry that is present."""
        slot = index - self.start - 1
        placement = Placement(index, self._terms[slot], self._offsets[slot], self._lengths[slot])
        return self._segments[slot], placement

    def stored_bytes(self, index: int) -> int:
        """Return how long the stored data of a present entry are."""
        return self._lengths[index - self.start - 1]

    def drop_prefix(self, index: int, term: int) -> None:
        """Forget entries up to and including ``index``, whose term is ``term``."""
        count = index - self.start
        for column in (self._terms, self._segments, self._offsets, self._lengths):
            del column[:count]
        self.start, self.start_term = index, term


class RecentEntries:
    """The youngest contiguous entries of the log, within a number of bytes."""

    _OVERHEAD_BYTES = 160  # a Python entry, its bytes object and its slot in the table

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._entries: dict[int, Entry] = {}
        self._first = 0
        self._next = 0
        self._bytes = 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries in log order; one at an index present replaces it and all after it."""
        held = self._entries
        for entry in entries:
            index = entry.index
            if index != self._next:
                self._cut_to(index)
            held[index] = entry
            self._next = index + 1
            self._bytes += len(entry.data) + self._OVERHEAD_BYTES
        while self._bytes > self._limit_bytes and self._first < self._next:
            self._remove(self._first)
            self._first += 1

    def drop_prefix(self, index: int) -> None:
        """Forget entries up to and including ``index``."""
        while self._first <= index and self._first < self._next:
            self._remove(self._first)
            self._first += 1

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._first = self._next = self._bytes = 0

    def get(self, index: int) -> Entry | None:
        """Return the entry at ``index`` if it is held."""
        return self._entries.get(index)

    def _cut_to(self, index: int) -> None:
        if not self._first <= index <= self._next:
            self.clear()
        while self._next > index and self._next > self._first:
            self._next -= 1
            self._remove(self._next)
        if self._first == self._next:
            self._first = self._next = index

    def _remove(self, index: int) -> None:
        self._bytes -= len(self._entries.pop(index).data) + self._OVERHEAD_BYTES

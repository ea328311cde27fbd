"""A number of bytes that all connections of a server share."""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """An incomplete request that holds bytes."""

    def give_way(self) -> None:
        """Be refused, and give back all bytes before this returns."""


class Budget:
    """What may be held of incomplete requests, over all connections.

    When nothing is left, who has held something for the longest time gives way: a client that
    leaves its requests incomplete can not keep the others from making theirs.
    """

    __slots__ = ("_holders", "_left_bytes")

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self._holders: dict[Holder, None] = {}  # the oldest first

    @property
    def left_bytes(self) -> int:
        """What can still be taken without anybody giving way."""
        return self._left_bytes

    def take(self, size_bytes: int, holder: Holder) -> bool:
        """Reserve bytes (or give back, if negative); return False if ``holder`` itself gives way.

        Nothing is reserved then, and what it held before is still its own to give back.
        """
        while size_bytes > self._left_bytes:
            oldest = next(iter(self._holders), holder)
            if oldest is holder:
                return False
            oldest.give_way()
            self._holders.pop(oldest, None)
        self._left_bytes -= size_bytes
        if size_bytes > 0:
            self._holders.setdefault(holder)
        return True

    def forget(self, holder: Holder) -> None:
        """Take note that ``holder`` holds nothing any more."""
        self._holders.pop(holder, None)

"""A number of bytes that all connections of a server share."""

from __future__ import annotations


class Budget:
    """What may be held of incomplete requests, over all connections."""

    __slots__ = ("_left_bytes",)

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes

    @property
    def left_bytes(self) -> int:
        """What can still be taken."""
        return self._left_bytes

    def take(self, size_bytes: int) -> bool:
        """Reserve bytes (or give back, if negative); return whether they were left."""
        if size_bytes > self._left_bytes:
            return False
        self._left_bytes -= size_bytes
        return True

"""How much the heads of a connection's open requests may take."""

from __future__ import annotations

from collections.abc import Container

from dqlite_py.http.h2.errors import ErrorCode, StreamBroken

SMALL_HEAD_BYTES = 2_048  # up to here a head is not counted: streams are, and that is enough


class LargeHeads:
    """The sizes of large heads. Streams that have ended are looked for when room is needed."""

    __slots__ = ("_bytes", "_most_bytes", "_sizes")

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._sizes: dict[int, int] = {}  # by the stream's number

    def admit(self, stream_id: int, size_bytes: int, alive: Container[int]) -> None:
        """Count a head; raise StreamBroken (REFUSED_STREAM) if the open streams have too much.

        ``alive`` are the numbers of the streams that still exist.
        """
        if self._bytes + size_bytes > self._most_bytes:
            self._sizes = {one: size for one, size in self._sizes.items() if one in alive}
            self._bytes = sum(self._sizes.values())
        if self._bytes + size_bytes > self._most_bytes:
            raise StreamBroken(stream_id, ErrorCode.REFUSED_STREAM, "too many large heads")
        self._sizes[stream_id] = size_bytes
        self._bytes += size_bytes

"""Cuts a stream of JSON objects into single ones as they arrive."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dqlite_py.errors import MalformedJson

# All that matters for finding an object's end: inside text only its end and escapes do.
_MARKS = re.compile(rb'[{}\[\]"]')
_IN_TEXT = re.compile(rb'["\\]')
_NO_SPACE = re.compile(rb"[^ \t\r\n]")


class ObjectSplitter:
    """Looks at each byte once, however the stream is cut into pieces.

    It only finds where objects end; whether they are JSON is for the parser to say.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._buffer = bytearray()
        self._at = 0  # up to here the buffer has been looked at
        self._depth = 0
        self._in_text = False

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the objects that ``data`` completes.

        Raises MalformedJson for what is not between braces, is not UTF-8, or has more than
        ``most_bytes``.
        """
        self._buffer += data
        while (end := self._end()) is not None:
            if end > self._most_bytes:
                raise self._too_large()
            complete = bytes(self._buffer[:end])
            del self._buffer[:end]
            self._at = 0
            yield utf8(complete)
        if len(self._buffer) > self._most_bytes:
            raise self._too_large()

    @property
    def held_bytes(self) -> int:
        """What is kept of the object that has begun."""
        return len(self._buffer)

    def drop(self) -> None:
        """Forget what is kept; the stream can not go on."""
        self._buffer = bytearray()

    def finish(self) -> None:
        """Raise MalformedJson if the stream ends within an object."""
        if self._buffer:
            raise MalformedJson(reason="the text ends within an object")

    def _end(self) -> int | None:
        if self._depth == 0 and not self._begin():
            return None
        while True:
            pattern = _IN_TEXT if self._in_text else _MARKS
            found = pattern.search(self._buffer, self._at)
            if found is None:
                self._at = len(self._buffer)
                return None
            mark = found.group()
            if mark == b"\\":
                if found.end() == len(self._buffer):  # what it escapes is still to come
                    self._at = found.start()
                    return None
                self._at = found.end() + 1
                continue
            self._at = found.end()
            if mark == b'"':
                self._in_text = not self._in_text
            elif mark in b"{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    return self._at

    def _begin(self) -> bool:
        """Drop the space before an object; return whether one begins."""
        first = _NO_SPACE.search(self._buffer)
        if first is None:
            self._buffer.clear()
            return False
        if first.group() != b"{":
            raise MalformedJson(reason="an object must begin with {")
        del self._buffer[: first.start()]
        return True

    def _too_large(self) -> MalformedJson:
        return MalformedJson(reason=f"an object has more than {self._most_bytes} bytes")


def utf8(data: bytes) -> str:
    """Return the text; raise MalformedJson if it is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedJson(reason="the text is not UTF-8") from None

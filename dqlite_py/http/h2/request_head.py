"""Checking the fields with which a request begins and ends (RFC 9113 sections 8.2 and 8.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dqlite_py.http.h2.large_heads import SMALL_HEAD_BYTES

Fields = tuple[tuple[bytes, bytes], ...]

_PSEUDO = frozenset({b":method", b":scheme", b":authority", b":path"})
_CONNECTION_SPECIFIC = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
# Names are lower-case tokens; values have no NUL, CR or LF, and no blanks around them.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BAD_VALUE = re.compile(rb"[\x00\r\n]|^[ \t]|[ \t]$")
_DIGITS = re.compile(rb"[0-9]{1,19}")

# What is remembered as good, at most some 500 kB whatever a peer sends.
MOST_HEADS = 64
MOST_FIELDS = 512
LARGEST_FIELD_BYTES = 512
FIELD_BYTES = 32  # of each field, besides name and value, as RFC 9113 section 6.5.2 counts


class Malformed(Exception):
    """The fields break a rule of RFC 9113; the text says which."""


@dataclass(slots=True)
class RequestHead:
    """A checked request head; ``fields`` are the regular fields in their order.

    Requests with equal fields share one head, so what its user makes of it is kept in ``read_as``.
    """

    method: bytes
    path: bytes
    scheme: bytes
    authority: bytes
    fields: Fields
    content_length: int | None
    size_bytes: int
    read_as: Any = None


class HeadReader:
    """Checks heads, remembering what it has found good: clients repeat themselves."""

    __slots__ = ("_good", "_heads")

    def __init__(self) -> None:
        self._heads: dict[Fields, RequestHead] = {}
        self._good: set[tuple[bytes, bytes]] = set()

    def read(self, fields: Fields) -> RequestHead:
        """Return the head of a request; raise Malformed."""
        head = self._heads.get(fields)
        if head is None:
            head = self._check(fields)
            if head.size_bytes <= SMALL_HEAD_BYTES:
                if len(self._heads) >= MOST_HEADS:
                    self._heads.clear()
                self._heads[fields] = head
        return head

    def check_trailers(self, fields: Fields) -> None:
        """Raise Malformed for trailers with pseudo-header or otherwise bad fields."""
        for pair in fields:
            if pair[0].startswith(b":"):
                raise Malformed("a pseudo-header field in trailers")
            self._check_field(pair)

    def _check(self, fields: Fields) -> RequestHead:
        pseudo: dict[bytes, bytes] = {}
        regular: list[tuple[bytes, bytes]] = []
        size_bytes = FIELD_BYTES * len(fields)
        for pair in fields:
            name, value = pair
            size_bytes += len(name) + len(value)
            if name[:1] != b":":
                self._check_field(pair)
                regular.append(pair)
                continue
            if regular:
                raise Malformed("a pseudo-header field after a regular one")
            if name not in _PSEUDO:
                raise Malformed("an unknown pseudo-header field")
            if name in pseudo:
                raise Malformed("a repeated pseudo-header field")
            if _BAD_VALUE.search(value):
                raise Malformed("a bad value of a pseudo-header field")
            pseudo[name] = value
        return _head(pseudo, tuple(regular), size_bytes)

    def _check_field(self, pair: tuple[bytes, bytes]) -> None:
        good = self._good
        if pair in good:
            return
        name, value = pair
        if not _NAME.fullmatch(name):
            raise Malformed("a field name that is not a lower-case token")
        if name in _CONNECTION_SPECIFIC:
            raise Malformed("a connection-specific field")
        if name == b"te" and value.lower() != b"trailers":
            raise Malformed("te says something else than trailers")
        if _BAD_VALUE.search(value):
            raise Malformed("a bad value of a field")
        if len(name) + len(value) <= LARGEST_FIELD_BYTES:
            if len(good) >= MOST_FIELDS:
                good.clear()
            good.add(pair)


def _head(pseudo: dict[bytes, bytes], regular: Fields, size_bytes: int) -> RequestHead:
    method = pseudo.get(b":method", b"")
    scheme = pseudo.get(b":scheme", b"")
    path = pseudo.get(b":path", b"")
    if not method:
        raise Malformed("no :method")
    if method == b"CONNECT":
        if scheme or path or b":authority" not in pseudo:
            raise Malformed("CONNECT with :scheme or :path, or without :authority")
    elif not scheme or not path:
        raise Malformed("no :scheme or no :path")
    elif not (path.startswith(b"/") or (path == b"*" and method == b"OPTIONS")):
        raise Malformed(":path does not begin with a slash")
    return RequestHead(
        method,
        path,
        scheme,
        pseudo.get(b":authority", b""),
        regular,
        _content_length(regular),
        size_bytes,
    )


def _content_length(regular: Fields) -> int | None:
    found: int | None = None
    for name, value in regular:
        if name == b"content-length":
            if not _DIGITS.fullmatch(value) or (found is not None and found != int(value)):
                raise Malformed("a bad content-length")
            found = int(value)
    return found

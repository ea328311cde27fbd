"""gRPC status codes and how they travel (gRPC over HTTP2, "Responses")."""

from __future__ import annotations

from enum import IntEnum


class Code(IntEnum):
    """gRPC status codes, by their numbers on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Refused(Exception):
    """A call that ends before, or without, its handler: ``code`` and ``text`` go to the client."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(f"{code.name}: {text}")
        self.code = code
        self.text = text


def percent_encoded(text: str) -> bytes:
    """Return a status message as a field value: all but printable ASCII is escaped.

    So are blanks if one stands at an end, where a field value has none (RFC 9113 section 8.2.1).
    """
    raw = text.encode("utf-8", "replace")
    bare = raw == raw.strip(b" ")
    if bare and raw.isascii() and raw.decode("ascii").isprintable() and b"%" not in raw:
        return raw
    first = 0x20 if bare else 0x21
    return b"".join(
        bytes((byte,)) if first <= byte <= 0x7E and byte != 0x25 else b"%%%02X" % byte
        for byte in raw
    )

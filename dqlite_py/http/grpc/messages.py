"""Length-prefixed messages (gRPC over HTTP2, "Length-Prefixed-Message")."""

from __future__ import annotations

import struct
import zlib

from dqlite_py.http.grpc.status import Code, Refused

PREFIX = struct.Struct(">BL")
GZIP_WINDOW_BITS = 31  # zlib's way of saying: with gzip's header and trailer
GZIP_LEVEL = 1


class Assembler:
    """Cuts a body into messages, holding at most one incomplete message.

    Raises Refused for messages longer than ``most_bytes``, as soon as their prefix is known, and
    for compressed ones that the call's encoding does not explain.
    """

    __slots__ = ("_gzip", "_held", "_most_bytes", "_needed_bytes")

    def __init__(self, most_bytes: int, *, gzip: bool) -> None:
        self._most_bytes = most_bytes
        self._gzip = gzip
        self._held = bytearray()  # one, however small the pieces that come
        self._needed_bytes = PREFIX.size  # to know more than now

    @property
    def held_bytes(self) -> int:
        """The bytes of the incomplete message that are kept here."""
        return len(self._held)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that ``data`` completes."""
        if len(self._held) + len(data) < self._needed_bytes:
            self._held += data
            return []
        if self._held:
            self._held += data
            data = bytes(self._held)
            self._held = bytearray()
        messages, start, size = [], 0, len(data)
        self._needed_bytes = PREFIX.size
        while size - start >= PREFIX.size:
            compressed, length = PREFIX.unpack_from(data, start)
            self._check(compressed, length)
            end = start + PREFIX.size + length
            if end > size:
                self._needed_bytes = end - start
                break
            messages.append(self._message(compressed, data[start + PREFIX.size : end]))
            start = end
        if start < size:
            self._held += data[start:]
        return messages

    def _check(self, compressed: int, length: int) -> None:
        if compressed > 1:
            raise Refused(Code.INTERNAL, f"grpc: received unexpected payload format {compressed}")
        if compressed and not self._gzip:
            raise Refused(
                Code.INTERNAL, "grpc: compressed flag set with identity or empty encoding"
            )
        if length > self._most_bytes:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                f"grpc: received message larger than max ({length} vs. {self._most_bytes})",
            )

    def _message(self, compressed: int, data: bytes) -> bytes:
        return self._inflated(data) if compressed else data

    def _inflated(self, data: bytes) -> bytes:
        inflater = zlib.decompressobj(GZIP_WINDOW_BITS)
        try:
            message = inflater.decompress(data, self._most_bytes + 1)
        except zlib.error as error:
            raise Refused(
                Code.INTERNAL, f"grpc: failed to decompress the received message: {error}"
            ) from None
        if len(message) > self._most_bytes:
            raise Refused(
                Code.RESOURCE_EXHAUSTED,
                "grpc: message after decompression larger than max "
                f"({len(message)} vs. {self._most_bytes})",
            )
        if not inflater.eof:
            raise Refused(
                Code.INTERNAL, "grpc: failed to decompress the received message: unexpected EOF"
            )
        if inflater.unused_data:  # half a message would have another meaning
            raise Refused(
                Code.INTERNAL, "grpc: failed to decompress the received message: more than one"
            )
        return message


def framed(message: bytes, *, gzip: bool) -> bytes:
    """Return a message with its prefix, compressed if the client asked in that encoding."""
    if gzip:
        deflater = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP_WINDOW_BITS)
        packed = deflater.compress(message) + deflater.flush()
        return PREFIX.pack(1, len(packed)) + packed
    return PREFIX.pack(0, len(message)) + message

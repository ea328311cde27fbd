"""What the fields of a request say about a call (gRPC over HTTP2, "Requests")."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from dqlite_py.http.grpc import timeout
from dqlite_py.http.grpc.methods import Call, Method
from dqlite_py.http.grpc.status import Code, Refused
from dqlite_py.http.h2.request_head import RequestHead

CONTENT_TYPE = b"application/grpc"

# Fields of the protocol itself: no metadata to a handler.
_RESERVED = frozenset(
    {
        b"te",
        b"content-type",
        b"grpc-timeout",
        b"grpc-encoding",
        b"grpc-accept-encoding",
        b"user-agent",
    }
)


@dataclass(frozen=True, slots=True)
class CallHead:
    """A call that can begin, or the status with which it is refused (``method`` None)."""

    method: Method | None
    call: Call
    gzip: bool = False
    refusal: Refused | None = None
    unknown_encoding: bool = False


def is_grpc(head: RequestHead) -> bool:
    """Whether the request says that it is gRPC."""
    for name, value in head.fields:
        if name == b"content-type":
            return value.startswith(CONTENT_TYPE) and (
                len(value) == len(CONTENT_TYPE) or value[len(CONTENT_TYPE)] in b"+;"
            )
    return False


def read(
    head: RequestHead, methods: Mapping[bytes, Method], certificate_name: str | None
) -> CallHead:
    """Return what a call is, or why it is refused."""
    try:
        return _read(head, methods, certificate_name)
    except Refused as refusal:
        return CallHead(None, Call(), refusal=refusal)


def _read(
    head: RequestHead, methods: Mapping[bytes, Method], certificate_name: str | None
) -> CallHead:
    metadata: dict[str, str | bytes] = {}
    remaining_s: float | None = None
    encoding = b"identity"
    for name, value in head.fields:
        if name in _RESERVED:
            if name == b"grpc-timeout":
                remaining_s = timeout.seconds(value)
            elif name == b"grpc-encoding":
                encoding = value
            continue
        metadata.setdefault(name.decode("ascii"), _metadata_value(name, value))
    call = Call(metadata, remaining_s, certificate_name)
    if head.method != b"POST":
        text = head.method.decode("latin-1")
        raise Refused(
            Code.INTERNAL, f'Received a HEADERS frame with :method "{text}" which should be POST'
        )
    method = methods.get(head.path)
    if method is None:
        return CallHead(None, call, refusal=_unknown(head.path, methods))
    if encoding not in {b"identity", b"gzip"}:
        text = encoding.decode("ascii", "replace")
        refusal = Refused(
            Code.UNIMPLEMENTED,
            f'grpc: Decompressor is not installed for grpc-encoding "{text}"',
        )
        return CallHead(None, call, refusal=refusal, unknown_encoding=True)
    return CallHead(method, call, gzip=encoding == b"gzip")


def _metadata_value(name: bytes, value: bytes) -> str | bytes:
    if not name.endswith(b"-bin"):
        return value.decode("ascii", "replace")
    try:
        first = value.split(b",", 1)[0]  # of joined values, the first
        missing = -len(first) % 4
        if missing and first.endswith(b"="):
            raise binascii.Error("padded, but not enough")
        return base64.b64decode(first + b"=" * missing, validate=True)
    except binascii.Error:
        raise Refused(
            Code.INTERNAL, f"malformed binary metadata in header {name.decode('ascii')}"
        ) from None


def _unknown(path: bytes, methods: Mapping[bytes, Method]) -> Refused:
    """Return grpc-go's words for a method that is not there."""
    text = path.decode("ascii", "replace")
    service, slash, method = text[1:].rpartition("/")
    if not slash:
        return Refused(Code.UNIMPLEMENTED, f'malformed method name: "{text}"')
    if not any(known.startswith(f"/{service}/".encode()) for known in methods):
        return Refused(Code.UNIMPLEMENTED, f"unknown service {service}")
    return Refused(Code.UNIMPLEMENTED, f"unknown method {method} for service {service}")

"""The client's deadline as it travels: ``grpc-timeout`` (gRPC over HTTP2, "Timeout")."""

from __future__ import annotations

from dqlite_py.http.grpc.status import Code, Refused

MAX_DIGITS = 8

_UNIT_S = {
    ord("H"): 3600.0,
    ord("M"): 60.0,
    ord("S"): 1.0,
    ord("m"): 1e-3,
    ord("u"): 1e-6,
    ord("n"): 1e-9,
}


def seconds(value: bytes) -> float:
    """Return the seconds of a ``grpc-timeout``; raise Refused if it is not one."""
    unit_s = _UNIT_S.get(value[-1]) if value else None
    digits = value[:-1]
    if unit_s is None or not 1 <= len(digits) <= MAX_DIGITS or not digits.isdigit():
        raise Refused(Code.INTERNAL, "malformed grpc-timeout")
    return int(digits) * unit_s

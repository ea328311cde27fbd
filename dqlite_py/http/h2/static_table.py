"""The static table of HPACK (RFC 7541 appendix A)."""

from __future__ import annotations

from typing import Final

_WITH_VALUES = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
)
_NAMES_ALONE = (
    b"accept-language accept-ranges accept access-control-allow-origin age allow authorization"
    b" cache-control content-disposition content-encoding content-language content-length"
    b" content-location content-range content-type cookie date etag expect expires from host"
    b" if-match if-modified-since if-none-match if-range if-unmodified-since last-modified link"
    b" location max-forwards proxy-authenticate proxy-authorization range referer refresh"
    b" retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary"
    b" via www-authenticate"
).split()

# Index i of the specification is STATIC_TABLE[i - 1].
STATIC_TABLE: Final[tuple[tuple[bytes, bytes], ...]] = (
    *_WITH_VALUES,
    *((name, b"") for name in _NAMES_ALONE),
)

# What an entry takes up beside its name and value (RFC 7541 section 4.1; RFC 9113 section 6.5.2
# counts a field of a header list alike).
ENTRY_OVERHEAD_BYTES: Final = 32

"""Who a client says it is, in a certificate that TLS has verified."""

from __future__ import annotations

from typing import Any


def common_name(certificate: dict[str, Any] | None) -> str | None:
    """Return the subject's common name in ssl's form of a certificate; of several, the last.

    The last, because Go's reader keeps that one and etcd grants rights by it.
    """
    found: str | None = None
    for relative in (certificate or {}).get("subject", ()):
        for name, value in relative:
            if name == "commonName":
                found = str(value)
    return found

"""How a joiner decides whether it speaks to the cluster, before it says anything."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from dataclasses import dataclass

import grpc

from dqlite_py.cluster.tokens import Token
from dqlite_py.config import Endpoint
from dqlite_py.errors import StartRefused
from dqlite_py.system.tls.authority import (
    NotTrusted,
    context_trusting,
    fetch_authority,
    handshake,
    system_authorities,
)
from dqlite_py.system.tls.contexts import TlsFiles

NO_PIN = (
    "; give the token that `dqlite-py token` prints on a member, which names the authority, or "
    "the authority itself with --trusted-ca-file"
)


@dataclass(frozen=True, slots=True)
class Trust:
    """Which authority vouches for a server, and what is shown to it."""

    authorities: bytes  # PEM
    certificate: bytes = b""  # PEM; empty: nothing is shown
    key: bytes = b""

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the same as grpcio wants it."""
        return grpc.ssl_channel_credentials(
            self.authorities or None, self.key or None, self.certificate or None
        )


async def establish(endpoint: Endpoint, token: Token, own: TlsFiles) -> Trust:
    """Return how to speak to the server at ``endpoint``, having verified its certificate.

    A token that pins an authority decides: the server's bundle must have that hash (k3s, token
    K10), and the certificate must be of it. Otherwise the authorities of ``own`` or the system's
    decide; nothing is trusted for being met first. Raises StartRefused when the certificate does
    not do, OSError when the server does not answer (it may yet).
    """
    return await asyncio.to_thread(_establish, endpoint, token, own)


def _establish(endpoint: Endpoint, token: Token, own: TlsFiles) -> Trust:
    try:
        authorities = _authorities(endpoint, token, own)
        context = context_trusting(authorities.decode("ascii"), own)
        handshake(endpoint.host, endpoint.port, context).close()
    except NotTrusted as error:
        raise StartRefused(
            reason=f"the server at {endpoint} is not trusted: {error}"
            + ("" if token.authority_sha256 else NO_PIN)
        ) from error
    except (ssl.SSLError, ValueError) as error:
        raise StartRefused(
            reason=f"the authorities for {endpoint} are not PEM certificates"
        ) from error
    if not own.certificate:
        return Trust(authorities)
    return Trust(authorities, _content(own.certificate), _content(own.key))


def _authorities(endpoint: Endpoint, token: Token, own: TlsFiles) -> bytes:
    given = _content(own.authorities) if own.authorities else b""
    if not token.authority_sha256:
        return given or system_authorities()
    if _pinned(given, token):
        return given
    bundle = fetch_authority(endpoint.host, endpoint.port, own)
    if not _pinned(bundle, token):
        raise NotTrusted(
            "token CA hash does not match the Cluster CA certificate hash: "
            f"{token.authority_sha256} != {hashlib.sha256(bundle).hexdigest()}"
        )
    return bundle


def _pinned(bundle: bytes, token: Token) -> bool:
    return hmac.compare_digest(hashlib.sha256(bundle).hexdigest(), token.authority_sha256)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise StartRefused(reason=f"TLS: {path}: {error.strerror}") from error

"""Who vouches for a server's certificate, and what a server shows to those who ask."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Sequence

from dqlite_py.system.tls.contexts import TlsFiles, client_context
from dqlite_py.system.tls.refusals import why

PROBE_TIMEOUT_S = 5.0
AUTHORITY_PATH = "/cacerts"
AUTHORITY_MAX_BYTES = 1 << 20
_FLIGHTS_MAX = 10  # more than any handshake has


class NotTrusted(Exception):
    """A server does not prove that it is who was dialled; the text says why, in one line."""


def find_authority(files: TlsFiles) -> bytes:
    """Return the PEM bundle that the certificate of ``files`` is verified with.

    It is the authorities' file if that vouches for the certificate, otherwise the certificate's
    own if it signed itself, otherwise empty: those who connect must know it from elsewhere.
    Raises OSError.
    """
    for path in (files.authorities, files.certificate):
        if not path:
            continue
        with open(path, "rb") as file:
            bundle = file.read()
        if _vouches(bundle, files):
            return bundle
    return b""


def _vouches(bundle: bytes, files: TlsFiles) -> bool:
    """Tell whether a client that trusts ``bundle`` accepts the certificate: it does the talking."""
    listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listening.load_cert_chain(files.certificate, files.key)
    dialling = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dialling.check_hostname = False
    try:
        dialling.load_verify_locations(cadata=bundle.decode("ascii", "replace"))
    except ssl.SSLError:
        return False
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = listening.wrap_bio(to_server, to_client, server_side=True)
    client = dialling.wrap_bio(to_client, to_server)
    for _ in range(_FLIGHTS_MAX):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
            if side is client:
                return True
    return False


def context_trusting(bundle: str, shown: TlsFiles) -> ssl.SSLContext:
    """Return a dialling context that trusts ``bundle`` (PEM) and shows the pair of ``shown``.

    Raises StartRefused for the pair, ssl.SSLError for the bundle.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.hostname_checks_common_name = False
    context.load_verify_locations(cadata=bundle)
    if shown.certificate:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def handshake(host: str, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Connect and speak TLS; return the connection, which the caller closes. Blocks.

    Raises NotTrusted when TLS does not come to stand, other OSErrors when nobody answers.
    """
    raw = socket.create_connection((host, port), PROBE_TIMEOUT_S)
    try:
        return context.wrap_socket(raw, server_hostname=host)
    except ssl.SSLError as error:
        raw.close()
        raise NotTrusted(why(error)) from error
    except BaseException:
        raw.close()
        raise


def fetch_authority(host: str, port: int, shown: TlsFiles) -> bytes:
    """Return what a server says its authority is; nothing vouches for it yet. Blocks.

    Raises NotTrusted when the server has nothing to say, OSError when it does not answer.
    """
    pair = TlsFiles(shown.certificate, shown.key)
    context = client_context(pair, verify_server=False, alpn=["http/1.1"])
    connection = http.client.HTTPSConnection(host, port, timeout=PROBE_TIMEOUT_S, context=context)
    try:
        connection.request("GET", AUTHORITY_PATH)
        response = connection.getresponse()
        bundle = response.read(AUTHORITY_MAX_BYTES)
    except ssl.SSLError as error:
        raise NotTrusted(why(error)) from error
    except http.client.HTTPException as error:
        raise NotTrusted(f"no answer to {AUTHORITY_PATH}: {error!r}") from error
    finally:
        connection.close()
    if response.status != http.client.OK or not bundle:
        raise NotTrusted(f"it does not say what its authority is (status {response.status})")
    return bundle


def system_authorities() -> bytes:
    """Return the authorities that this machine trusts, as PEM."""
    found: Sequence[bytes] = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode()

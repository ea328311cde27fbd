"""From settings to the TLS contexts of one server: for its clients, its peers, and joining."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dqlite_py.config import Endpoint, SecurityConfig, ServerConfig, TlsConfig, warnings
from dqlite_py.errors import DiskFailed
from dqlite_py.seams import Disk, replace_file
from dqlite_py.storage.datadir import DataDir
from dqlite_py.system.network import NetworkTls
from dqlite_py.system.tls.authority import find_authority
from dqlite_py.system.tls.contexts import (
    TlsFiles,
    TlsPolicy,
    client_context,
    server_context,
    stamp,
)
from dqlite_py.system.tls.refusals import Refusals

log = logging.getLogger(__name__)

PORTS = ("client", "peer")
CLIENT_ALPN = ("h2", "http/1.1")
VERSIONS = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
# Said of nobody in particular, so no name to vouch for.
UNSPECIFIC_HOSTS = ("", "0.0.0.0", "::")  # noqa: S104 - left out, not listened on


class ClientAuthority:
    """The bundle that vouches for the certificate of the client port, as the files are now."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen: object = None
        self._bundle = b""

    def pem(self) -> bytes:
        """Return the bundle, empty if there is none; what was found last if a file is away."""
        found = stamp(self._files.paths())
        if found != self._seen:
            try:
                self._bundle = find_authority(self._files)
            except OSError as error:  # ssl.SSLError is one: in the middle of a renewal
                log.warning("the authority can not be told", extra={"reason": str(error)})
            self._seen = found
        return self._bundle


@dataclass(frozen=True, slots=True)
class Security:
    """What connections are made under; None where there is no TLS."""

    clients: ssl.SSLContext | None
    authority: ClientAuthority | None  # of ``clients``
    peers: NetworkTls | None
    joining: TlsFiles  # what is shown to a server that is joined through, and trusted


def secure(
    config: ServerConfig,
    datadir: DataDir,
    disk: Disk,
    refused: Callable[[str], None] | None = None,
) -> Security:
    """Read the files that the settings name, or make them where the settings say so.

    Certificates of the server's own making lie in ``pki/`` of the data directory, which is open.
    Settings without effect are logged. ``refused`` is told of each failed handshake whose it was,
    ``client`` or ``peer``. Raises StartRefused naming the file that does not do, and DiskFailed.
    """
    own, settings = config.member, config.security
    for line in warnings(settings, own.listen_client_urls, own.listen_peer_urls):
        log.warning("settings without effect", extra={"reason": line})
    policy = _policy(settings)
    refusals = {port: Refusals(port, partial(refused, port) if refused else None) for port in PORTS}
    clients, authority = None, None
    if settings.client.enabled:
        hosts = (*own.listen_client_urls, *own.advertise_client_urls, *own.listen_metrics_urls)
        files = _files(settings.client, datadir, "client", hosts, settings.self_signed_years)
        clients = server_context(
            files,
            policy=policy,
            verify_clients=settings.client.verifies_clients,
            alpn=CLIENT_ALPN,
            refusals=refusals["client"],
        )
        authority = ClientAuthority(files)
    _store_authority(disk, datadir, b"" if authority is None else authority.pem())
    peers = _peers(config, datadir, policy, refusals["peer"])
    return Security(clients, authority, peers, _joining(settings))


def _peers(
    config: ServerConfig, datadir: DataDir, policy: TlsPolicy, refusals: Refusals
) -> NetworkTls | None:
    side, own = config.security.peer, config.member
    if not side.enabled:
        return None
    urls = (*own.listen_peer_urls, *own.advertise_peer_urls)
    files = _files(side, datadir, "peer", urls, config.security.self_signed_years)
    listening = server_context(
        files,
        policy=policy,
        verify_clients=side.verifies_clients,
        refusals=refusals,
    )
    dialling = client_context(
        _dialled_with(side, files),
        policy=policy,
        # Nobody vouches for certificates that each member made for itself (etcd behaviour).
        verify_server=side.has_pair,
    )
    return NetworkTls(listening, dialling)


def _joining(settings: SecurityConfig) -> TlsFiles:
    """Return what a joiner shows to, and expects of, the client port of a member."""
    side = settings.client
    shown = TlsFiles(side.cert_file, side.key_file, side.trusted_ca_file)
    return _dialled_with(side, shown)


def _dialled_with(side: TlsConfig, files: TlsFiles) -> TlsFiles:
    """Return ``files`` with the pair for dialling, which may be one of its own."""
    if not side.client_cert_file:
        return TlsFiles(files.certificate, files.key, files.authorities)
    return TlsFiles(side.client_cert_file, side.client_key_file, files.authorities)


def _files(
    side: TlsConfig, datadir: DataDir, name: str, urls: Sequence[str], validity_years: int
) -> TlsFiles:
    """Return the files of one side; a pair that was given goes before one of our own."""
    certificate, key = side.cert_file, side.key_file
    if not side.has_pair:
        # Only here is the package that signs certificates needed.
        from dqlite_py.system.tls.self_signed import ensure_pair, now_utc

        endpoints = [Endpoint.parse("listen-urls", url) for url in urls]
        hosts = [one.host for one in endpoints if one.host not in UNSPECIFIC_HOSTS]
        try:
            certificate, key = ensure_pair(
                datadir.pki_path,
                f"auto-{name}",
                [*hosts, "localhost"],
                validity_years=validity_years,
                now=now_utc(),
            )
        except OSError as error:
            raise DiskFailed(path=datadir.pki_path, detail=str(error)) from error
    return TlsFiles(certificate, key, side.trusted_ca_file, side.crl_file)


def _store_authority(disk: Disk, datadir: DataDir, bundle: bytes) -> None:
    """Leave the bundle where ``dqlite-py token`` finds it; remove what is not true any more."""
    path = datadir.authority_path
    try:
        if bundle:
            disk.mkdir(os.path.dirname(path))
            replace_file(disk, path, bundle)
        elif disk.exists(path):
            disk.unlink(path)
    except OSError as error:
        raise DiskFailed(path=path, detail=str(error)) from error


def _policy(settings: SecurityConfig) -> TlsPolicy:
    newest = ssl.TLSVersion.MAXIMUM_SUPPORTED
    return TlsPolicy(
        VERSIONS[settings.min_version],
        VERSIONS[settings.max_version] if settings.max_version else newest,
        settings.ciphers,
    )

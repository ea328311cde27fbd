"""Settings of TLS, with etcd's names, meanings and defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dqlite_py.config.endpoint import Endpoint
from dqlite_py.errors import InvalidSetting

VERSIONS = ("TLS1.2", "TLS1.3")

CIPHER_SUITES = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""The names that etcd takes (Go's, which are IANA's) and OpenSSL's names for the same."""

CIPHER_SUITES_OF_1_3 = (
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
)
"""Taken as well, and always spoken where TLS 1.3 is (etcd behaviour)."""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """TLS of one side, clients or peers; paths of PEM files, empty when not given."""

    cert_file: str = ""
    key_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    auto: bool = False  # a certificate of the server's own making
    client_cert_file: str = ""  # shown when this server dials, instead of ``cert_file``
    client_key_file: str = ""
    crl_file: str = ""

    @property
    def has_pair(self) -> bool:
        """Tell whether a certificate was given."""
        return bool(self.cert_file)

    @property
    def enabled(self) -> bool:
        """Tell whether this side can speak TLS."""
        return self.has_pair or self.auto

    @property
    def verifies_clients(self) -> bool:
        """Tell whether clients must show a certificate; a CA file alone asks for it (etcd)."""
        return self.client_cert_auth or bool(self.trusted_ca_file)


@dataclass(frozen=True, slots=True)
class SecurityConfig:
    """TLS of both sides and what is common to them."""

    client: TlsConfig = TlsConfig()
    peer: TlsConfig = TlsConfig()
    min_version: str = VERSIONS[0]
    max_version: str = ""  # empty: the newest there is
    ciphers: tuple[str, ...] = ()  # OpenSSL's names, for TLS 1.2; empty: OpenSSL's choice
    self_signed_years: int = 1


def security(values: Mapping[str, Any]) -> SecurityConfig:
    """Return the TLS settings in ``values``; raise InvalidSetting when they contradict."""
    low, high = values["tls-min-version"] or VERSIONS[0], values["tls-max-version"]
    if high and VERSIONS.index(low) > VERSIONS.index(high):
        raise InvalidSetting(
            setting="tls-min-version",
            reason=f"min version ({low}) is greater than max version ({high})",
        )
    if values["cipher-suites"] and low == "TLS1.3":
        raise InvalidSetting(
            setting="cipher-suites", reason="cipher suites can not be configured with only TLS1.3"
        )
    listened = (*values["listen-client-urls"], *values["listen-metrics-urls"])
    return SecurityConfig(
        client=_side(values, "", listened),
        peer=_side(values, "peer-", values["listen-peer-urls"]),
        min_version=low,
        max_version=high,
        ciphers=values["cipher-suites"],
        self_signed_years=values["self-signed-cert-validity"],
    )


def _side(values: Mapping[str, Any], prefix: str, urls: Sequence[str]) -> TlsConfig:
    dialling = "peer-client-" if prefix else "client-"
    crl = "peer-crl-file" if prefix else "client-crl-file"
    side = TlsConfig(
        cert_file=values[prefix + "cert-file"],
        key_file=values[prefix + "key-file"],
        trusted_ca_file=values[prefix + "trusted-ca-file"],
        client_cert_auth=values[prefix + "client-cert-auth"],
        auto=values[prefix + "auto-tls"],
        client_cert_file=values[dialling + "cert-file"],
        client_key_file=values[dialling + "key-file"],
        crl_file=values[crl],
    )
    _require_both(side.cert_file, side.key_file, prefix)
    _require_both(side.client_cert_file, side.client_key_file, dialling)
    if side.crl_file and not side.verifies_clients:
        raise InvalidSetting(
            setting=crl, reason=f"has no effect without --{prefix}client-cert-auth"
        )
    if not side.enabled:
        _require_plain(urls, prefix)
    return side


def _require_both(cert_file: str, key_file: str, prefix: str) -> None:
    if bool(cert_file) != bool(key_file):
        missing = "key-file" if cert_file else "cert-file"
        raise InvalidSetting(
            setting=prefix + missing,
            reason="KeyFile and CertFile must both be present"
            f"[key: {key_file or 'none'}, cert: {cert_file or 'none'}]",
        )


def _require_plain(urls: Sequence[str], prefix: str) -> None:
    """etcd's refusal of an https URL without a certificate."""
    for url in urls:
        if Endpoint.parse("listen-urls", url).secure:
            kind = "peer" if prefix else "client"
            raise InvalidSetting(
                setting=f"{prefix}cert-file",
                reason=f"TLS key/cert (--{prefix}cert-file, --{prefix}key-file) must be provided "
                f"for {kind} url {url} with HTTPS scheme",
            )


def warnings(security: SecurityConfig, client: Sequence[str], peer: Sequence[str]) -> list[str]:
    """Return lines on settings without effect; ``client`` and ``peer`` are the listening URLs.

    The cases are etcd's.
    """
    lines = []
    for side, kind, prefix, urls in (
        (security.client, "client", "", client),
        (security.peer, "peer", "peer-", peer),
    ):
        if side.auto and side.has_pair:
            lines.append(f"ignoring {kind} auto TLS since certs given")
        for url in urls:
            if Endpoint.parse("listen-urls", url).secure:
                continue
            if side.has_pair:
                lines.append(
                    f"{url}: the scheme has no TLS while key and cert files are present; ignoring "
                    "key and cert files for this URL"
                )
            if side.client_cert_auth:
                lines.append(
                    f"{url}: the scheme has no TLS while --{prefix}client-cert-auth is enabled; "
                    "ignoring client cert auth for this URL"
                )
    return lines

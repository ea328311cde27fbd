"""Settings of TLS and of unix sockets: etcd's names, defaults and refusals."""

from __future__ import annotations

import ssl

import pytest

from dqlite_py.config import Endpoint, SecurityConfig, ServerConfig, load, warnings
from dqlite_py.config.security import CIPHER_SUITES
from dqlite_py.errors import InvalidSetting


def settings(**flags: object) -> ServerConfig:
    return load({name.replace("_", "-"): value for name, value in flags.items()}, {}, {})


def test_nothing_is_secure_unless_asked() -> None:
    assert settings().security == SecurityConfig()
    assert settings().security.min_version == "TLS1.2"


def test_both_sides_are_read_by_etcds_names() -> None:
    security = settings(
        cert_file="c",
        key_file="k",
        trusted_ca_file="ca",
        client_crl_file="crl",
        peer_cert_file="pc",
        peer_key_file="pk",
        peer_client_cert_auth=True,
        peer_client_cert_file="pcc",
        peer_client_key_file="pck",
        listen_client_urls="https://127.0.0.1:1",
        listen_peer_urls="https://127.0.0.1:2",
        tls_min_version="TLS1.3",
    ).security
    assert (security.client.cert_file, security.client.key_file) == ("c", "k")
    assert security.client.crl_file == "crl"
    # A CA file alone asks clients for a certificate (etcd behaviour).
    assert security.client.verifies_clients
    assert not security.client.client_cert_auth
    assert (security.peer.cert_file, security.peer.client_cert_file) == ("pc", "pcc")
    assert security.peer.verifies_clients
    assert security.min_version == "TLS1.3"


def test_variables_and_files_hold_them_too() -> None:
    config = load({}, {"DQLITE_PY_AUTO_TLS": "true"}, {"peer-auto-tls": True})
    assert config.security.client.auto
    assert config.security.peer.auto


@pytest.mark.parametrize(
    ("setting", "flags", "line"),
    [
        ("key-file", {"cert_file": "c"}, "must both be present"),
        ("peer-cert-file", {"peer_key_file": "k"}, "must both be present"),
        ("client-key-file", {"client_cert_file": "c"}, "must both be present"),
        (
            "cert-file",
            {"listen_client_urls": "https://127.0.0.1:1"},
            "must be provided for client url https://127.0.0.1:1 with HTTPS scheme",
        ),
        ("cert-file", {"listen_client_urls": "unixs://etcd.sock"}, "unixs://etcd.sock"),
        ("cert-file", {"listen_metrics_urls": "https://127.0.0.1:1"}, "HTTPS scheme"),
        ("peer-cert-file", {"listen_peer_urls": "https://127.0.0.1:1"}, "for peer url"),
        ("client-crl-file", {"client_crl_file": "crl"}, "no effect without --client-cert-auth"),
        ("peer-crl-file", {"peer_crl_file": "crl"}, "no effect without --peer-client-cert-auth"),
        ("tls-min-version", {"tls_min_version": "TLS1.1"}, "TLS1.2, TLS1.3"),
        (
            "tls-min-version",
            {"tls_min_version": "TLS1.3", "tls_max_version": "TLS1.2"},
            "greater than max version",
        ),
        ("cipher-suites", {"cipher_suites": "ROT13"}, "unexpected TLS cipher suite 'ROT13'"),
        (
            "cipher-suites",
            {
                "cipher_suites": "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "tls_min_version": "TLS1.3",
            },
            "only TLS1.3",
        ),
        ("listen-peer-urls", {"listen_peer_urls": "unix://etcd.sock"}, "http://host:port"),
        ("listen-client-urls", {"listen_client_urls": "unix://"}, "names no socket file"),
    ],
)
def test_contradictions_are_refused_by_the_settings_name(
    setting: str, flags: dict[str, object], line: str
) -> None:
    with pytest.raises(InvalidSetting) as refused:
        settings(**flags)
    assert refused.value.setting == setting
    assert line in refused.value.reason
    assert "\n" not in refused.value.reason


def test_cipher_suites_are_given_by_etcds_names() -> None:
    names = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    assert settings(cipher_suites=names).security.ciphers == (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    )
    assert settings(cipher_suites=f"TLS_AES_128_GCM_SHA256,{names}").security.ciphers == (
        settings(cipher_suites=names).security.ciphers
    )


@pytest.mark.parametrize("name", CIPHER_SUITES.values())
def test_openssl_has_every_suite_that_is_taken(name: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(name)
    assert name in [one["name"] for one in context.get_ciphers()]


def test_urls_without_tls_beside_certificates_are_warned_of() -> None:
    config = settings(
        cert_file="c",
        key_file="k",
        auto_tls=True,
        client_cert_auth=True,
        listen_client_urls="https://127.0.0.1:1,http://127.0.0.1:2",
    )
    lines = warnings(
        config.security, config.member.listen_client_urls, config.member.listen_peer_urls
    )
    assert len(lines) == 3
    assert lines[0] == "ignoring client auto TLS since certs given"
    assert lines[1].startswith("http://127.0.0.1:2: ")
    assert "ignoring key and cert files" in lines[1]
    assert "ignoring client cert auth" in lines[2]
    assert warnings(settings().security, ("http://h:1",), ("http://h:2",)) == []


@pytest.mark.parametrize(
    ("url", "path", "secure"),
    [
        ("unix://etcd.sock", "etcd.sock", False),
        ("unix:///run/etcd.sock", "/run/etcd.sock", False),
        ("unixs://localhost:2379", "localhost:2379", True),
    ],
)
def test_a_unix_url_names_a_file(url: str, path: str, secure: bool) -> None:
    endpoint = Endpoint.parse("listen-client-urls", url)
    assert (endpoint.path, endpoint.address, str(endpoint)) == (path, path, url)
    assert endpoint.is_unix
    assert endpoint.secure is secure


def test_an_https_url_is_secure() -> None:
    endpoint = Endpoint.parse("listen-client-urls", "https://[::1]:2379")
    assert endpoint.secure
    assert not endpoint.is_unix
    assert str(endpoint) == "https://[::1]:2379"

"""Certificates that a server signs itself: ``--auto-tls`` and ``--peer-auto-tls``.

They encrypt; they prove nothing, because nobody vouches for them (etcd behaviour).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS_PER_YEAR = 365
RENEW_BEFORE = timedelta(days=30)
CLOCK_SKEW = timedelta(hours=1)
ORGANISATION = "dqlite-py"


def ensure_pair(
    folder: str, name: str, hosts: Sequence[str], *, validity_years: int, now: datetime
) -> tuple[str, str]:
    """Return the paths of a certificate for ``hosts`` and its key, ``NAME.crt`` and ``NAME.key``.

    A pair that is there is kept while it fits the hosts and lasts 30 days more, so that a restart
    does not change it; otherwise a new one replaces it. Both files are 0600 and durable before
    they have their names, the key first. Raises OSError.
    """
    certificate_path, key_path = f"{folder}/{name}.crt", f"{folder}/{name}.key"
    if not _still_good(certificate_path, key_path, hosts, now):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        certificate, key = make_pair(hosts, validity_years=validity_years, now=now)
        _replace(key_path, key)
        _replace(certificate_path, certificate)
    return certificate_path, key_path


def make_pair(hosts: Sequence[str], *, validity_years: int, now: datetime) -> tuple[bytes, bytes]:
    """Return a new self-signed certificate for ``hosts`` and its key, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION)])
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=DAYS_PER_YEAR * validity_years))
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _still_good(certificate_path: str, key_path: str, hosts: Sequence[str], now: datetime) -> bool:
    try:
        with open(certificate_path, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
        with open(key_path, "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound):
        return False  # none yet, or damaged: it is made anew
    return (
        key.public_key() == certificate.public_key()
        and set(names) == set(_names(hosts))
        and certificate.not_valid_before_utc <= now
        and now + RENEW_BEFORE < certificate.not_valid_after_utc
    )


def _replace(path: str, content: bytes) -> None:
    """Make ``content`` the file's, readable by the owner only, durable under its name."""
    temporary = path + ".tmp"
    with suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    os.rename(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def now_utc() -> datetime:
    """Return the time of day, for ``now`` above."""
    return datetime.now(UTC)

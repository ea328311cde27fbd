"""Pairs that a server makes for itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from dqlite_py.system.tls.contexts import TlsFiles, client_context, server_context
from dqlite_py.system.tls.self_signed import ensure_pair, now_utc
from tests.kit.tls_echo import ask, echoing

HOSTS = ["127.0.0.1", "localhost", "::1"]


def ensure(folder: Path, hosts: list[str] = HOSTS, days: float = 0.0) -> tuple[str, str]:
    now = now_utc() + timedelta(days=days)
    return ensure_pair(str(folder), "client", hosts, validity_years=1, now=now)


def test_a_pair_serves_its_hosts_and_vouches_for_itself(tmp_path: Path) -> None:
    certificate, key = ensure(tmp_path / "pki")
    server = server_context(TlsFiles(certificate, key), verify_clients=False)
    client = client_context(TlsFiles(authorities=certificate))

    async def main() -> None:
        async with echoing(server) as port:
            for host in HOSTS:
                await ask(port, client, host)

    asyncio.run(main())


def test_keys_are_the_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "pki"
    for path in ensure(folder):
        assert Path(path).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(one.name for one in folder.iterdir()) == ["client.crt", "client.key"]


def test_a_pair_is_kept_until_its_last_month(tmp_path: Path) -> None:
    path = Path(ensure(tmp_path)[0])
    first = path.read_bytes()
    ensure(tmp_path, days=330)
    assert path.read_bytes() == first
    ensure(tmp_path, days=336)
    assert path.read_bytes() != first


def test_other_hosts_or_damage_make_a_new_pair(tmp_path: Path) -> None:
    certificate, key = map(Path, ensure(tmp_path))
    first = certificate.read_bytes()
    ensure(tmp_path, [*HOSTS, "db.example"])
    second = certificate.read_bytes()
    assert second != first
    key.write_bytes(b"damaged")
    ensure(tmp_path, [*HOSTS, "db.example"])
    assert certificate.read_bytes() != second
    server_context(TlsFiles(str(certificate), str(key)), verify_clients=False)

"""From settings to what a server speaks, and to the token that others join with."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dqlite_py.cli.main import main as command_line
from dqlite_py.cluster.tokens import Token
from dqlite_py.config import ServerConfig, load
from dqlite_py.errors import StartRefused
from dqlite_py.security import Security, secure
from dqlite_py.setup import settle
from dqlite_py.storage.datadir import DataDir
from dqlite_py.system.disk import OsDisk
from dqlite_py.system.tls.contexts import TlsFiles, client_context
from tests.kit.pki import Authority, Pair
from tests.kit.tls_echo import ask, echoing, subject

CLIENT_URL = "https://127.0.0.1:2379"
PEER_URL = "https://127.0.0.1:2380"


@pytest.fixture
def datadir(tmp_path: Path) -> Iterator[DataDir]:
    opened = DataDir.open(OsDisk(), str(tmp_path / "data"))
    yield opened
    opened.close()


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "given")


def config(data_dir: str, **flags: object) -> ServerConfig:
    given = {name.replace("_", "-"): value for name, value in flags.items()}
    return load({"data-dir": data_dir, **given}, {}, {})


def secured(datadir: DataDir, **flags: object) -> Security:
    return secure(config(datadir.path, **flags), datadir, OsDisk())


def given_pair(ca: Authority, prefix: str = "", name: str = "server") -> dict[str, object]:
    pair = ca.issue(name, file=prefix + name)
    return {f"{prefix}cert_file": str(pair.certificate), f"{prefix}key_file": str(pair.key)}


def test_nothing_asked_for_is_nothing_made(datadir: DataDir) -> None:
    security = secured(datadir)
    assert (security.clients, security.authority, security.peers) == (None, None, None)
    assert not Path(datadir.pki_path).exists()


def test_clients_are_offered_both_http_versions(datadir: DataDir, ca: Authority) -> None:
    security = secured(datadir, **given_pair(ca), listen_client_urls=CLIENT_URL)
    assert security.clients is not None
    trusting = TlsFiles(authorities=str(ca.path))

    async def main() -> None:
        async with echoing(security.clients) as port:
            for protocol in ("h2", "http/1.1"):
                spoken = await ask(port, client_context(trusting, alpn=[protocol]))
                assert spoken.selected_alpn_protocol() == protocol

    asyncio.run(main())


def test_clients_are_verified_and_versions_bounded_as_the_settings_say(
    datadir: DataDir, ca: Authority
) -> None:
    known, revoked = ca.issue("known"), ca.issue("revoked")
    security = secured(
        datadir,
        **given_pair(ca),
        trusted_ca_file=str(ca.path),
        client_crl_file=str(ca.revoke(revoked)),
        tls_max_version="TLS1.2",
        cipher_suites="TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        listen_client_urls=CLIENT_URL,
    )

    def showing(pair: Pair | None) -> ssl.SSLContext:
        shown = () if pair is None else (str(pair.certificate), str(pair.key))
        return client_context(TlsFiles(*(shown or ("", "")), str(ca.path)))

    async def main() -> None:
        assert security.clients is not None
        async with echoing(security.clients) as port:
            spoken = await ask(port, showing(known))
            assert spoken.cipher() == ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2", 256)
            for pair in (None, revoked):
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    await ask(port, showing(pair))

    asyncio.run(main())


def test_own_certificates_serve_clients_and_peers(datadir: DataDir) -> None:
    security = secured(
        datadir,
        auto_tls=True,
        peer_auto_tls=True,
        listen_client_urls=CLIENT_URL,
        listen_peer_urls=PEER_URL,
    )
    assert security.clients is not None
    assert security.peers is not None
    assert security.authority is not None
    bundle = Path(datadir.authority_path)
    assert bundle.read_bytes() == security.authority.pem()

    async def main() -> None:
        async with echoing(security.clients) as port:
            await ask(port, client_context(TlsFiles(authorities=str(bundle))))
        async with echoing(security.peers.listening) as port:
            # Another member's certificate vouches for itself alone, so nobody looks at it.
            await ask(port, security.peers.dialling, "127.0.0.2")

    asyncio.run(main())
    kept = {one.name: one.stat().st_mode & 0o777 for one in Path(datadir.pki_path).iterdir()}
    names = ("auto-client.crt", "auto-client.key", "auto-peer.crt", "auto-peer.key")
    assert kept == {**dict.fromkeys(names, 0o600), "authority.pem": 0o600}


def test_peers_dial_with_the_certificate_for_dialling(datadir: DataDir, ca: Authority) -> None:
    shown = ca.issue("shown")
    security = secured(
        datadir,
        **given_pair(ca, "peer_"),
        peer_trusted_ca_file=str(ca.path),
        peer_client_cert_file=str(shown.certificate),
        peer_client_key_file=str(shown.key),
        listen_peer_urls=PEER_URL,
    )
    assert security.peers is not None
    names: list[str] = []

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            names.append(subject(writer.get_extra_info("ssl_object")))
            writer.write(await reader.readline())
            await writer.drain()
            writer.close()

        tls: Any = security.peers
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls.listening) as server:
            port = server.sockets[0].getsockname()[1]
            assert subject(await ask(port, tls.dialling)) == "server"

    asyncio.run(main())
    assert names == ["shown"]


def test_failed_handshakes_are_told_with_their_port(datadir: DataDir, ca: Authority) -> None:
    told: list[str] = []
    settings = config(datadir.path, **given_pair(ca), listen_client_urls=CLIENT_URL)
    security = secure(settings, datadir, OsDisk(), told.append)

    async def main() -> None:
        async with echoing(security.clients) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            writer.transport.abort()

    asyncio.run(main())
    assert told == ["client"]


def test_settings_without_effect_are_logged(datadir: DataDir, ca: Authority, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        secured(datadir, **given_pair(ca))
    reasons = [one.reason for one in caplog.records if hasattr(one, "reason")]
    assert any(reason.startswith("http://localhost:2379: ") for reason in reasons)


def test_a_missing_file_refuses_to_start_and_lets_the_directory_go(
    tmp_path: Path, ca: Authority
) -> None:
    flags = {**given_pair(ca), "listen_client_urls": CLIENT_URL}
    ca.path.with_name("server.key").unlink()
    settings = config(str(tmp_path / "data"), **flags)
    for _ in range(2):
        with pytest.raises(StartRefused, match=r"server\.key: No such file"):
            asyncio.run(settle(settings, OsDisk()))


def test_the_printed_token_pins_the_authority(tmp_path: Path, ca: Authority, capsys) -> None:
    data = str(tmp_path / "data")
    flags = {**given_pair(ca), "trusted_ca_file": str(ca.path)}
    settings = config(data, **flags, listen_client_urls=CLIENT_URL, token="open-sesame")
    asyncio.run(settle(settings, OsDisk())).datadir.close()
    assert command_line(["token", "--data-dir", data]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == Token.parse("open-sesame").pinned_to(ca.path.read_bytes())
    # Without TLS there is nothing to pin any more.
    asyncio.run(settle(config(data), OsDisk())).datadir.close()
    assert command_line(["token", "--data-dir", data]) == 0
    assert capsys.readouterr().out.strip() == "open-sesame"


def test_a_cluster_is_founded_with_its_own_pin_or_none(tmp_path: Path, ca: Authority) -> None:
    flags = {**given_pair(ca), "trusted_ca_file": str(ca.path), "listen_client_urls": CLIENT_URL}
    token = Token.parse("open-sesame")
    other = config(str(tmp_path / "a"), **flags, token=token.pinned_to(b"other"))
    with pytest.raises(StartRefused, match="pins a certificate authority"):
        asyncio.run(settle(other, OsDisk()))
    own = config(str(tmp_path / "b"), **flags, token=token.pinned_to(ca.path.read_bytes()))
    home = asyncio.run(settle(own, OsDisk()))
    home.datadir.close()
    assert home.datadir.load_token() == "open-sesame"


def test_the_authority_follows_its_file(datadir: DataDir, ca: Authority, tmp_path: Path) -> None:
    flags = given_pair(ca)
    security = secured(
        datadir, **flags, trusted_ca_file=str(ca.path), listen_client_urls=CLIENT_URL
    )
    assert security.authority is not None
    both = ca.path.read_bytes() + Authority(tmp_path / "other", "other").path.read_bytes()
    ca.path.write_bytes(both)
    assert security.authority.pem() == both
    Path(str(flags["key_file"])).unlink()
    assert security.authority.pem() == both

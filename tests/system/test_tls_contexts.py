"""Contexts made of files: who is let in, and files that are renewed under a running server."""

from __future__ import annotations

import asyncio
import gc
import logging
import re
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dqlite_py.errors import StartRefused
from dqlite_py.system.tls.contexts import TlsFiles, TlsPolicy, client_context, server_context
from dqlite_py.system.tls.refusals import GIVES_WAY_S, Refusals
from tests.kit.pki import Authority, Pair, encrypt_key
from tests.kit.tls_echo import ask, echoing, subject


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Both event loops ask the context in their own way."""
    if request.param == "asyncio":
        return asyncio.run
    return pytest.importorskip("uvloop").run


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def files(pair: Pair | None, ca: Authority | None, revoked: str = "") -> TlsFiles:
    return TlsFiles(
        str(pair.certificate) if pair else "",
        str(pair.key) if pair else "",
        str(ca.path) if ca else "",
        revoked,
    )


def test_both_sides_prove_who_they_are(run, ca: Authority) -> None:
    server = server_context(
        files(ca.issue("server"), ca), verify_clients=True, alpn=["h2", "http/1.1"]
    )
    client = client_context(files(ca.issue("client"), ca), alpn=["http/1.1"])

    async def main() -> None:
        async with echoing(server) as port:
            spoken = await ask(port, client)
            assert subject(spoken) == "server"
            assert spoken.selected_alpn_protocol() == "http/1.1"
            assert spoken.version() == "TLSv1.3"

    run(main())


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("nobody", "the other side showed no certificate"),
        ("stranger", "self-signed certificate in certificate chain|unable to get local issuer"),
        ("expired", "certificate has expired"),
        ("revoked", "certificate revoked"),
    ],
)
def test_a_client_without_a_good_certificate_is_refused(
    run, ca: Authority, tmp_path: Path, who: str, reason: str
) -> None:
    pairs = {
        "nobody": None,
        "stranger": Authority(tmp_path / "other", "other").issue("stranger"),
        "expired": ca.issue("expired", days=-0.5),
        "revoked": ca.issue("revoked"),
    }
    revoked = str(ca.revoke(pairs["revoked"]))
    told: list[str] = []

    class Told(Refusals):
        def note(self, reason: str) -> None:
            told.append(reason)

    server = server_context(
        files(ca.issue("server"), ca, revoked), verify_clients=True, refusals=Told("client")
    )

    async def main() -> None:
        async with echoing(server) as port:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(port, client_context(files(pairs[who], ca)))
            # The client is told why, too.
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client_context(files(pairs[who], ca))
            )
            with pytest.raises(ssl.SSLError) as alert:
                await reader.read()
            assert alert.value.reason is not None
            assert "ALERT" in alert.value.reason
            writer.transport.abort()
            # Others are served as before.
            await ask(port, client_context(files(ca.issue("good"), ca)))

    run(main())
    assert len(told) == 2
    assert all(re.search(reason, one) for one in told), told


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_dialled_host_must_be_in_the_certificate(run, ca: Authority, host: str) -> None:
    other = {"127.0.0.1": "localhost", "localhost": "127.0.0.1"}[host]
    server = server_context(files(ca.issue("server", [host]), ca), verify_clients=False)
    client = client_context(files(None, ca))

    async def main() -> None:
        async with echoing(server) as port:
            await ask(port, client, host)
            with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
                await ask(port, client, other)
            await ask(port, client_context(files(None, ca), verify_server=False), other)

    run(main())


def test_a_server_of_another_authority_is_not_trusted(run, ca: Authority, tmp_path: Path) -> None:
    server = server_context(files(ca.issue("server"), ca), verify_clients=False)
    stranger = client_context(files(None, Authority(tmp_path / "other", "other")))

    async def main() -> None:
        async with echoing(server) as port:
            with pytest.raises(ssl.SSLCertVerificationError):
                await ask(port, stranger)

    run(main())


def test_a_renewed_pair_is_used_by_the_next_connection(run, ca: Authority) -> None:
    pair = ca.issue("first")
    server = server_context(files(pair, ca), verify_clients=False)
    client = client_context(files(None, ca))

    async def main() -> None:
        async with echoing(server) as port:
            assert subject(await ask(port, client)) == "first"
            ca.issue("second").copy_to(pair)
            assert subject(await ask(port, client)) == "second"

    run(main())


def test_half_a_renewal_leaves_the_old_pair_in_use_and_is_told_once(
    run, ca: Authority, caplog
) -> None:
    pair = ca.issue("first")
    second = ca.issue("second")
    server = server_context(files(pair, ca), verify_clients=False)
    client = client_context(files(None, ca))

    async def main() -> None:
        async with echoing(server) as port:
            pair.certificate.write_bytes(second.certificate.read_bytes())
            assert subject(await ask(port, client)) == "first"
            assert subject(await ask(port, client)) == "first"
            pair.key.unlink()
            assert subject(await ask(port, client)) == "first"
            pair.key.write_bytes(second.key.read_bytes())
            assert subject(await ask(port, client)) == "second"

    with caplog.at_level(logging.INFO):
        run(main())
    lines = [one.getMessage() for one in caplog.records if "changed TLS" in one.getMessage()]
    assert lines == [
        "changed TLS files are not used",
        "changed TLS files are not used",
        "changed TLS files are in use",
    ]


def test_a_new_authority_and_a_new_revocation_count_at_once(
    run, ca: Authority, tmp_path: Path
) -> None:
    client = ca.issue("client")
    revoked = ca.revoke()
    server = server_context(files(ca.issue("server"), ca, str(revoked)), verify_clients=True)
    other = Authority(tmp_path / "other", "other")
    trusted = client_context(files(client, ca))
    stranger = client_context(files(other.issue("newcomer"), ca))

    async def main() -> None:
        async with echoing(server) as port:
            await ask(port, trusted)
            ca.revoke(client)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(port, trusted)
            other.revoke()
            revoked.write_bytes(
                revoked.read_bytes() + (tmp_path / "other/revoked.crl").read_bytes()
            )
            ca.path.write_bytes(ca.path.read_bytes() + other.path.read_bytes())
            await ask(port, stranger)

    run(main())


def test_nothing_is_resumed(run, ca: Authority) -> None:
    server = server_context(files(ca.issue("server"), ca), verify_clients=True)
    client = client_context(files(ca.issue("client"), ca))

    async def main() -> None:
        async with echoing(server) as port:
            spoken = await ask(port, client)
            assert spoken.session is None or not spoken.session.has_ticket

    run(main())


def test_words_without_tls_are_refused_in_a_line(run, ca: Authority, caplog) -> None:
    refusals = Refusals("client", now_s=lambda: 0.0)
    server = server_context(files(ca.issue("server"), ca), verify_clients=False, refusals=refusals)

    async def main() -> None:
        async with echoing(server) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert await reader.readline() == b"Client sent an HTTP request to an HTTPS server.\n"
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await closed(reader)
            writer.transport.abort()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            writer.write_eof()
            assert await closed(reader)
            writer.transport.abort()

    run(main())
    assert refusals.total == 2
    told = [one for one in caplog.records if one.getMessage() == "TLS handshake refused"]
    assert [(one.port, one.reason) for one in told] == [
        ("client", "the other side spoke HTTP without TLS")
    ]  # at most one line a second
    assert not any(one.exc_info for one in caplog.records)


async def closed(reader: asyncio.StreamReader) -> bool:
    """Read to the end; return True however it comes."""
    with suppress(ConnectionError):
        await reader.read()
    return True


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda pair, ca: pair.key.unlink(), "server.key: No such file or directory"),
        (lambda pair, ca: pair.certificate.write_text("x"), "not a certificate and its key"),
        (lambda pair, ca: ca.issue("b").key.rename(pair.key), "key values mismatch"),
        (lambda pair, ca: encrypt_key(pair), "server.key is encrypted"),
        (lambda pair, ca: ca.path.write_text("x"), "ca.crt holds no PEM certificates"),
    ],
)
def test_files_that_do_not_do_refuse_to_start_in_one_line(
    ca: Authority, change: Any, line: str
) -> None:
    pair = ca.issue("server")
    change(pair, ca)
    with pytest.raises(StartRefused, match=line) as refused:
        server_context(files(pair, ca), verify_clients=True)
    assert "\n" not in refused.value.reason


def test_a_policy_bounds_versions_and_ciphers(run, ca: Authority) -> None:
    policy = TlsPolicy(
        max_version=ssl.TLSVersion.TLSv1_2, ciphers=("ECDHE-ECDSA-AES128-GCM-SHA256",)
    )
    server = server_context(files(ca.issue("server"), ca), policy=policy, verify_clients=False)
    newer = TlsPolicy(min_version=ssl.TLSVersion.TLSv1_3)

    async def main() -> None:
        async with echoing(server) as port:
            spoken = await ask(port, client_context(files(None, ca)))
            assert spoken.cipher()[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await ask(port, client_context(files(None, ca), policy=newer))

    run(main())


def test_handshakes_under_way_are_bounded_and_give_their_room_back(run, ca: Authority) -> None:
    refusals = Refusals("client", now_s=lambda: 0.0, handshakes_max=2)
    server = server_context(files(ca.issue("server"), ca), verify_clients=False, refusals=refusals)
    client = client_context(files(None, ca))

    async def main() -> None:
        async with echoing(server) as port:
            for _ in range(5):
                await ask(port, client)  # those that are over do not count
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            # Accepting takes its time: refused once both silent ones are in.
            async with asyncio.timeout(10):
                while True:
                    try:
                        await ask(port, client)
                    except (ssl.SSLError, ConnectionError):
                        break
            for _, writer in silent:
                writer.transport.abort()
            async with asyncio.timeout(10):
                while True:
                    try:
                        await ask(port, client)
                    except (ssl.SSLError, ConnectionError):
                        continue
                    break

    run(main())
    assert refusals.total >= 1


def test_failed_handshakes_give_their_room_back_without_the_collector(run, ca: Authority) -> None:
    refusals = Refusals("client", handshakes_max=2)
    server = server_context(files(ca.issue("server"), ca), verify_clients=False, refusals=refusals)

    async def main() -> None:
        async with echoing(server) as port:
            for words in (b"GET / HTTP/1.1\r\n\r\n", b"x" * 200) * 4:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(words)
                await reader.read(1)  # an alert, or the answer to HTTP
                writer.write(words)
                assert await closed(reader)
                writer.transport.abort()
            await ask(port, client_context(files(None, ca)))

    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()
    assert refusals.total == 8


def test_slow_and_dropped_handshakes_make_room_for_others() -> None:
    now_s = 0.0
    refusals = Refusals("client", now_s=lambda: now_s, handshakes_max=1)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    silent, fresh = (
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True) for _ in range(2)
    )
    assert refusals.admits(silent)
    now_s = GIVES_WAY_S
    assert not refusals.admits(fresh), "there is no room yet"
    now_s += 0.1
    assert refusals.admits(fresh)
    assert not refusals.admits(silent), "it takes the room of another"
    refusals.over(fresh)
    assert refusals.admits(silent), "it may go on when there is room"

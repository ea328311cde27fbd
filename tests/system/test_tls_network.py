"""Members' connections under mutual TLS, on real sockets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dqlite_py.errors import StartRefused
from dqlite_py.system.clock import SystemClock
from dqlite_py.system.network import NetworkTls, TcpNetwork, TcpStream
from dqlite_py.system.tls.contexts import TlsFiles, client_context, server_context
from dqlite_py.system.tls.refusals import Refusals
from dqlite_py.transport.contract import PeerIdentity, TransportLimits
from dqlite_py.transport.outbound import address_of
from dqlite_py.transport.transport import PeerTransport
from tests.kit.members import RecordingHandler, heartbeat, until
from tests.kit.pki import Authority, Pair
from tests.kit.ports import free_ports

SECRET = b"the secret of this cluster"


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    runner = asyncio.run if request.param == "asyncio" else pytest.importorskip("uvloop").run

    def limited(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await main

        runner(bounded())

    return limited


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def peer_tls(ca: Authority, pair: Pair, refusals: Refusals | None = None) -> NetworkTls:
    own = TlsFiles(str(pair.certificate), str(pair.key), str(ca.path))
    return NetworkTls(
        server_context(own, verify_clients=True, refusals=refusals), client_context(own)
    )


def member(number: int, port: int, network: TcpNetwork) -> tuple[PeerTransport, RecordingHandler]:
    handler = RecordingHandler()
    transport = PeerTransport(
        network,
        PeerIdentity(7, number),
        SECRET,
        SystemClock(),
        random.Random(number),
        TransportLimits(),
        handler,
        listen_addresses=[f"https://127.0.0.1:{port}"],
    )
    return transport, handler


@asynccontextmanager
async def running(*transports: PeerTransport) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(transport.run()) for transport in transports]
        yield
        for task in tasks:
            task.cancel()


def test_https_stays_with_the_address() -> None:
    assert address_of("https://h:2380") == "https://h:2380"
    assert address_of("http://h:2380") == "h:2380"
    assert address_of("h:2380") == "h:2380"


def test_members_talk_under_mutual_tls(run, ca: Authority) -> None:
    async def main() -> None:
        ports = free_ports()
        one, two = next(ports), next(ports)
        first, heard_first = member(1, one, TcpNetwork(peer_tls(ca, ca.issue("n1"))))
        second, heard_second = member(2, two, TcpNetwork(peer_tls(ca, ca.issue("n2"))))
        first.set_peers({2: [f"https://127.0.0.1:{two}"]})
        second.set_peers({1: [f"https://127.0.0.1:{one}"]})
        async with running(first, second):
            await until(lambda: first.connected() and second.connected())
            payload = random.Random(1).randbytes(3 << 20)
            assert await first.call(2, "echo", payload, 10.0) == b"echo" + payload
            second.send(heartbeat(2, 1, 5))
            await until(lambda: heard_first.messages)
        assert heard_first.messages[0].commit == 5
        assert not heard_second.errors

    run(main())


def test_a_member_without_a_good_certificate_is_refused(run, ca: Authority, tmp_path) -> None:
    told: list[str] = []

    class Told(Refusals):
        def note(self, reason: str) -> None:
            told.append(reason)

    async def main() -> None:
        ports = free_ports()
        one, two = next(ports), next(ports)
        stranger = Authority(tmp_path / "other", "other").issue("n2")
        tls = peer_tls(ca, ca.issue("n1"), refusals=Told("peer"))
        first, heard_first = member(1, one, TcpNetwork(tls))
        # It has the cluster's secret, and trusts the cluster's authority.
        theirs = NetworkTls(
            server_context(
                TlsFiles(str(stranger.certificate), str(stranger.key)), verify_clients=False
            ),
            client_context(TlsFiles(str(stranger.certificate), str(stranger.key), str(ca.path))),
        )
        second, heard_second = member(2, two, TcpNetwork(theirs))
        first.set_peers({2: [f"https://127.0.0.1:{two}"]})
        second.set_peers({1: [f"https://127.0.0.1:{one}"]})
        async with running(first, second):
            # Nor does the first trust the second's own port.
            untrusted = "certificate is not accepted"
            await until(lambda: any(untrusted in why for _, why in heard_first.disconnected))
            # The alert tells the second why.
            alert = "does not trust this certificate's authority"
            await until(lambda: any(alert in why for _, why in heard_second.disconnected))
            await until(lambda: told)
            assert not first.connected()
            assert not second.connected()
            assert not first.inbound_members()

    run(main())
    assert any("certificate is not accepted" in one for one in told)


def test_tls_and_none_do_not_mix(run, ca: Authority) -> None:
    refusals = Refusals("peer")

    async def main() -> None:
        ports = free_ports()
        one, two = next(ports), next(ports)
        tls = TcpNetwork(peer_tls(ca, ca.issue("n1"), refusals=refusals))
        first, _ = member(1, one, tls)
        second, heard = member(2, two, tls)
        second.set_peers({1: [f"http://127.0.0.1:{one}"]})
        async with running(first, second):
            await until(lambda: heard.disconnected and refusals.total)
        assert not first.inbound_members()

    run(main())


def test_https_without_certificates_is_refused_by_name(run) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionError, match=r"https://127\.0\.0\.1:1 asks for TLS"):
            await TcpNetwork().connect("https://127.0.0.1:1")

        async def accept(_stream: object) -> None:
            raise AssertionError

        with pytest.raises(StartRefused, match=r"https://127\.0\.0\.1:1: TLS is not set up"):
            await TcpNetwork().listen(["https://127.0.0.1:1"], accept)

    run(main())


def test_the_host_dialled_must_be_in_the_members_certificate(run, ca: Authority) -> None:
    async def dial(certified: str, dialled: str) -> None:
        port = next(free_ports())
        network = TcpNetwork(peer_tls(ca, ca.issue("n1", [certified])))

        async def accept(stream: TcpStream) -> None:
            stream.close()

        stop = await network.listen([f"https://127.0.0.1:{port}"], accept)
        try:
            (await network.connect(f"https://{dialled}:{port}")).close()
        finally:
            stop()

    async def main() -> None:
        await dial("127.0.0.1", "127.0.0.1")
        await dial("localhost", "localhost")
        for certified, dialled in (("127.0.0.1", "localhost"), ("localhost", "127.0.0.1")):
            with pytest.raises(ConnectionError, match="mismatch"):
                await dial(certified, dialled)

    run(main())

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dqlite_py.errors import StartRefused
from dqlite_py.system import network
from dqlite_py.system.clock import SystemClock
from dqlite_py.system.network import TcpNetwork, TcpStream, parse_address
from dqlite_py.transport.contract import PeerIdentity, TransportLimits
from dqlite_py.transport.transport import PeerTransport
from tests.kit.members import RecordingHandler, heartbeat, until


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def run(main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await main

    asyncio.run(limited())


async def connected() -> tuple[TcpStream, TcpStream, Callable[[], None]]:
    address = free_address()
    accepted: asyncio.Future[TcpStream] = asyncio.get_running_loop().create_future()

    async def accept(stream: TcpStream) -> None:
        accepted.set_result(stream)

    stop = await TcpNetwork().listen([address], accept)
    return await TcpNetwork().connect(address), await accepted, stop


@pytest.mark.parametrize(
    ("address", "parsed"),
    [
        ("127.0.0.1:2380", ("127.0.0.1", 2380)),
        ("[::1]:2380", ("::1", 2380)),
        ("host.example:1", ("host.example", 1)),
        (":2380", ("", 2380)),
    ],
)
def test_addresses_are_host_and_port(address: str, parsed: tuple[str, int]) -> None:
    assert parse_address(address) == parsed


@pytest.mark.parametrize(
    "address", ["", "host", "host:", "host:x", "host:70000", "::1:2380", "h:٣"]
)
def test_what_is_no_address_is_named(address: str) -> None:
    with pytest.raises(ValueError, match="address"):
        parse_address(address)


def test_an_address_in_use_or_unknown_refuses_to_start_in_one_line() -> None:
    async def main() -> None:
        async def accept(stream: TcpStream) -> None:
            raise AssertionError

        address = free_address()
        stop = await TcpNetwork().listen([address], accept)
        with pytest.raises(StartRefused) as raised:
            await TcpNetwork().listen([address], accept)
        assert raised.value.reason == f"cannot listen on {address}: Address already in use"
        with pytest.raises(StartRefused, match="cannot listen on nonsense"):
            await TcpNetwork().listen(["nonsense"], accept)
        stop()

    run(main())


def test_connecting_to_nobody_or_nowhere_is_a_connection_error() -> None:
    async def main() -> None:
        for address in (free_address(), "nonsense"):
            with pytest.raises(ConnectionError):
                await TcpNetwork().connect(address)

    run(main())


def test_bytes_arrive_exactly_whatever_their_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "READ_BUFFER_BYTES", 1000)

    async def main() -> None:
        here, there, stop = await connected()
        data = random.Random(1).randbytes(3_000_000)
        here.write(data)
        received = await there.read_exactly(10) + await there.read_exactly(2_000_000)
        received += await there.read_exactly(len(data) - len(received))
        assert received == data
        here.close()
        with pytest.raises(ConnectionError):
            await there.read_exactly(1)
        with pytest.raises(ConnectionError):
            await here.read_exactly(1)
        stop()

    run(main())


def test_bytes_received_before_the_end_can_still_be_read() -> None:
    async def main() -> None:
        here, there, stop = await connected()
        there.write(b"last words")
        await asyncio.sleep(0)
        there.close()
        assert await here.read_exactly(4) == b"last"
        assert await here.read_exactly(6) == b" words"
        with pytest.raises(ConnectionError):
            await here.read_exactly(1)
        there.write(b"into the void")
        with pytest.raises(ConnectionError):
            await there.drain()
        stop()

    run(main())


def test_a_reader_that_stops_reading_bounds_both_sides() -> None:
    async def main() -> None:
        here, there, stop = await connected()
        total = 64 << 20
        here.write(bytes(total))
        drained = asyncio.ensure_future(here.drain())
        settled = -1
        while settled != here.buffered_bytes():
            settled = here.buffered_bytes()
            await asyncio.wait([drained], timeout=0.05)
        assert not drained.done()
        assert here.buffered_bytes() > total // 4
        assert len(there._buffer) <= network.READ_BUFFER_BYTES + (256 << 10)
        await there.read_exactly(total)
        await drained
        assert here.buffered_bytes() == 0
        here.close()
        there.close()
        stop()

    run(main())


def test_two_members_talk_over_real_sockets() -> None:
    async def main() -> None:
        addresses = {1: free_address(), 2: free_address()}
        handlers = {member: RecordingHandler() for member in addresses}
        transports = {
            member: PeerTransport(
                TcpNetwork(),
                PeerIdentity(1, member),
                b"a secret of real members",
                SystemClock(),
                random.SystemRandom(),
                TransportLimits(),
                handlers[member],
                listen_addresses=[address],
            )
            for member, address in addresses.items()
        }
        async with asyncio.TaskGroup() as group:
            tasks = []
            for transport in transports.values():
                transport.set_peers({m: [f"http://{a}"] for m, a in addresses.items()})
                tasks.append(group.create_task(transport.run()))
            await until(transports[1].connected)
            payload = bytes(5 << 20)
            assert await transports[1].call(2, "echo", payload, 10) == b"echo" + payload
            for number in range(1000):
                transports[1].send(heartbeat(1, 2, number))
            await until(lambda: len(handlers[2].messages) == 1000)
            assert [message.commit for message in handlers[2].messages] == list(range(1000))
            for task in tasks:
                task.cancel()
        assert handlers[1].errors == handlers[2].errors == []

    run(main())


def test_a_listener_in_use_fails_run_with_start_refused() -> None:
    async def main() -> None:
        address = free_address()
        transports = [
            PeerTransport(
                TcpNetwork(),
                PeerIdentity(1, 1),
                bytes(16),
                SystemClock(),
                random.SystemRandom(),
                TransportLimits(),
                RecordingHandler(),
                listen_addresses=[f"http://{address}"],
            )
            for _ in range(2)
        ]
        listening = asyncio.Event()
        first = asyncio.ensure_future(transports[0].run(listening.set))
        await listening.wait()
        with pytest.raises(StartRefused, match=address):
            await transports[1].run()
        first.cancel()
        await asyncio.wait([first])

    run(main())

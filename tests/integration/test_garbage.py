"""Strangers at the ports: the server stays up, stays small, and goes on serving who behaves."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from tests.kit.etcd_client import EtcdClient
from tests.kit.processes import Cluster, ServerProcess
from tests.kit.products import Dqlite, under_test

pytestmark = pytest.mark.process

TIMEOUT_S = 5.0
GROWTH_MIB = 40
SLOWEST_PUT_S = 5.0
MANY = 300
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    if under_test().name != "dqlite":
        pytest.skip("about this project's own ports")
    folder = tmp_path_factory.mktemp("garbage")
    with Cluster(Dqlite(), size=1, directory=folder) as cluster:
        (lone,) = cluster.members
        lone.start()
        yield lone


def rss_mib(server: ServerProcess) -> float:
    status = Path(f"/proc/{server.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@contextmanager
def served_meanwhile(server: ServerProcess) -> Iterator[None]:
    """Let a well-behaved client put and get all the while; every answer must be right and soon."""
    done = threading.Event()
    slowest: list[float] = []
    failures: list[BaseException] = []

    def work() -> None:
        number = 0
        try:
            while not done.is_set() or number < 5:
                number += 1
                begun = time.monotonic()
                server.client.put(b"good", b"%d" % number, timeout_s=TIMEOUT_S)
                assert server.client.get(b"good") == b"%d" % number
                slowest.append(time.monotonic() - begun)
        except BaseException as error:
            failures.append(error)

    before = rss_mib(server)
    client = threading.Thread(target=work)
    client.start()
    try:
        yield
    finally:
        done.set()
        client.join()
    for failure in failures:
        raise failure
    after = rss_mib(server)
    print(f"slowest {max(slowest):.3f} s of {len(slowest)}; RSS {before:.0f} -> {after:.0f} MiB")
    assert max(slowest) < SLOWEST_PUT_S
    assert server.running
    assert after - before < GROWTH_MIB
    assert b"Traceback" not in server.log()


def throw(port: int, *pieces: bytes) -> bytes:
    """Connect, send, and return what comes back until the server hangs up or says no more."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as stranger:
        stranger.settimeout(0.2)
        with suppress(OSError):
            for piece in pieces:
                stranger.sendall(piece)
            while len(heard) < 1 << 16 and (more := stranger.recv(4096)):
                heard += more
    return heard


def h2_frame(
    kind: int, flags: int, stream: int, payload: bytes, length: int | None = None
) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def client_garbage(random: Random) -> list[tuple[bytes, ...]]:
    """Return what is sent to the client port, a connection each."""
    grpc_head = (
        b"POST /etcdserverpb.KV/Put HTTP/1.1\r\nHost: x\r\nContent-Type: application/grpc\r\n"
    )
    return [
        *[(random.randbytes(random.randrange(1, 5000)),) for _ in range(10)],
        (bytes(10_000),),
        (b"\xff" * 10_000,),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",),
        (grpc_head + b"Content-Length: 10\r\n\r\n" + bytes(10),),
        (grpc_head,),
        (PREFACE[:7],),
        (PREFACE, random.randbytes(3000)),
        (PREFACE, SETTINGS, h2_frame(0, 0, 1, b"data on no stream")),
        (PREFACE, SETTINGS, h2_frame(1, 4, 1, random.randbytes(200))),
        (PREFACE, SETTINGS, h2_frame(1, 4, 1, b"", length=0xFFFFFF), bytes(1 << 20)),
        (PREFACE, SETTINGS, *[h2_frame(3, 0, n * 2 + 1, bytes(4)) for n in range(500)]),
        (PREFACE, SETTINGS, *[h2_frame(6, 0, 0, bytes(8)) for _ in range(2000)]),
        (PREFACE, SETTINGS, h2_frame(9, 0, 1, bytes(100))),
    ]


def peer_frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def peer_garbage(random: Random) -> list[tuple[bytes, ...]]:
    """Return what is sent to the peer port, a connection each."""
    return [
        *[(random.randbytes(random.randrange(1, 5000)),) for _ in range(10)],
        *[(peer_frame(random.randbytes(random.randrange(1, 400))),) for _ in range(10)],
        (b"\xff\xff\xff\xff", bytes(1 << 20)),
        (b"\0\0\0\0",),
        (b"\0\0",),
        (peer_frame(b"\x90"),),  # an empty array
        (peer_frame(b"\xdd\xff\xff\xff\xff"),),  # an array that claims four thousand million items
        (peer_frame(b"\x91" * 200),),  # arrays in arrays
        (peer_frame(b"\x99\xafdqlite-py peer" + bytes(40)),),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",),
        (PREFACE, SETTINGS),
    ]


PORTS: dict[str, tuple[Callable[[ServerProcess], int], Callable[[Random], list[tuple[bytes, ...]]]]]
PORTS = {
    "client": (lambda server: server.address.client_port, client_garbage),
    "peer": (lambda server: server.address.real_peer_port, peer_garbage),
    "metrics": (lambda server: server.address.metrics_port, client_garbage),
}


@pytest.mark.parametrize("port", PORTS)
def test_garbage_hurts_nobody(server: ServerProcess, port: str) -> None:
    number, garbage = PORTS[port]
    with served_meanwhile(server):
        for pieces in garbage(Random(port)):
            throw(number(server), *pieces)


@pytest.mark.parametrize("port", PORTS)
def test_many_silent_connections_hurt_nobody(server: ServerProcess, port: str) -> None:
    number = PORTS[port][0](server)
    held: list[socket.socket] = []
    try:
        with served_meanwhile(server):
            for _ in range(MANY):
                stranger = socket.create_connection(("127.0.0.1", number), TIMEOUT_S)
                stranger.sendall(b"\0")
                held.append(stranger)
            newcomer = EtcdClient(server.address.client)
            newcomer.put(b"new", b"connection")
            newcomer.close()
            for stranger in held[::2]:
                stranger.close()
    finally:
        for stranger in held:
            stranger.close()


def test_a_stranger_is_told_nothing_about_the_server(server: ServerProcess) -> None:
    for port in (server.address.real_peer_port, server.address.client_port):
        for pieces in ((b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",), (b"\xff" * 100,)):
            heard = throw(port, *pieces)
            assert str(server.address.data_dir).encode() not in heard
            assert b"Traceback" not in heard

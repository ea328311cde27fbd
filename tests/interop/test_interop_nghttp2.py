"""nghttp and h2load, the programs of nghttp2, speak gRPC frames with the server."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.processes import ServerProcess, run
from tests.kit.toolchains import debian_program

pytestmark = pytest.mark.process

HEADERS = ("-H", "content-type: application/grpc", "-H", "te: trailers")
PACKAGE = "nghttp2-client"


@pytest.fixture
def put(tmp_path: Path) -> Path:
    """A file with the body of a Put."""
    message = rpc.PutRequest(key=b"nghttp2", value=b"v" * 256).SerializeToString()
    path = tmp_path / "put"
    path.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
    return path


def test_nghttp_sees_headers_data_and_trailers(
    put: Path, server: ServerProcess, built: Callable[..., str]
) -> None:
    program = built(lambda: debian_program("nghttp", PACKAGE))
    url = f"http://{server.address.client}/etcdserverpb.KV/Put"
    done = run([program, "--verbose", "--null-out", *HEADERS, f"--data={put}", url])
    assert done.returncode == 0, done.stderr
    assert re.search(r":status: 200\n", done.stdout), done.stdout
    assert re.search(r"content-type: application/grpc", done.stdout), done.stdout
    assert re.search(r"grpc-status: 0\n", done.stdout), done.stdout
    assert set(re.findall(r"error_code=(\w+)", done.stdout)) <= {"NO_ERROR"}


@pytest.mark.parametrize(
    ("requests", "connections", "streams"),
    [(1_000, 2, 50), pytest.param(20_000, 20, 100, marks=pytest.mark.long)],
)
def test_h2load_is_answered_every_time(
    requests: int,
    connections: int,
    streams: int,
    put: Path,
    server: ServerProcess,
    built: Callable[..., str],
) -> None:
    program = built(lambda: debian_program("h2load", PACKAGE))
    before = version_of(server)
    done = run(
        [
            program,
            f"--requests={requests}",
            f"--clients={connections}",
            f"--max-concurrent-streams={streams}",
            f"--data={put}",
            *HEADERS,
            f"http://{server.address.client}/etcdserverpb.KV/Put",
        ],
        200.0,
    )
    assert done.returncode == 0, done.stderr
    assert f"{requests} succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout
    assert version_of(server) - before == requests


def version_of(server: ServerProcess) -> int:
    """Return how often the key was put."""
    kvs = server.client.range(b"nghttp2").kvs
    return kvs[0].version if kvs else 0

"""curl at the client port: HTTP/1.1, HTTP/2 in the clear and under TLS, gRPC by hand."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.pki import Authority
from tests.kit.processes import ServerProcess, run
from tests.kit.products import under_test
from tests.kit.tls_servers import tls_server
from tests.kit.toolchains import debian_program

pytestmark = pytest.mark.process

CLEAR = {"http/1.1": "--http1.1", "h2c": "--http2-prior-knowledge"}
SECURE = {"http/1.1": "--http1.1", "h2": "--http2"}
PROTOCOL = {"http/1.1": "1.1", "h2c": "2", "h2": "2"}


@pytest.fixture(autouse=True)
def _has_curl(built: Callable[..., str]) -> None:
    built(lambda: debian_program("curl", "curl"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secure(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[ServerProcess]:
    with tls_server(tmp_path_factory.mktemp("secure"), authority.issue("server")) as lone:
        yield lone


def curl(*arguments: str) -> tuple[str, str, int]:
    """Return the protocol's version, the body and the status of one request."""
    form = "--write-out", "\n%{http_version} %{http_code}"
    done = run(["curl", "--silent", "--show-error", "--max-time", "20", *form, *arguments])
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    body, _, last = done.stdout.rpartition("\n")
    version, status = last.split()
    return version, body, int(status)


def _skip_clear_http2_of_etcd(protocol: str) -> None:
    if protocol == "h2c" and under_test().name == "etcd":
        pytest.skip("etcd takes clear HTTP/2 for gRPC")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def check_json(base: str, protocol: str, *arguments: str) -> None:
    """Ask for the version, put, range, and be refused, all in JSON."""
    version, body, status = curl(*arguments, f"{base}/version")
    assert (version, status) == (PROTOCOL[protocol], 200)
    assert set(json.loads(body)) >= {"etcdserver", "etcdcluster"}

    key, value = encoded(f"curl {protocol}"), encoded("a value")
    put = json.dumps({"key": key, "value": value})
    version, body, status = curl(*arguments, "-d", put, f"{base}/v3/kv/put")
    assert (version, status) == (PROTOCOL[protocol], 200), body
    assert int(json.loads(body)["header"]["revision"]) > 1

    _, body, status = curl(*arguments, "-d", json.dumps({"key": key}), f"{base}/v3/kv/range")
    assert status == 200
    assert [(kv["key"], kv["value"]) for kv in json.loads(body)["kvs"]] == [(key, value)]

    _, body, status = curl(*arguments, "-d", "{}", f"{base}/v3/kv/put")
    answer = json.loads(body)
    assert status == 400
    assert answer["code"] == 3
    assert answer["message"] == "etcdserver: key is not provided"

    assert curl(*arguments, "-d", "{}", f"{base}/v3/nonsense")[2] == 404


@pytest.mark.parametrize("protocol", CLEAR)
def test_json_in_the_clear(protocol: str, server: ServerProcess) -> None:
    _skip_clear_http2_of_etcd(protocol)
    check_json(f"http://{server.address.client}", protocol, CLEAR[protocol])


@pytest.mark.parametrize("protocol", SECURE)
def test_json_under_tls(protocol: str, secure: ServerProcess, authority: Authority) -> None:
    base = f"https://{secure.address.client}"
    check_json(base, protocol, SECURE[protocol], "--cacert", str(authority.path))


def test_a_stranger_to_the_authority_does_not_talk(secure: ServerProcess) -> None:
    done = run(["curl", "--silent", "--max-time", "20", f"https://{secure.address.client}/version"])
    assert done.returncode == 60, "curl must not trust this server without its authority"


def test_a_grpc_call_by_hand(server: ServerProcess, tmp_path: Path) -> None:
    message = rpc.RangeRequest(key=b"\0", range_end=b"\0", limit=1).SerializeToString()
    request = tmp_path / "request"
    request.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
    answer, heads = tmp_path / "answer", tmp_path / "heads"
    url = f"http://{server.address.client}/etcdserverpb.KV/Range"
    version, _, status = curl(
        "--http2-prior-knowledge",
        *("-H", "content-type: application/grpc", "-H", "te: trailers"),
        *("--data-binary", f"@{request}", "-o", str(answer), "-D", str(heads), url),
    )
    assert (version, status) == ("2", 200)
    assert "grpc-status: 0" in heads.read_text()
    body = answer.read_bytes()
    compressed, length = struct.unpack_from(">BI", body)
    assert (compressed, length) == (0, len(body) - 5)
    assert rpc.RangeResponse.FromString(body[5:]).header.revision >= 1


@pytest.mark.parametrize("path", ["/health", "/version", "/metrics"])
@pytest.mark.parametrize("protocol", CLEAR)
def test_pages_on_the_client_port(path: str, protocol: str, server: ServerProcess) -> None:
    _skip_clear_http2_of_etcd(protocol)
    version, body, status = curl(CLEAR[protocol], f"http://{server.address.client}{path}")
    assert (version, status) == (PROTOCOL[protocol], 200)
    assert body

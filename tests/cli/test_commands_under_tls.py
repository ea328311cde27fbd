"""The command line's own connections: etcdctl's flags, and refusals in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import grpc
import pytest

from dqlite_py.cli.channels import ClientTls, Target
from dqlite_py.cli.endpoints import parse_endpoints
from dqlite_py.cli.main import main
from dqlite_py.pb import rpc_pb2
from tests.kit.pki import Authority, Pair

METHOD = "Status"


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def client(ca: Authority) -> Pair:
    return ca.issue("client")


@pytest.fixture
def endpoint(ca: Authority) -> Iterator[str]:
    """A server that asks for certificates and knows one call."""
    server_pair = ca.issue("server", ["localhost"])
    status = grpc.unary_unary_rpc_method_handler(
        lambda _request, _context: rpc_pb2.StatusResponse(version="9.9.9"),
        request_deserializer=rpc_pb2.StatusRequest.FromString,
        response_serializer=rpc_pb2.StatusResponse.SerializeToString,
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("etcdserverpb.Maintenance", {METHOD: status})]
    )
    credentials = grpc.ssl_server_credentials(
        [(server_pair.key.read_bytes(), server_pair.certificate.read_bytes())],
        ca.path.read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait()


def status(capsys: Any, *flags: str) -> tuple[int, list[dict[str, Any]], str]:
    code = main(["status", *flags, "-o", "json"])
    printed = capsys.readouterr()
    return code, json.loads(printed.out or "[]"), printed.err


def shown(pair: Pair) -> list[str]:
    return [f"--cert={pair.certificate}", f"--key={pair.key}"]


@pytest.mark.parametrize("scheme", ["https://", ""])
def test_a_command_proves_itself_and_verifies_the_server(
    ca: Authority, client: Pair, endpoint: str, scheme: str, capsys
) -> None:
    flags = [f"--endpoints={scheme}{endpoint}", f"--cacert={ca.path}", *shown(client)]
    code, rows, error = status(capsys, *flags)
    assert (code, error) == (0, "")
    assert rows[0]["version"] == "9.9.9"
    assert rows[0]["endpoint"] == endpoint


def test_variables_do_as_well(
    ca: Authority, client: Pair, endpoint: str, capsys, monkeypatch
) -> None:
    monkeypatch.setenv("DQLITE_PY_ENDPOINTS", f"https://{endpoint}")
    monkeypatch.setenv("DQLITE_PY_CACERT", str(ca.path))
    monkeypatch.setenv("DQLITE_PY_CERT", str(client.certificate))
    monkeypatch.setenv("DQLITE_PY_KEY", str(client.key))
    assert status(capsys)[0] == 0


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_verification_can_be_skipped(client: Pair, endpoint: str, host: str, capsys) -> None:
    address = endpoint.replace("localhost", host)
    flags = [f"--endpoints=https://{address}", "--insecure-skip-tls-verify", *shown(client)]
    code, rows, error = status(capsys, *flags)
    assert (code, error) == (0, "")
    assert rows[0]["version"] == "9.9.9"


def test_a_server_of_a_stranger_or_another_host_is_not_believed(
    ca: Authority, client: Pair, endpoint: str, tmp_path: Path, capsys
) -> None:
    stranger = Authority(tmp_path / "other", "other")
    address = endpoint.replace("localhost", "127.0.0.1")
    for flags in (
        [f"--endpoints=https://{endpoint}", f"--cacert={stranger.path}", *shown(client)],
        [f"--endpoints=https://{endpoint}", *shown(client)],
        [f"--endpoints=https://{address}", f"--cacert={ca.path}", *shown(client)],
    ):
        code, rows, error = status(capsys, *flags)
        assert (code, rows) == (1, [])
        assert error.count("\n") == 1
        assert "certificate" in error.lower() or "Hostname Verification" in error


def test_a_command_without_tls_is_told_what_to_add(endpoint: str, capsys) -> None:
    code, _, error = status(capsys, f"--endpoints=http://{endpoint}")
    assert code == 1
    assert error.count("\n") == 1
    assert "needs https://" in error


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--cert=a.crt"], "--cert and --key belong together"),
        (["--endpoints=ftp://a:1"], "is not http"),
    ],
)
def test_wrong_usage_is_2(flags: list[str], line: str, capsys) -> None:
    assert main(["status", *flags]) == 2
    assert line in capsys.readouterr().err


def test_a_file_that_does_not_do_is_named(ca: Authority, endpoint: str, capsys) -> None:
    code, _, error = status(capsys, f"--endpoints=https://{endpoint}", f"--cacert={ca.path}.absent")
    assert code == 1
    assert "ca.crt.absent: No such file" in error


def test_schemes_decide_and_flags_where_there_is_none() -> None:
    tls = ClientTls(cacert="ca")
    assert parse_endpoints("a:1,http://b:2,https://c:3", tls) == [
        Target("a:1", tls),
        Target("b:2"),
        Target("c:3", tls),
    ]
    assert parse_endpoints("a:1,unix:///run/x.sock") == [
        Target("a:1"),
        Target("/run/x.sock", is_unix=True),
    ]
    with pytest.raises(click.UsageError):
        parse_endpoints("")

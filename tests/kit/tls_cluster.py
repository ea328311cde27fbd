"""Clusters whose clients and members speak under mutual TLS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import grpc

from tests.kit.pki import Authority, Pair
from tests.kit.processes import Cluster
from tests.kit.products import Address, Dqlite, Options

SECURE_FLAGS = (
    "--server=",
    "--listen-client-urls=",
    "--advertise-client-urls=",
    "--listen-peer-urls=",
    "--initial-advertise-peer-urls=",
    "--listen-metrics-urls=",
)


def under_https(command: Sequence[str]) -> list[str]:
    """Return the command line with every URL under TLS."""
    return [
        flag.replace("http://", "https://") if flag.startswith(SECURE_FLAGS) else flag
        for flag in command
    ]


def client_flags(pair: Pair, ca: Authority) -> list[str]:
    """Return etcd's flags that serve clients with ``pair`` and verify them with ``ca``."""
    return [
        f"--cert-file={pair.certificate}",
        f"--key-file={pair.key}",
        f"--trusted-ca-file={ca.path}",
        "--client-cert-auth",
    ]


def peer_flags(pair: Pair, ca: Authority) -> list[str]:
    """Return the same for members."""
    return [
        f"--peer-cert-file={pair.certificate}",
        f"--peer-key-file={pair.key}",
        f"--peer-trusted-ca-file={ca.path}",
        "--peer-client-cert-auth",
    ]


class SecureDqlite(Dqlite):
    """This project's server with a certificate for each member."""

    def __init__(self, ca: Authority) -> None:
        self._ca = ca

    def command(
        self, own: Address, everyone: Sequence[Address], options: Options, secret: str
    ) -> list[str]:
        pair = self._ca.issue(own.name)
        plain = super().command(own, everyone, options, secret)
        return [
            *under_https(plain),
            *client_flags(pair, self._ca),
            *peer_flags(pair, self._ca),
        ]


def credentials(ca: Authority, pair: Pair | None) -> grpc.ChannelCredentials:
    """Return what a client shows, if anything, and whom it trusts."""
    shown = (None, None) if pair is None else (pair.key.read_bytes(), pair.certificate.read_bytes())
    return grpc.ssl_channel_credentials(ca.path.read_bytes(), *shown)


def secure_cluster(
    ca: Authority, folder: Path, size: int = 3, secret: str = "kit-token"
) -> Cluster:
    """Return an unstarted cluster under TLS, with a client's certificate for the kit."""
    cluster = Cluster(SecureDqlite(ca), size, directory=folder, secret=secret)
    client = ca.issue("kit-client")
    for member in cluster.members:
        member.credentials = credentials(ca, client)
    return cluster

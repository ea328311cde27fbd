"""Where one member lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Address:
    """A member's place: ``peer_port`` is what it advertises, ``real_peer_port`` its own.

    The two differ only where a proxy stands between the members. ``namespace`` names the
    network namespace that the process runs in, if it has its own.
    """

    name: str
    directory: Path
    host: str
    client_port: int
    peer_port: int
    real_peer_port: int
    metrics_port: int
    namespace: str | None = None

    @property
    def client(self) -> str:
        """The address for clients, as host:port."""
        return f"{self.host}:{self.client_port}"

    @property
    def client_url(self) -> str:
        """The address for clients, as a URL."""
        return f"http://{self.client}"

    @property
    def peer_url(self) -> str:
        """The address for other members, as a URL."""
        return f"http://{self.host}:{self.peer_port}"

    @property
    def data_dir(self) -> Path:
        """The directory that the server keeps its data in."""
        return self.directory / "data"

"""A lone member that serves its clients under TLS only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kit.pki import Pair
from tests.kit.processes import Cluster, ServerProcess
from tests.kit.products import under_test

CLIENT_URLS = ("--listen-client-urls=", "--advertise-client-urls=")


@contextmanager
def tls_server(folder: Path, pair: Pair, *extra: str) -> Iterator[ServerProcess]:
    """Start a member with this certificate, and ``extra`` flags; it has said it is ready."""
    with Cluster(under_test(), size=1, directory=folder) as cluster:
        (lone,) = cluster.members
        command = [
            flag.replace("http://", "https://") if flag.startswith(CLIENT_URLS) else flag
            for flag in lone.command
        ]
        lone.command = [
            *command,
            f"--cert-file={pair.certificate}",
            f"--key-file={pair.key}",
            *extra,
        ]
        lone.start()
        yield lone

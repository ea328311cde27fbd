"""Free loopback ports that outgoing connections do not take.

A server that is killed and restarted must find its port still free, so ports are picked below the
range from which the kernel gives ports to outgoing connections.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

LOWEST_PORT = 20_000
HIGHEST_PORT = 32_000


def free_ports(lowest: int = LOWEST_PORT, highest: int = HIGHEST_PORT) -> Iterator[int]:
    """Yield distinct ports of 127.0.0.1 on which nothing listened a moment ago.

    Those who take ports at the same time and may stop listening for a while need ranges apart.
    """
    candidates = list(range(lowest, highest))
    random.SystemRandom().shuffle(candidates)
    for port in candidates:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port

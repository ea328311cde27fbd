"""Asking, below HTTP, whether a peer still exists."""

from __future__ import annotations

import asyncio
import socket

IDLE_S = 30  # etcd behaviour, as is the interval
INTERVAL_S = 30


def keep_alive(server: asyncio.Server) -> None:
    """Let the kernel probe the connections of a listening server, and end those of vanished peers.

    HTTP/1.1 has no pings: without this a client that vanished while its watch was silent would be
    kept for ever. Accepted sockets inherit the options (Linux); unix sockets have no need of them.
    """
    for one in server.sockets:
        if one.family in (socket.AF_INET, socket.AF_INET6):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)

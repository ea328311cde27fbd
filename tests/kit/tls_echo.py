"""A loopback server that echoes one line a connection, and a client for it, both under TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

TIMEOUT_S = 10.0


@asynccontextmanager
async def echoing(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Serve while the block lasts; give the port."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            writer.write(await reader.readline())
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def ask(port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> ssl.SSLObject:
    """Echo a line; return the connection's TLS. Raises ssl.SSLError or ConnectionError."""
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname=host
        )
        try:
            spoken: Any = writer.get_extra_info("ssl_object")
            writer.write(b"hello\n")
            answer = await reader.readline()
            if answer != b"hello\n":
                raise ConnectionError("no echo")
            return spoken
        finally:
            writer.transport.abort()


def subject(spoken: ssl.SSLObject) -> str:
    """Return the common name of the other side's verified certificate."""
    found: Any = spoken.getpeercert()
    return {key: value for ((key, value),) in found["subject"]}["commonName"]

"""The kernel asks for clients that say nothing: HTTP/1.1 has no pings of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from dqlite_py.api.http import HttpServer
from dqlite_py.http.client_port import Bind
from tests.http.test_client_port_stop import failed, no_page, port

KEEPALIVE_TIMER = "02"  # in the column of timers in proc(5)


async def timer_of(number: int) -> str:
    """Connect; return which timer runs for the server's end of the connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", number)
    client = writer.get_extra_info("sockname")[1]
    timer = timer_between(number, client)
    writer.transport.abort()
    return timer


def timer_between(number: int, client: int) -> str:
    ours, theirs = f":{number:04X}", f":{client:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    (found,) = (row for row in rows if row[1].endswith(ours) and row[2].endswith(theirs))
    return found[5].partition(":")[0]


async def client_port() -> None:
    server = port()
    (number,) = await server.start([Bind("127.0.0.1", 0)])
    assert await timer_of(number) == KEEPALIVE_TIMER
    await server.stop(0.0)


async def metrics_port() -> None:
    server = HttpServer(no_page, failed)
    async with asyncio.TaskGroup() as tasks:
        (number,) = await server.start(["127.0.0.1:0"], tasks)
        assert await timer_of(number) == KEEPALIVE_TIMER
        await server.stop()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("listening", [client_port, metrics_port])
def test_the_kernel_probes_silent_clients(
    run: Callable[[Coroutine[Any, Any, None]], None],
    listening: Callable[[], Coroutine[Any, Any, None]],
) -> None:
    run(listening())

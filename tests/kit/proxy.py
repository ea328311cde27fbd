"""A TCP proxy between members that can cut, stall or delay each directed link.

Every member advertises its proxy's address to its peers, so all traffic between members passes
here. Who opened a connection is found without reading a byte of it: the kernel's table of TCP
sockets tells which process owns the other end. The same proxy therefore serves any product.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHUNK_BYTES = 65_536
CALL_TIMEOUT_S = 10.0


def owner_of_port(local_port: int, pids: dict[str, int]) -> str | None:
    """Return which of the named processes holds the 127.0.0.1 socket bound to ``local_port``."""
    wanted = f"0100007F:{local_port:04X}"
    inode = None
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1] == wanted and columns[9] != "0":
            inode = columns[9]
            break
    if inode is None:
        return None
    for name, pid in pids.items():
        try:
            links = [entry.readlink().name for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue  # the process ended, or a descriptor closed, while we looked
        if f"socket:[{inode}]" in links:
            return name
    return None


@dataclass
class Link:
    """The state of the connections opened by one member to another."""

    cut: bool = False
    delay_s: float = 0.0
    flowing: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    bytes_forward: int = 0
    bytes_back: int = 0

    def abort(self) -> None:
        """Reset every connection of this link."""
        for writer in list(self.writers):
            writer.transport.abort()


class PeerProxy:
    """One listening address per member, in front of that member's real peer address."""

    def __init__(self, pids: Callable[[], dict[str, int]]) -> None:
        self._pids = pids
        self._links: dict[tuple[str, str], Link] = {}
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_TIMEOUT_S)

    def add(self, target: str, listen_port: int, real_port: int) -> None:
        """Forward 127.0.0.1:``listen_port`` to the member ``target`` at ``real_port``."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            # asyncio's streams ask this task for its exception, which a cancelled one has not.
            with suppress(asyncio.CancelledError):
                await self._serve(target, real_port, reader, writer)
            self._tasks.discard(task)

        async def listen() -> None:
            self._servers.append(await asyncio.start_server(accept, "127.0.0.1", listen_port))

        self._call(listen())

    async def _serve(
        self,
        target: str,
        real_port: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        source = owner_of_port(writer.get_extra_info("peername")[1], self._pids())
        link = self._link(source or "unknown", target)
        if link.cut or source is None:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", real_port)
        except OSError:
            writer.transport.abort()
            return
        link.writers |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(link, reader, far_writer, forward=True))
                group.create_task(self._pump(link, far_reader, writer, forward=False))
        finally:
            link.writers -= {writer, far_writer}
            writer.transport.abort()
            far_writer.transport.abort()

    async def _pump(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        forward: bool,
    ) -> None:
        try:
            while data := await reader.read(CHUNK_BYTES):
                if link.delay_s:
                    await asyncio.sleep(link.delay_s)
                await link.flowing.wait()
                if forward:
                    link.bytes_forward += len(data)
                else:
                    link.bytes_back += len(data)
                writer.write(data)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except (ConnectionError, OSError):
            writer.transport.abort()

    def _link(self, source: str, target: str) -> Link:
        link = self._links.get((source, target))
        if link is None:
            link = self._links[source, target] = Link()
            link.flowing.set()
        return link

    def cut(self, source: str, target: str) -> None:
        """Reset what ``source`` opened to ``target`` and refuse it from now on."""

        async def work() -> None:
            link = self._link(source, target)
            link.cut = True
            link.abort()

        self._call(work())

    def stall(self, source: str, target: str) -> None:
        """Keep connections open but let no byte through, either way."""

        async def work() -> None:
            self._link(source, target).flowing.clear()

        self._call(work())

    def delay(self, source: str, target: str, delay_s: float) -> None:
        """Hold each chunk for ``delay_s`` before passing it on."""

        async def work() -> None:
            self._link(source, target).delay_s = delay_s

        self._call(work())

    def heal(self) -> None:
        """Open every link again; connections that were reset stay so until opened anew."""

        async def work() -> None:
            for link in self._links.values():
                link.cut = False
                link.delay_s = 0.0
                link.flowing.set()

        self._call(work())

    def isolate(self, member: str, others: list[str]) -> None:
        """Cut ``member`` off from all ``others``, both ways."""
        for other in others:
            self.cut(member, other)
            self.cut(other, member)

    def transferred_bytes(self, member: str | None = None) -> int:
        """Return the bytes passed so far, both ways; with ``member`` only those to or from it."""
        return sum(
            link.bytes_forward + link.bytes_back
            for ends, link in list(self._links.items())
            if member is None or member in ends
        )

    def close(self) -> None:
        """Reset everything and stop listening."""

        async def work() -> None:
            for server in self._servers:
                server.close()
            for link in self._links.values():
                link.flowing.set()
                link.abort()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for server in self._servers:
                await server.wait_closed()

        self._call(work())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_TIMEOUT_S)
        self._loop.close()

"""A network on virtual time: ordered byte streams with latency, partitions, pauses and crashes.

Like TCP, a stream loses and reorders nothing while it lives: bytes sent into a cut link wait and
arrive after it heals, and a connection attempt into it hangs. Each direction of each connection
draws its latencies from a generator of its own, named by the seed and both nodes, so that what
one node does never changes another's luck.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

from dqlite_py.errors import StartRefused

SEND_BUFFER_BYTES = 1 << 20

LinkLatency = Callable[[random.Random, str, str], float]


def local_network(rng: random.Random, source: str, target: str) -> float:
    """Latency in seconds of one write: a switched network with rare stalls."""
    return rng.uniform(50e-6, 300e-6) if rng.random() < 0.99 else rng.uniform(2e-3, 20e-3)


class SimNetwork:
    """All nodes' connections; ``node(name)`` gives each node its ``seams.Network``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seed: object,
        *,
        latency_s: LinkLatency = local_network,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.loop = loop
        self.seed = seed
        self.latency_s = latency_s
        self.listeners: dict[str, tuple[str, Callable[[SimStream], Awaitable[None]]]] = {}
        self._trace = trace
        self._cut: set[tuple[str, str]] = set()
        self._paused: set[str] = set()
        self._streams: dict[int, SimStream] = {}
        self._made: Counter[tuple[str, str]] = Counter()
        self._changed = asyncio.Event()

    def node(self, name: str) -> SimNode:
        return SimNode(self, name)

    # --- faults -------------------------------------------------------------------------------
    def cut(self, source: str, target: str) -> None:
        """Stop delivery from ``source`` to ``target``; the other way still works."""
        self._cut.add((source, target))

    def partition(self, *groups: Sequence[str]) -> None:
        """Let nodes talk only within their group."""
        self._cut = {
            (source, target)
            for group in groups
            for source in group
            for other in groups
            if other is not group
            for target in other
        }
        self._stir()

    def heal(self) -> None:
        """Join everything again; what waited is delivered."""
        self._cut.clear()
        self._stir()

    def pause(self, name: str) -> None:
        """Deliver nothing to or from a node, as if its process were stopped."""
        self._paused.add(name)

    def resume(self, name: str) -> None:
        self._paused.discard(name)
        self._stir()

    def crash(self, name: str) -> None:
        """Forget a node's listeners and break its connections; the others see them end."""
        for address in [at for at, (owner, _) in self.listeners.items() if owner == name]:
            del self.listeners[address]
        for stream in list(self._streams.values()):
            if stream.owner == name:
                stream.close()

    def drop_connections(self, one: str, other: str) -> None:
        """Break all connections between two nodes."""
        for stream in list(self._streams.values()):
            if {stream.owner, stream.remote} == {one, other}:
                stream.close()

    def streams(self) -> list[SimStream]:
        """Return all ends of live connections, oldest first."""
        return list(self._streams.values())

    # --- inside -------------------------------------------------------------------------------
    def passes(self, source: str, target: str) -> bool:
        return (source, target) not in self._cut and not {source, target} & self._paused

    def trace(self, text: str) -> None:
        if self._trace is not None:
            self._trace(f"{self.loop.time():.9f} {text}")

    def forget(self, stream: SimStream) -> None:
        self._streams.pop(stream.number, None)

    async def wait_until_passes(self, one: str, other: str) -> None:
        while not (self.passes(one, other) and self.passes(other, one)):
            await self._changed.wait()

    def pair(self, source: str, target: str) -> tuple[SimStream, SimStream]:
        self._made[source, target] += 1
        count = self._made[source, target]
        ends = (SimStream(self, source, target, count), SimStream(self, target, source, count))
        ends[0].other, ends[1].other = ends[1], ends[0]
        for end in ends:
            end.number = sum(self._made.values()) * 2 + (end is ends[1])
            self._streams[end.number] = end
        return ends

    def _stir(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        for stream in list(self._streams.values()):
            stream.carry_on()


class SimNode:
    """The network as one node sees it, as ``seams.Network``."""

    def __init__(self, network: SimNetwork, name: str) -> None:
        self._network = network
        self.name = name
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self, address: str) -> SimStream:
        network = self._network
        await asyncio.sleep(1e-4)
        listener = network.listeners.get(address)
        target = listener[0] if listener else ""
        await network.wait_until_passes(self.name, target)
        listener = network.listeners.get(address)
        if listener is None:
            raise ConnectionRefusedError(f"{address} refused the connection")
        here, there = network.pair(self.name, target)
        network.trace(f"connect {self.name} {target}")
        task = network.loop.create_task(_serve(listener[1], there))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return here

    async def listen(
        self, addresses: Sequence[str], accept: Callable[[SimStream], Awaitable[None]]
    ) -> Callable[[], None]:
        listeners = self._network.listeners
        for address in addresses:
            if address in listeners:
                raise StartRefused(reason=f"cannot listen on {address}: Address already in use")
        mine = (self.name, accept)
        for address in addresses:
            listeners[address] = mine

        def stop() -> None:
            for address in addresses:
                if listeners.get(address) is mine:
                    del listeners[address]

        return stop


async def _serve(accept: Callable[[SimStream], Awaitable[None]], stream: SimStream) -> None:
    await accept(stream)


class SimStream:
    """One node's end of a connection, as ``seams.Stream``."""

    def __init__(self, network: SimNetwork, owner: str, remote: str, count: int) -> None:
        self.owner = owner
        self.remote = remote
        self.number = 0
        self.other: SimStream | None = None
        self._network = network
        self._rng = random.Random(f"{network.seed}/{owner}->{remote}/{count}")
        self._outgoing: deque[tuple[float, bytes | None]] = deque()  # None: the stream ends
        self._outgoing_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._last_due_s = 0.0
        self._received = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._ended = False

    # --- seams.Stream -------------------------------------------------------------------------
    async def read_exactly(self, length: int) -> bytes:
        while len(self._received) < length:
            if self._ended:
                raise ConnectionResetError(f"{self.remote} closed the connection")
            assert self._waiter is None, "two coroutines read one stream"
            self._waiter = self._network.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._received[:length])
        del self._received[:length]
        return data

    def write(self, data: bytes) -> None:
        if not self._ended:
            self._outgoing_bytes += len(data)
            self._queue(data)

    async def drain(self) -> None:
        while self._outgoing_bytes > SEND_BUFFER_BYTES and not self._ended:
            waiter: asyncio.Future[None] = self._network.loop.create_future()
            self._drainers.append(waiter)
            await waiter
        if self._ended:
            raise ConnectionResetError(f"{self.remote} closed the connection")

    def buffered_bytes(self) -> int:
        return self._outgoing_bytes

    def close(self) -> None:
        if self._ended:
            return
        if self._outgoing and self._rng.random() < 0.5:
            # Closing gives no promise about bytes under way: the seed decides.
            self._outgoing.clear()
            self._outgoing_bytes = 0
        self._queue(None)
        self._end()

    def peer_address(self) -> str:
        return self.remote

    def hold(self) -> None:
        """Keep what is under way from here until ``carry_on``."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def carry_on(self) -> None:
        """Deliver what is due and wait for the rest, unless the link is cut."""
        network = self._network
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not network.passes(self.owner, self.remote):
            return
        while self._outgoing and self._outgoing[0][0] <= network.loop.time():
            _, data = self._outgoing.popleft()
            self._outgoing_bytes -= len(data or b"")
            assert self.other is not None
            self.other.arrive(data)
        if self._outgoing_bytes <= SEND_BUFFER_BYTES:
            self._wake_drainers()
        if self._outgoing:
            self._timer = network.loop.call_at(self._outgoing[0][0], self.carry_on)
        elif self._ended:
            network.forget(self)

    def arrive(self, data: bytes | None) -> None:
        network = self._network
        if data is None:
            network.trace(f"end {self.remote} {self.owner}")
            self._end()
        elif not self._ended:
            network.trace(f"bytes {self.remote} {self.owner} {len(data)} {zlib.crc32(data):08x}")
            self._received += data
            self._wake_reader()

    def _queue(self, data: bytes | None) -> None:
        network = self._network
        latency_s = network.latency_s(self._rng, self.owner, self.remote)
        self._last_due_s = max(self._last_due_s, network.loop.time() + latency_s)
        self._outgoing.append((self._last_due_s, data))
        if len(self._outgoing) == 1 and network.passes(self.owner, self.remote):
            self._timer = network.loop.call_at(self._last_due_s, self.carry_on)

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._wake_reader()
            self._wake_drainers()
            if not self._outgoing:
                self._network.forget(self)

    def _wake_reader(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wake_drainers(self) -> None:
        waiters, self._drainers = self._drainers, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

"""The peer transport: one outbound connection per peer, one listener, one owner of all tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from dqlite_py.errors import PeerUnreachable
from dqlite_py.raft.messages import Message
from dqlite_py.seams import Clock, Network, Random, Stream
from dqlite_py.transport.contract import (
    PeerHandler,
    PeerIdentity,
    TransportCounters,
    TransportLimits,
)
from dqlite_py.transport.handshake import INCARNATION_BYTES, Handshaker
from dqlite_py.transport.inbound import Reception
from dqlite_py.transport.outbound import OutboundPeer, address_of

SHORTEST_SECRET_BYTES = 16


class PeerTransport:
    """Carries Raft messages and calls between the members of one cluster.

    Args:
        network: makes streams.
        identity: this member; checked against the other side in every handshake.
        secret: the cluster's secret, at least 16 bytes of full entropy.
        clock: deadlines.
        random: nonces and jitter; cryptographically strong outside a simulation
            (``random.SystemRandom`` fits).
        limits: bounds.
        handler: told of everything that happens.
        listen_addresses: ``host:port`` or URLs to serve; empty for none.

    All methods belong to one event loop, which runs when they are called.
    """

    def __init__(
        self,
        network: Network,
        identity: PeerIdentity,
        secret: bytes,
        clock: Clock,
        random: Random,
        limits: TransportLimits,
        handler: PeerHandler,
        *,
        listen_addresses: Sequence[str] = (),
    ) -> None:
        assert len(secret) >= SHORTEST_SECRET_BYTES, "the cluster secret is too short"
        self._network = network
        self._identity = identity
        self._clock = clock
        self._random = random
        self._limits = limits
        self._handler = handler
        self._listen_addresses = [address_of(address) for address in listen_addresses]
        self._incarnation = random.randbytes(INCARNATION_BYTES)
        self._handshaker = Handshaker(identity, secret, random, limits.handshake_frame_bytes)
        self._counters = TransportCounters()
        self._reception = Reception(
            self._handshaker, limits, self._counters, handler, admitted=self._admitted
        )
        self._peers: dict[int, OutboundPeer] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None

    @property
    def counters(self) -> TransportCounters:
        """Totals since start."""
        return self._counters

    async def run(self, listening: Callable[[], None] | None = None) -> None:
        """Listen and keep connections up until cancelled; then close them all.

        ``listening`` is called once the listeners stand. Raises StartRefused if they cannot.
        Calls under way when it ends fail with ConnectionLost or PeerUnreachable.
        """
        stop_listening = await self._network.listen(self._listen_addresses, self._accept)
        async with asyncio.TaskGroup() as group:
            try:
                self._group = group
                for peer in self._peers.values():
                    self._start(peer)
                if listening is not None:
                    listening()
                await asyncio.get_running_loop().create_future()
            finally:
                # Before the group cancels its tasks: it would wait for one that is added later.
                self._group = None
                stop_listening()

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """Replace the peers: member id to peer URLs; this member's own id is ignored.

        May be called before ``run``. Removing a peer closes its connections, both ways, and fails
        its calls; a removed member that dials again is still admitted, because a member may be
        newer than what is known here.
        """
        wanted = {
            member_id: [address_of(url) for url in urls]
            for member_id, urls in peers.items()
            if member_id != self._identity.member_id
        }
        for member_id in [known for known in self._peers if known not in wanted]:
            del self._peers[member_id]
            self._reception.drop(member_id)
            if (task := self._tasks.pop(member_id, None)) is not None:
                task.cancel()
        for member_id, addresses in wanted.items():
            if (peer := self._peers.get(member_id)) is not None:
                peer.set_addresses(addresses)
                continue
            self._peers[member_id] = peer = self._make_peer(member_id, addresses)
            if self._group is not None:
                self._start(peer)

    def connected(self) -> frozenset[int]:
        """Return the ids of the peers whose outbound connection stands."""
        return frozenset(member_id for member_id, peer in self._peers.items() if peer.connected)

    def inbound_members(self) -> frozenset[int]:
        """Return the ids of the members whose inbound connection stands."""
        return self._reception.live()

    def send(self, message: Message) -> None:
        """Queue a Raft message; never blocks or raises. A dropped one is told to the handler.

        Ordering: messages to one peer arrive in the order of ``send`` or not at all. A message
        to a member that is no peer goes back over that member's own connection, if one stands:
        a member that was away may be led by one that is newer than its member list. Otherwise it
        is dropped without a word, because Raft may know of a member before or after the list does.
        """
        peer = self._peers.get(message.to)
        if peer is not None:
            peer.send(message)
        elif self._reception.send(message):
            self._counters.messages_sent += 1
        else:
            self._counters.messages_dropped += 1

    async def call(self, to: int, method: str, payload: bytes, timeout_s: float) -> bytes:
        """Run ``method`` on another member and return its answer.

        Raises PeerUnreachable (nothing was sent), TooManyRequests, RequestTooLarge (not sent),
        RequestTimeout or ConnectionLost (outcome unknown), or what the other side raised. The
        timeout may come ``limits.call_timer_s`` late. Calls may overtake each other.
        """
        peer = self._peers.get(to)
        if peer is None:
            raise PeerUnreachable
        pending = peer.open_call(method, payload, timeout_s)
        try:
            return await pending.future
        finally:
            peer.forget(pending)

    def _make_peer(self, member_id: int, addresses: Sequence[str]) -> OutboundPeer:
        return OutboundPeer(
            member_id,
            addresses,
            network=self._network,
            handshaker=self._handshaker,
            incarnation=self._incarnation,
            clock=self._clock,
            random=self._random,
            limits=self._limits,
            counters=self._counters,
            handler=self._handler,
        )

    def _start(self, peer: OutboundPeer) -> None:
        self._tasks[peer.member_id] = self._spawn(peer.run())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work)

    async def _accept(self, stream: Stream) -> None:
        if self._group is None:
            stream.close()  # not ready yet, or no more: the dialer tries again
        else:
            self._spawn(self._reception.serve(stream, self._spawn))

    def _admitted(self, member_id: int) -> None:
        if (peer := self._peers.get(member_id)) is not None:
            peer.hurry()

"""The peer transport: one outbound connection per peer, one listener, one owner of all tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dqlite_py.raft import Message
from dqlite_py.seams import Clock, Network, Random
from dqlite_py.transport.contract import (
    PeerHandler,
    PeerIdentity,
    TransportCounters,
    TransportLimits,
)


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
        handler: told of everything that happens; must be set before ``run``.
        listen_addresses: ``host:port`` to serve; empty for none.
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
        raise NotImplementedError

    @property
    def counters(self) -> TransportCounters:
        """Totals since start."""
        raise NotImplementedError

    async def run(self, listening: Callable[[], None] | None = None) -> None:
        """Listen and keep connections up until cancelled; then close them all.

        ``listening`` is called once the listeners stand. Raises StartRefused if they cannot.
        """
        raise NotImplementedError

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """Replace the outbound peers: member id to peer URLs; this member's own id is ignored.

        May be called before ``run``. Removing a peer closes its connections and fails its calls.
        """
        raise NotImplementedError

    def connected(self) -> frozenset[int]:
        """Return the ids of the peers whose outbound connection stands."""
        raise NotImplementedError

    def send(self, message: Message) -> None:
        """Queue a Raft message; never blocks or raises. A dropped one is told to the handler.

        Ordering: messages to one peer arrive in the order of ``send`` or not at all.
        """
        raise NotImplementedError

    async def call(self, to: int, method: str, payload: bytes, timeout_s: float) -> bytes:
        """Run ``method`` on another member and return its answer.

        Raises PeerUnreachable (nothing was sent), TooManyRequests, RequestTooLarge (not sent),
        RequestTimeout or ConnectionLost (outcome unknown), or what the other side raised.
        """
        raise NotImplementedError

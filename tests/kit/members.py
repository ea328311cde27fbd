"""Members of a simulated cluster that have a transport and a recording handler, nothing else."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dqlite_py.raft.messages import Message, MessageKind
from dqlite_py.transport.contract import (
    CallAnswer,
    PeerIdentity,
    TransportLimits,
)
from dqlite_py.transport.transport import PeerTransport
from tests.kit.loop import SimClock
from tests.kit.network import SimNetwork

SECRET = b"the secret of the test cluster"
CLUSTER_ID = 0xC1


def address(member_id: int) -> str:
    return f"member{member_id}:2380"


def heartbeat(from_id: int, to_id: int, commit: int, context: bytes = b"") -> Message:
    return Message(MessageKind.HEARTBEAT, to_id, from_id, term=1, commit=commit, context=context)


class RecordingHandler:
    """Keeps everything the transport tells, and serves calls with ``answer``."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.unreachable: list[int] = []
        self.connected: list[int] = []
        self.disconnected: list[tuple[int, str]] = []
        self.rejected: list[str] = []
        self.errors: list[BaseException] = []
        self.answer: Callable[[int, str, bytes], CallAnswer] = lambda _, method, payload: (
            method.encode() + payload
        )

    def on_message(self, message: Message) -> None:
        self.messages.append(message)

    def on_call(self, from_id: int, method: str, payload: bytes) -> CallAnswer:
        return self.answer(from_id, method, payload)

    def on_unreachable(self, member_id: int) -> None:
        self.unreachable.append(member_id)

    def on_connected(self, member_id: int) -> None:
        self.connected.append(member_id)

    def on_disconnected(self, member_id: int, reason: str) -> None:
        self.disconnected.append((member_id, reason))

    def on_rejected(self, address: str, reason: str) -> None:
        self.rejected.append(reason)

    def on_error(self, error: BaseException) -> None:
        self.errors.append(error)


class SimMember:
    """One member: its transport, handler and the task that runs it."""

    def __init__(
        self,
        network: SimNetwork,
        member_id: int,
        peers: Sequence[int],
        *,
        secret: bytes = SECRET,
        cluster_id: int = CLUSTER_ID,
        limits: TransportLimits | None = None,
        life: int = 0,
    ) -> None:
        self.name = f"member{member_id}"
        self.member_id = member_id
        self.handler = RecordingHandler()
        self.transport = PeerTransport(
            network.node(self.name),
            PeerIdentity(cluster_id, member_id),
            secret,
            SimClock(network.loop),
            random.Random(f"{network.seed}/{self.name}/{life}"),
            limits or TransportLimits(),
            self.handler,
            listen_addresses=[address(member_id)],
        )
        self.transport.set_peers({peer: [f"http://{address(peer)}"] for peer in peers})

    async def until_connected(self, peers: int = 1) -> None:
        await until(lambda: len(self.transport.connected()) >= peers)


async def until(condition: Callable[[], Any]) -> None:
    """Return once ``condition`` holds, looking every (virtual) millisecond."""
    async with asyncio.timeout(600):
        while not condition():
            await asyncio.sleep(1e-3)


@asynccontextmanager
async def running(*members: SimMember) -> Any:
    """Run members' transports while the block lasts."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(member.transport.run()) for member in members]
        yield tasks
        for task in tasks:
            task.cancel()

"""Losses found in pysyncobj (docs/decisions/0001), staged on the way between two members."""

from __future__ import annotations

import asyncio
import random
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest

from dqlite_py.raft.messages import Entry, EntryKind, Message, MessageKind
from dqlite_py.system.clock import SystemClock
from dqlite_py.system.network import TcpNetwork
from dqlite_py.transport.codec import encode_message
from dqlite_py.transport.contract import PeerIdentity, TransportLimits
from dqlite_py.transport.framing import encode_frame
from dqlite_py.transport.handshake import MAGIC
from dqlite_py.transport.transport import PeerTransport
from tests.kit.loop import run_virtual
from tests.kit.members import (
    CLUSTER_ID,
    SECRET,
    RecordingHandler,
    SimMember,
    address,
    heartbeat,
    running,
    until,
)
from tests.kit.network import SimNetwork
from tests.kit.ports import free_ports
from tests.kit.sim_cluster import SimCluster
from tests.kit.sim_scenes import assert_identical, get, leader_of, play, put

PIECE_BYTES = 64 << 10
SIZES = [pieces * PIECE_BYTES + offset for pieces in (1, 2, 3) for offset in range(-160, 24, 4)]

ran: list[str] = []


def run_by_a_stranger() -> str:
    ran.append("a stranger's code")
    return "done"


# What an unpickler takes for "call this function without arguments".
PICKLED = f"c{__name__}\n{run_by_a_stranger.__name__}\n(tR.".encode()
HELLO = [MAGIC, 1, 1, CLUSTER_ID, 1, 2, bytes(32), bytes(16), 1]
APPEND = Message(
    MessageKind.APP,
    to=2,
    from_=1,
    term=99,
    entries=(Entry(99, 1, EntryKind.NORMAL, b"x"),),
    commit=1,
)
ATTACKS = {
    "framed as there": [struct.pack("<i", len(zlib.compress(PICKLED))) + zlib.compress(PICKLED)],
    "framed as here": [struct.pack(">I", len(PICKLED)) + PICKLED],
    "compressed": [struct.pack(">I", len(zlib.compress(PICKLED))) + zlib.compress(PICKLED)],
    "as a field": [encode_frame([PICKLED, 1, 1, CLUSTER_ID, 1, 2, bytes(32), bytes(16), 1])],
    "as a nonce": [encode_frame([*HELLO[:6], PICKLED, bytes(16), 1])],
    "as a proof": [encode_frame(HELLO), encode_frame(["proof", PICKLED])],
    "an append before any handshake": [encode_message(APPEND)],
    "an append instead of a proof": [encode_frame(HELLO), encode_message(APPEND)],
    "a call instead of a proof": [encode_frame(HELLO), encode_frame([1, 1, "method", PICKLED])],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_p6_what_a_stranger_sends_is_neither_run_nor_believed(attack: str) -> None:
    """There: each message is unpickled before its sender is known, so who reaches the port runs
    code in the node.

    Here: nothing is unpickled at all, and who can not prove to know the secret is turned away.
    """

    async def main() -> None:
        network = SimNetwork(asyncio.get_running_loop(), 1)
        member, friend = SimMember(network, 2, []), SimMember(network, 1, [2])
        async with running(member):
            await asyncio.sleep(0.01)
            stream = await network.node("stranger").connect(address(2))
            for piece in ATTACKS[attack]:
                stream.write(piece)
            await until(lambda: member.handler.rejected)
            assert ran == []
            assert member.handler.messages == []
            assert member.handler.errors == []
            assert member.transport.counters.calls_served == 0
            async with running(friend):
                await friend.until_connected()
                friend.transport.send(heartbeat(1, 2, 7))
                await until(lambda: member.handler.messages)

    run_virtual(main)


def tcp_member(member_id: int, peers: dict[int, list[str]], listen: Sequence[str]) -> PeerTransport:
    transport = PeerTransport(
        TcpNetwork(),
        PeerIdentity(CLUSTER_ID, member_id),
        SECRET,
        SystemClock(),
        random.Random(member_id),
        TransportLimits(),
        RecordingHandler(),
        listen_addresses=listen,
    )
    transport.set_peers(peers)
    return transport


def append_of(size_bytes: int) -> Message:
    data = random.Random(size_bytes).randbytes(size_bytes)
    entry = Entry(1, size_bytes, EntryKind.NORMAL, data)
    return Message(MessageKind.APP, to=2, from_=1, term=1, entries=(entry,))


def test_p10_entries_of_every_size_near_64_kib_arrive_whole() -> None:
    """There: entries travel in pieces of 64 KiB, and a wrong length decides which piece is the
    last, so 15 of 35 sizes near 128 KiB raise in the follower.

    Here: a message is one frame, however TCP cuts it.
    """

    async def main() -> None:
        ports = free_ports()
        here, there = f"127.0.0.1:{next(ports)}", f"127.0.0.1:{next(ports)}"
        sender = tcp_member(1, {2: [f"http://{there}"]}, [here])
        receiver = tcp_member(2, {}, [there])
        handler = receiver._handler
        assert isinstance(handler, RecordingHandler)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            tasks = [group.create_task(member.run()) for member in (receiver, sender)]
            await until(lambda: sender.connected())
            for size_bytes in SIZES:
                handler.messages.clear()
                sender.send(append_of(size_bytes))
                await until(lambda: handler.messages)
                assert handler.messages == [append_of(size_bytes)], size_bytes
            assert sender.counters.messages_dropped == 0
            for task in tasks:
                task.cancel()

    asyncio.run(main())


def test_p10_values_near_64_kib_reach_every_member(tmp_path: Path) -> None:
    sizes = SIZES[::9]

    async def scene(cluster: SimCluster) -> None:
        for size_bytes in sizes:
            value = random.Random(size_bytes).randbytes(size_bytes)
            await put(leader_of(cluster), b"%d" % size_bytes, value)
        await assert_identical(cluster)
        for member in cluster.members:
            for size_bytes in sizes:
                value = random.Random(size_bytes).randbytes(size_bytes)
                assert await get(member, b"%d" % size_bytes) == value

    play(tmp_path, scene)

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dqlite_py.errors import AuthenticationFailed
from dqlite_py.transport.contract import TransportLimits
from dqlite_py.transport.framing import decode_body, encode_frame, read_body
from dqlite_py.transport.handshake import MAGIC, Epoch
from tests.kit.loop import run_virtual
from tests.kit.members import CLUSTER_ID, SimMember, address, heartbeat, running, until
from tests.kit.network import SimNetwork, SimStream


def network(seed: object = 1) -> SimNetwork:
    return SimNetwork(asyncio.get_running_loop(), seed)


async def receive(stream: SimStream) -> list[Any]:
    return decode_body(await read_body(stream, 1 << 20))


async def ended(stream: SimStream) -> None:
    with pytest.raises(ConnectionError):
        while True:
            await stream.read_exactly(1)


def test_another_secret_is_refused_on_both_sides_in_one_line() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2], secret=b"a wrong cluster secret"), SimMember(net, 2, [1])
        async with running(one, two):
            await asyncio.sleep(5)
            assert one.transport.connected() == two.transport.connected() == frozenset()
            told = "AuthenticationFailed(detail='the cluster secrets differ')"
            assert {reason for _, reason in one.handler.disconnected} == {told}
            assert set(two.handler.rejected) == {told}
            assert two.transport.counters.handshakes_rejected == len(two.handler.rejected)

    run_virtual(main)


def test_another_cluster_is_refused() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2], cluster_id=5), SimMember(net, 2, [])
        async with running(one, two):
            await until(lambda: one.handler.disconnected)
            assert one.handler.disconnected == [(2, "ClusterIdMismatch()")]
            assert two.handler.rejected == ["ClusterIdMismatch()"]

    run_virtual(main)


def test_a_member_at_an_address_that_belongs_to_another_is_refused() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        one.transport.set_peers({3: [f"http://{address(2)}"]})
        async with running(one, two):
            await until(lambda: one.handler.disconnected)
            assert "this is member 2, not 3" in one.handler.disconnected[0][1]

    run_virtual(main)


def test_a_member_that_dials_itself_is_refused() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, []), SimMember(net, 2, [3])
        two.transport.set_peers({3: [f"http://{address(2)}"]})
        async with running(one, two):
            await until(lambda: two.handler.rejected)
            assert two.transport.connected() == frozenset()

    run_virtual(main)


def _hello(**changes: Any) -> list[Any]:
    fields: dict[str, Any] = {
        "magic": MAGIC,
        "lowest": 1,
        "highest": 1,
        "cluster_id": CLUSTER_ID,
        "from_id": 1,
        "to_id": 2,
        "nonce": bytes(32),
        "incarnation": bytes(16),
        "attempt": 1,
    }
    return list((fields | changes).values())


def test_the_acceptors_own_proof_sent_back_to_it_proves_nothing() -> None:
    async def main() -> None:
        net = network()
        two = SimMember(net, 2, [])
        async with running(two):
            await asyncio.sleep(0.01)
            stream = await net.node("thief").connect(address(2))
            stream.write(encode_frame(_hello()))
            _, _, _, proof = await receive(stream)
            stream.write(encode_frame(["proof", proof]))
            assert (await receive(stream))[0] == "rejected"
            await ended(stream)

    run_virtual(main)


def test_a_members_challenge_answered_by_the_member_itself_on_a_second_connection_fails() -> None:
    """The dialer is made to prove itself to a thief who passes everything on to the dialer."""

    async def main() -> None:
        net = network()
        victim = SimMember(net, 1, [2])
        outcome: list[object] = []

        async def thief(stream: SimStream) -> None:
            hello = await receive(stream)
            back = await net.node("member2").connect(address(1))
            back.write(encode_frame(hello))
            outcome.append(await receive(back))

        await net.node("member2").listen([address(2)], thief)
        async with running(victim):
            await until(lambda: outcome)
            assert outcome[0][0] == "rejected"  # type: ignore[index]

    run_virtual(main)


def test_a_recorded_handshake_does_not_work_again() -> None:
    async def main() -> None:
        net = network()
        recorded: list[bytes] = []
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        write = SimStream.write

        def recording(stream: SimStream, data: bytes) -> None:
            if stream.owner == "member1":
                recorded.append(data)
            write(stream, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SimStream, "write", recording)
            async with running(two):
                async with running(one):
                    await one.until_connected()
                stream = await net.node("thief").connect(address(2))
                stream.write(recorded[0])
                assert (await receive(stream))[0] == "challenge"
                stream.write(recorded[1])
                assert (await receive(stream))[0] == "rejected"
                await ended(stream)

    run_virtual(main)


def test_no_common_protocol_version_is_refused_and_a_newer_hello_is_not() -> None:
    async def main() -> None:
        net = network()
        two = SimMember(net, 2, [])
        async with running(two):
            await asyncio.sleep(0.01)
            stream = await net.node("newer").connect(address(2))
            stream.write(encode_frame(_hello(lowest=2, highest=3)))
            kind, (name, (detail,)) = await receive(stream)
            assert (kind, name) == ("rejected", AuthenticationFailed.__name__)
            assert detail == "protocol versions 1 to 1 are spoken here"
            stream = await net.node("newer").connect(address(2))
            stream.write(encode_frame([*_hello(highest=9), "unknown field"]))
            challenge = await receive(stream)
            assert challenge[:2] == ["challenge", 1]

    run_virtual(main)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a frame of 1195725856 bytes exceeds the limit of 4096"),
        (b"\0\0\x10\x01", "a frame of 4097 bytes exceeds the limit of 4096"),
        (b"\0\0\0\0", "a frame is not msgpack"),
        (b"\0\0\0\x03\xc1\xc1\xc1", "a frame is not msgpack"),
        (b"\0\0\0\x02\x01\x02", "a frame is not msgpack"),
        (b"\0\0\0\x01\x01", "a frame is not a msgpack array"),
        (b"\0\0\0\x01\x90", "a frame is not a msgpack array"),
        (encode_frame([1, 2, 3]), "does not speak the peer protocol"),
        (encode_frame(_hello(nonce=b"short")), "does not speak the peer protocol"),
        (encode_frame(["rejected", "me"]), "a malformed error"),
        (encode_frame(["rejected", [["list"], []]]), "a malformed error"),
        (encode_frame(["rejected", ["DiskFailed", ["/", "x"]]]), "PeerFailed"),
    ],
)
def test_bytes_that_are_no_handshake_end_the_connection_at_once(sent: bytes, expected: str) -> None:
    async def main() -> None:
        net = network()
        two = SimMember(net, 2, [])
        async with running(two):
            await asyncio.sleep(0.01)
            stream = await net.node("stranger").connect(address(2))
            started_s = net.loop.time()
            stream.write(sent)
            await ended(stream)
            assert net.loop.time() - started_s < 0.1
            assert [expected in reason for reason in two.handler.rejected] == [True]

    run_virtual(main)


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\x20half"])
def test_half_a_frame_and_then_silence_ends_with_the_handshake_timeout(sent: bytes) -> None:
    async def main() -> None:
        net = network()
        two = SimMember(net, 2, [])
        async with running(two):
            await asyncio.sleep(0.01)
            stream = await net.node("stranger").connect(address(2))
            stream.write(sent)
            started_s = net.loop.time()
            await ended(stream)
            assert 5 <= net.loop.time() - started_s < 5.1
            assert two.handler.rejected == ["the handshake took too long"]

    run_virtual(main)


def test_strangers_are_bounded_and_members_get_in_once_they_are_gone() -> None:
    async def main() -> None:
        net = network()
        two = SimMember(net, 2, [], limits=TransportLimits(unauthenticated_connections=3))
        one = SimMember(net, 1, [2])
        async with running(two):
            await asyncio.sleep(0.01)
            strangers = [await net.node("stranger").connect(address(2)) for _ in range(8)]
            await asyncio.sleep(0.1)
            assert two.transport.counters.connections_refused == 5
            async with running(one):
                await one.until_connected()
                assert net.loop.time() > 5
            assert len(strangers) == 8

    run_virtual(main)


def _oversized(stream: SimStream) -> None:
    stream.write(b"\xff\xff\xff\xff")


def _unknown_kind(stream: SimStream) -> None:
    stream.write(encode_frame([77, 1]))


def _local_kind(stream: SimStream) -> None:
    stream.write(encode_frame([0, 0, 2, 1, 0, 0, 0, [], 0, 0, None, False, 0, b""]))


def _short_message(stream: SimStream) -> None:
    stream.write(encode_frame([0, 8, 2, 1]))


@pytest.mark.parametrize("misbehave", [_oversized, _unknown_kind, _local_kind, _short_message])
def test_a_bad_frame_after_the_handshake_ends_the_connection_and_the_member_comes_back(
    misbehave: Callable[[SimStream], None],
) -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(one, two):
            await one.until_connected()
            for stream in list(net.streams()):
                if stream.owner == "member1":
                    misbehave(stream)
            await until(lambda: two.handler.rejected)
            assert two.transport.counters.frames_malformed == 1
            await until(lambda: len(one.handler.connected) == 2)
            one.transport.send(heartbeat(1, 2, 1))
            await until(lambda: two.handler.messages)

    run_virtual(main)


def test_a_newer_connection_replaces_the_older_whose_bytes_no_longer_count() -> None:
    async def main() -> None:
        net = network()
        old, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(two, old):
            await old.until_connected()
            # What the old process sent is held up in the network while a new one connects.
            old.transport.send(heartbeat(1, 2, 66))
            await asyncio.sleep(0)
            old_streams = [stream for stream in net.streams() if stream.owner == "member1"]
            for stream in old_streams:
                stream.hold()
            new = SimMember(net, 1, [2], life=1)
            net.listeners.pop(address(1))
            async with running(new):
                await new.until_connected()
                new.transport.send(heartbeat(1, 2, 67))
                await until(lambda: two.handler.messages)
                for stream in old_streams:
                    stream.carry_on()
                await asyncio.sleep(0.01)
                assert [message.commit for message in two.handler.messages] == [67]
                assert two.transport.counters.connections_replaced == 1

    run_virtual(main)


def test_bytes_already_received_from_a_replaced_connection_are_not_handled() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(two, one):
            await one.until_connected()

            def drop_after_first(message: Any) -> None:
                two.handler.messages.append(message)
                two.transport.set_peers({1: []})
                two.transport.set_peers({})

            two.handler.on_message = drop_after_first  # type: ignore[method-assign]
            for number in range(3):
                one.transport.send(heartbeat(1, 2, number))
            await until(lambda: two.handler.messages)
            await asyncio.sleep(0.01)
            assert [message.commit for message in two.handler.messages] == [0]

    run_virtual(main)


def test_an_attempt_older_than_the_live_connection_of_the_same_process_is_refused() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, []), SimMember(net, 2, [])
        greet = one.transport._handshaker.greet
        async with running(two):
            await asyncio.sleep(0.01)
            first = await net.node("member1").connect(address(2))
            second = await net.node("member1").connect(address(2))
            await greet(second, 2, Epoch(bytes(16), attempt=2))
            with pytest.raises(AuthenticationFailed, match="a newer connection exists"):
                await greet(first, 2, Epoch(bytes(16), attempt=1))
            third = await net.node("member1").connect(address(2))
            await greet(third, 2, Epoch(bytes(15) + b"1", attempt=1))

    run_virtual(main)

from __future__ import annotations

import asyncio

from dqlite_py.raft.messages import Message, MessageKind
from dqlite_py.transport.contract import TransportLimits
from tests.kit.loop import run_virtual
from tests.kit.members import SimMember, heartbeat, running, until
from tests.kit.network import SimNetwork

SMALL = TransportLimits(
    frame_bytes=64 << 10, send_queue_bytes=80 << 10, send_queue_messages=100, calls_in_flight=4
)


def network(seed: object = 1) -> SimNetwork:
    return SimNetwork(asyncio.get_running_loop(), seed)


def test_messages_arrive_in_order_and_those_of_one_iteration_leave_in_one_write() -> None:
    async def main() -> None:
        trace: list[str] = []
        net = SimNetwork(asyncio.get_running_loop(), 1, trace=trace.append)
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(one, two):
            await one.until_connected()
            trace.clear()
            for number in range(50):
                one.transport.send(heartbeat(1, 2, number))
            await until(lambda: len(two.handler.messages) == 50)
            assert [message.commit for message in two.handler.messages] == list(range(50))
            assert sum(" bytes member1 member2 " in line for line in trace) == 1

    run_virtual(main)


def test_messages_sent_while_the_connection_is_being_made_arrive() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(two):
            await asyncio.sleep(0)
            async with running(one):
                await asyncio.sleep(5e-5)  # a connection takes 1e-4
                assert one.transport.connected() == frozenset()
                one.transport.send(heartbeat(1, 2, 7))
                await until(lambda: two.handler.messages)

    run_virtual(main)


def test_a_message_to_a_peer_that_is_down_is_dropped_and_told() -> None:
    async def main() -> None:
        one = SimMember(network(), 1, [2])
        async with running(one):
            await until(lambda: one.handler.disconnected)
            told = len(one.handler.unreachable)
            dropped = one.transport.counters.messages_dropped
            while one.transport.counters.messages_dropped == dropped:
                one.transport.send(heartbeat(1, 2, 7))
                await asyncio.sleep(1e-3)
            await asyncio.sleep(0)
            assert len(one.handler.unreachable) > told
            assert one.handler.disconnected == [(2, "member2:2380 refused the connection")]

    run_virtual(main)


def test_a_full_queue_drops_whole_messages_and_is_bounded() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2], limits=SMALL), SimMember(net, 2, [])
        async with running(one, two):
            await one.until_connected()
            net.pause("member2")
            for number in range(300):
                one.transport.send(heartbeat(1, 2, number, bytes(1000)))
                await asyncio.sleep(0)
            assert one.transport.counters.messages_dropped > 200
            assert one.handler.unreachable.count(2) > 0
            net.resume("member2")
            await until(lambda: two.handler.messages)
            await asyncio.sleep(1)
            commits = [message.commit for message in two.handler.messages]
            assert commits == list(range(len(commits)))
            assert len(commits) + one.transport.counters.messages_dropped == 300

    run_virtual(main)


def test_a_message_longer_than_a_frame_is_reported_and_does_not_break_the_connection() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2], limits=SMALL), SimMember(net, 2, [], limits=SMALL)
        async with running(one, two):
            await one.until_connected()
            one.transport.send(heartbeat(1, 2, 1, bytes(70 << 10)))
            one.transport.send(heartbeat(1, 2, 2))
            await until(lambda: two.handler.messages)
            assert [message.commit for message in two.handler.messages] == [2]
            assert len(one.handler.errors) == 1

    run_virtual(main)


def test_a_message_in_another_members_name_ends_the_connection() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(one, two):
            await one.until_connected()
            one.transport.send(heartbeat(3, 2, 1))
            await until(lambda: two.handler.rejected)
            assert two.handler.messages == []
            assert two.handler.rejected == ["a message from 3 to 2"]

    run_virtual(main)


def test_a_forwarded_leader_transfer_may_name_the_transferee_as_its_sender() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(one, two):
            await one.until_connected()
            one.transport.send(Message(MessageKind.TRANSFER_LEADER, to=2, from_=3))
            await until(lambda: two.handler.messages)

    run_virtual(main)


def test_a_handler_that_fails_on_a_message_is_reported_and_the_next_one_arrives() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        seen: list[int] = []

        def fail_first(message: Message) -> None:
            seen.append(message.commit)
            if len(seen) == 1:
                raise ValueError("first")

        two.handler.on_message = fail_first  # type: ignore[method-assign]
        async with running(one, two):
            await one.until_connected()
            one.transport.send(heartbeat(1, 2, 1))
            one.transport.send(heartbeat(1, 2, 2))
            await until(lambda: len(seen) == 2)
            assert [str(error) for error in two.handler.errors] == ["first"]

    run_virtual(main)


def test_the_connection_comes_back_after_it_broke_and_after_the_peer_restarted() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [1])
        async with running(one):
            async with running(two):
                await one.until_connected()
                net.drop_connections("member1", "member2")
                await until(lambda: len(one.handler.connected) == 2)
            net.crash("member2")
            await until(lambda: not one.transport.connected())
            await asyncio.sleep(30)
            reborn = SimMember(net, 2, [1], life=1)
            async with running(reborn):
                started_s = net.loop.time()
                await one.until_connected()
                # the reborn member's own dialling ends the wait before the next attempt
                assert net.loop.time() - started_s < 0.1
                one.transport.send(heartbeat(1, 2, 9))
                await until(lambda: reborn.handler.messages)

    run_virtual(main)


def test_a_silent_peer_is_given_up_on_both_sides_and_an_idle_one_is_kept() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(one, two):
            await one.until_connected()
            await asyncio.sleep(600)
            assert one.handler.disconnected == []
            net.cut("member2", "member1")
            net.cut("member1", "member2")
            await asyncio.sleep(10)
            assert one.transport.connected() == frozenset()
            assert one.handler.disconnected != []
            net.heal()
            await one.until_connected()

    run_virtual(main)


def test_a_removed_peer_is_disconnected_and_its_messages_go_nowhere() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(one, two):
            await one.until_connected()
            one.transport.set_peers({})
            one.transport.send(heartbeat(1, 2, 1))
            await asyncio.sleep(1)
            assert one.transport.connected() == frozenset()
            assert two.handler.messages == []

    run_virtual(main)


def test_a_changed_peer_url_moves_the_connection() -> None:
    async def main() -> None:
        net = network()
        one, two = SimMember(net, 1, [2]), SimMember(net, 2, [])
        async with running(one, two):
            await one.until_connected()
            one.transport.set_peers({2: ["http://nowhere:1", "http://member2:2380"]})
            await asyncio.sleep(1)
            assert len(one.handler.connected) == 1, "the address in use is still listed"
            one.transport.set_peers({2: ["http://nowhere:1"]})
            await until(lambda: not one.transport.connected())
            one.transport.set_peers({2: ["http://member2:2380"]})
            await one.until_connected()

    run_virtual(main)

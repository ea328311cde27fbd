from __future__ import annotations

import asyncio

import pytest

from dqlite_py.errors import (
    ConnectionLost,
    CorruptFile,
    KeyNotFound,
    LeaderChanged,
    PeerFailed,
    PeerUnreachable,
    RequestTimeout,
    RequestTooLarge,
    TooManyRequests,
)
from dqlite_py.transport.contract import CallAnswer, TransportLimits
from tests.kit.loop import run_virtual
from tests.kit.members import SimMember, running, until
from tests.kit.network import SimNetwork

SMALL = TransportLimits(frame_bytes=64 << 10, send_queue_bytes=80 << 10, calls_in_flight=4)


def pair(**options: TransportLimits) -> tuple[SimNetwork, SimMember, SimMember]:
    net = SimNetwork(asyncio.get_running_loop(), 1)
    return net, SimMember(net, 1, [2], **options), SimMember(net, 2, [], **options)


def _bytes(payload: bytes) -> CallAnswer:
    return payload


def _future(payload: bytes) -> CallAnswer:
    future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.01, future.set_result, payload)
    return future


def _coroutine(payload: bytes) -> CallAnswer:
    async def answer() -> bytes:
        await asyncio.sleep(0.01)
        return payload

    return answer()


@pytest.mark.parametrize("kind", [_bytes, _future, _coroutine])
def test_a_call_returns_the_handlers_answer_in_each_of_its_forms(kind) -> None:  # type: ignore[no-untyped-def]
    async def main() -> None:
        _, one, two = pair()
        two.handler.answer = lambda from_id, method, payload: kind(
            f"{from_id} {method} ".encode() + payload
        )
        async with running(one, two):
            await one.until_connected()
            answers = await asyncio.gather(
                *[one.transport.call(2, "m", str(n).encode(), 1) for n in range(20)]
            )
            assert answers == [f"1 m {n}".encode() for n in range(20)]

    run_virtual(main)


def test_calls_overtake_each_other() -> None:
    async def main() -> None:
        _, one, two = pair()
        two.handler.answer = lambda _, method, payload: (_future if method == "slow" else _bytes)(
            payload
        )
        async with running(one, two):
            await one.until_connected()
            slow = asyncio.ensure_future(one.transport.call(2, "slow", b"", 1))
            await one.transport.call(2, "fast", b"", 1)
            assert not slow.done()
            await slow

    run_virtual(main)


def _raise(error: BaseException):  # type: ignore[no-untyped-def]
    raise error


async def _raise_later(error: BaseException) -> bytes:
    await asyncio.sleep(0.01)
    raise error


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("error", [KeyNotFound(), LeaderChanged(), PeerFailed(detail="x")])
def test_an_error_of_the_handler_is_raised_at_the_caller_with_class_and_data(
    error: Exception, later: bool
) -> None:
    async def main() -> None:
        _, one, two = pair()
        two.handler.answer = lambda *_: (_raise_later if later else _raise)(error)
        async with running(one, two):
            await one.until_connected()
            with pytest.raises(type(error)) as raised:
                await one.transport.call(2, "m", b"", 1)
            assert str(raised.value) == str(error)
            assert two.handler.errors == []

    run_virtual(main)


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("error", [ValueError("bug"), CorruptFile(path="/x", detail="y")])
def test_a_bug_or_fatal_error_in_a_handler_is_reported_there_and_unknown_to_the_caller(
    error: Exception, later: bool
) -> None:
    async def main() -> None:
        _, one, two = pair()
        two.handler.answer = lambda *_: (_raise_later if later else _raise)(error)
        async with running(one, two):
            await one.until_connected()
            with pytest.raises(PeerFailed, match=type(error).__name__):
                await one.transport.call(2, "m", b"", 1)
            assert two.handler.errors == [error]
            two.handler.answer = lambda _, method, payload: payload
            assert await one.transport.call(2, "m", b"still alive", 1) == b"still alive"

    run_virtual(main)


def test_a_call_to_a_member_that_is_down_or_unknown_was_not_sent() -> None:
    async def main() -> None:
        _, one, _ = pair()
        async with running(one):
            await until(lambda: one.handler.disconnected)
            for to in (2, 3):
                with pytest.raises(PeerUnreachable):
                    await one.transport.call(to, "m", b"", 1)

    run_virtual(main)


def test_a_call_held_for_a_connection_that_is_not_made_was_not_sent() -> None:
    async def main() -> None:
        net, one, two = pair()
        net.cut("member1", "member2")
        async with running(two):
            await asyncio.sleep(0.01)
            async with running(one):
                await asyncio.sleep(0.01)
                with pytest.raises(PeerUnreachable):
                    await one.transport.call(2, "m", b"", 0.2)
                assert net.loop.time() < 0.4
                net.heal()
                await one.until_connected()
                await asyncio.sleep(1)
                assert two.transport.counters.calls_served == 0

    run_virtual(main)


def test_a_call_without_an_answer_in_time_is_unknown_and_a_late_answer_is_ignored() -> None:
    async def main() -> None:
        net, one, two = pair()
        answers: list[asyncio.Future[bytes]] = []

        def never(*_: object) -> CallAnswer:
            answers.append(net.loop.create_future())
            return answers[-1]

        two.handler.answer = never
        async with running(one, two):
            await one.until_connected()
            started_s = net.loop.time()
            with pytest.raises(RequestTimeout):
                await one.transport.call(2, "m", b"", 0.5)
            assert 0.5 <= net.loop.time() - started_s < 0.56
            answers[0].set_result(b"late")
            two.handler.answer = lambda _, method, payload: payload
            assert await one.transport.call(2, "m", b"next", 1) == b"next"

    run_virtual(main)


def test_a_call_whose_connection_breaks_is_unknown() -> None:
    async def main() -> None:
        net, one, two = pair()
        two.handler.answer = lambda *_: _raise_later(ValueError())
        async with running(one, two):
            await one.until_connected()
            call = asyncio.ensure_future(one.transport.call(2, "m", b"", 10))
            await until(lambda: two.transport.counters.calls_served)
            net.drop_connections("member1", "member2")
            with pytest.raises(ConnectionLost):
                await call

    run_virtual(main)


def test_calls_under_way_fail_when_the_transport_stops() -> None:
    async def main() -> None:
        net, one, two = pair()
        two.handler.answer = lambda *_: net.loop.create_future()
        async with running(two):
            async with running(one):
                await one.until_connected()
                call = asyncio.ensure_future(one.transport.call(2, "m", b"", 10))
                await until(lambda: two.transport.counters.calls_served)
            with pytest.raises(ConnectionLost):
                await call
            with pytest.raises(PeerUnreachable):
                await one.transport.call(2, "m", b"", 10)

    run_virtual(main)


def test_calls_in_flight_are_bounded_and_a_cancelled_call_makes_room() -> None:
    async def main() -> None:
        net, one, two = pair(limits=SMALL)
        two.handler.answer = lambda *_: net.loop.create_future()
        async with running(one, two):
            await one.until_connected()
            calls = [asyncio.ensure_future(one.transport.call(2, "m", b"", 1)) for _ in range(4)]
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests):
                await one.transport.call(2, "m", b"", 1)
            calls[0].cancel()
            await asyncio.wait([calls[0]])
            # the caller has room again; the server still works on all four and refuses the fifth
            with pytest.raises(TooManyRequests):
                await one.transport.call(2, "m", b"", 1)
            assert two.transport.counters.calls_served == 4
            await asyncio.wait(calls)
            assert all(isinstance(call.exception(), RequestTimeout) for call in calls[1:])

    run_virtual(main)


def test_a_call_that_does_not_fit_is_not_sent() -> None:
    async def main() -> None:
        net, one, two = pair(limits=SMALL)
        async with running(one, two):
            await one.until_connected()
            with pytest.raises(RequestTooLarge):
                await one.transport.call(2, "m", bytes(64 << 10), 1)
            net.pause("member2")
            first = asyncio.ensure_future(one.transport.call(2, "m", bytes(60 << 10), 10))
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests):
                await one.transport.call(2, "m", bytes(60 << 10), 10)
            net.resume("member2")
            with pytest.raises(PeerFailed, match="the answer exceeds"):
                two.handler.answer = lambda *_: bytes(64 << 10)
                await first

    run_virtual(main)


def test_a_caller_that_reads_no_answers_is_disconnected() -> None:
    async def main() -> None:
        net, one, two = pair(limits=SMALL)
        two.handler.answer = lambda *_: bytes(40 << 10)
        async with running(one, two):
            await one.until_connected()
            net.cut("member2", "member1")
            calls = [asyncio.ensure_future(one.transport.call(2, "m", b"", 60)) for _ in range(4)]
            await until(lambda: not two.transport.inbound_members())
            net.heal()
            await asyncio.wait(calls)
            failed = [call for call in calls if call.exception() is not None]
            assert failed
            assert all(isinstance(call.exception(), ConnectionLost) for call in failed)

    run_virtual(main)


def test_a_member_that_dials_while_the_transport_stops_does_not_keep_it_from_stopping() -> None:
    async def main() -> None:
        net, one, two = pair()

        async def slow_to_stop() -> bytes:
            try:
                return await net.loop.create_future()
            finally:
                await asyncio.sleep(2)

        two.handler.answer = lambda *_: slow_to_stop()
        async with running(one):
            async with running(two) as tasks:
                await one.until_connected()
                call = asyncio.ensure_future(one.transport.call(2, "m", b"", 10))
                await until(lambda: two.transport.counters.calls_served)
                tasks[0].cancel()
                stopping_s = net.loop.time()
                await asyncio.wait(tasks)
                assert net.loop.time() - stopping_s < 2.1
            with pytest.raises(ConnectionLost):
                await call
            assert len(one.handler.connected) == 1

    run_virtual(main)

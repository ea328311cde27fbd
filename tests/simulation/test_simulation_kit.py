"""The simulated world itself: virtual time, workers, network, and one trace from one seed."""

from __future__ import annotations

import asyncio
import time

import pytest

from dqlite_py.errors import ServerStopped, StartRefused
from tests.kit.loop import Deadlock, SimClock, SimWorkers, run_virtual
from tests.kit.members import SimMember, heartbeat, running, until
from tests.kit.network import SimNetwork, SimStream


def test_a_virtual_hour_takes_no_time_and_timers_fire_in_order() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        fired: list[float] = []
        for delay_s in (3000.0, 1.0, 2000.0, 1.5):
            loop.call_later(delay_s, lambda: fired.append(loop.time()))
        await asyncio.sleep(3599)
        return fired

    started_s = time.monotonic()
    assert run_virtual(main) == [1.0, 1.5, 2000.0, 3000.0]
    assert time.monotonic() - started_s < 5


def test_waiting_for_what_cannot_come_is_a_deadlock() -> None:
    async def main() -> None:
        async with asyncio.timeout(None):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError):
        run_virtual(main, limit_s=10)

    with pytest.raises(Deadlock, match="nothing is scheduled"):
        run_virtual(main, limit_s=None)


def test_an_error_in_a_callback_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 // 0)
        await asyncio.sleep(1)

    with pytest.raises(AssertionError) as raised:
        run_virtual(main)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_a_drifting_clock_runs_fast() -> None:
    async def main() -> None:
        clock = SimClock(asyncio.get_running_loop(), drift=1.5, offset_s=7.0)
        before_s, wall_before_s = clock.now_s(), clock.wall_s()
        await asyncio.sleep(10)
        assert before_s == 7.0
        assert clock.now_s() == 22.0
        assert clock.wall_s() - wall_before_s == 15.0

    run_virtual(main)


def test_a_workers_jobs_run_in_order_and_errors_come_back() -> None:
    async def main() -> None:
        workers = SimWorkers(asyncio.get_running_loop(), 1)
        worker = workers.serial("writer")
        seen: list[int] = []
        jobs = [worker.run(lambda n=n: seen.append(n)) for n in range(30)]  # type: ignore[misc]
        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0)
        assert seen == list(range(30))
        assert all(job.done() for job in jobs)  # type: ignore[attr-defined]
        assert asyncio.get_running_loop().time() > 0
        worker.close()
        with pytest.raises(ServerStopped):
            worker.run(int)

    run_virtual(main)


def test_a_stopped_nodes_queued_jobs_never_run_nor_do_its_notices() -> None:
    async def main() -> None:
        workers = SimWorkers(asyncio.get_running_loop(), 1)
        worker = workers.serial("writer")
        ran: list[str] = []

        def die() -> None:
            workers.notify(lambda: ran.append("notice"))
            workers.stop()

        first = worker.run(die)
        worker.run(lambda: ran.append("job"))
        await asyncio.sleep(10)
        assert ran == []
        assert not first.done()  # type: ignore[attr-defined]
        with pytest.raises(ServerStopped):
            worker.run(int)

    run_virtual(main)


async def streams(net: SimNetwork) -> tuple[SimStream, SimStream]:
    accepted: asyncio.Queue[SimStream] = asyncio.Queue()
    await net.node("b").listen(["b:1"], accepted.put)
    return await net.node("a").connect("b:1"), await accepted.get()


@pytest.mark.parametrize("seed", range(5))
def test_bytes_arrive_in_order_with_latency(seed: int) -> None:
    async def main() -> None:
        net = SimNetwork(asyncio.get_running_loop(), seed)
        here, there = await streams(net)
        sent_s = net.loop.time()
        for number in range(100):
            here.write(bytes([number]))
        assert await there.read_exactly(100) == bytes(range(100))
        assert net.loop.time() - sent_s >= 50e-6
        assert here.buffered_bytes() == 0

    run_virtual(main)


def test_a_cut_holds_one_direction_and_what_waited_arrives_after_it_heals() -> None:
    async def main() -> None:
        net = SimNetwork(asyncio.get_running_loop(), 1)
        here, there = await streams(net)
        net.cut("a", "b")
        here.write(b"held")
        there.write(b"passes")
        assert await here.read_exactly(6) == b"passes"
        await asyncio.sleep(60)
        assert here.buffered_bytes() == 4
        net.heal()
        assert await there.read_exactly(4) == b"held"

    run_virtual(main)


def test_a_partition_separates_groups_only_and_a_connection_attempt_hangs_until_it_ends() -> None:
    async def main() -> None:
        net = SimNetwork(asyncio.get_running_loop(), 1)
        here, there = await streams(net)
        net.partition(["a", "b"], ["c"])
        here.write(b"x")
        assert await there.read_exactly(1) == b"x"
        attempt = asyncio.ensure_future(net.node("c").connect("b:1"))
        await asyncio.sleep(60)
        assert not attempt.done()
        net.partition(["a"], ["b", "c"])
        await attempt
        here.write(b"y")
        await asyncio.sleep(1)
        assert here.buffered_bytes() == 1

    run_virtual(main)


def test_a_crashed_node_no_longer_listens_and_its_streams_end_for_the_others() -> None:
    async def main() -> None:
        net = SimNetwork(asyncio.get_running_loop(), 1)
        here, _ = await streams(net)
        with pytest.raises(StartRefused):
            await net.node("b").listen(["b:1"], lambda _: asyncio.sleep(0))
        net.crash("b")
        with pytest.raises(ConnectionError):
            await here.read_exactly(1)
        with pytest.raises(ConnectionError):
            await net.node("a").connect("b:1")
        assert net.streams() == []

    run_virtual(main)


def test_drain_waits_for_the_reader_of_a_full_stream() -> None:
    async def main() -> None:
        net = SimNetwork(asyncio.get_running_loop(), 1)
        here, there = await streams(net)
        net.pause("b")
        here.write(bytes(3 << 20))
        drained = asyncio.ensure_future(here.drain())
        await asyncio.sleep(5)
        assert not drained.done()
        net.resume("b")
        await drained
        there.close()
        await asyncio.sleep(1)
        with pytest.raises(ConnectionError):
            await here.drain()

    run_virtual(main)


def _busy_cluster(seed: int) -> list[str]:
    """Three members under partitions, crashes and calls; return the trace of everything."""
    trace: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        net = SimNetwork(loop, seed, trace=trace.append)
        members = [SimMember(net, n, [1, 2, 3]) for n in (1, 2, 3)]
        jobs = SimWorkers(loop, seed, trace=trace.append)
        worker = jobs.serial("w")
        async with running(*members):
            await until(lambda: all(len(m.transport.connected()) == 2 for m in members))
            for step in range(60):
                sender, target = members[step % 3], members[(step + 1) % 3]
                sender.transport.send(heartbeat(sender.member_id, target.member_id, step))
                call = sender.transport.call(target.member_id, "m", b"%d" % step, 0.3)
                outcome = await asyncio.gather(call, worker.run(int), return_exceptions=True)
                trace.append(f"{loop.time():.9f} {outcome!r}")
                if step % 20 == 5:
                    net.partition(["member1"], ["member2", "member3"])
                if step % 20 == 15:
                    net.heal()
                    net.drop_connections("member2", "member3")
        trace.extend(f"{m.handler.disconnected} {len(m.handler.messages)}" for m in members)

    run_virtual(main)
    return trace


@pytest.mark.parametrize("seed", [1, 2])
def test_one_seed_gives_one_trace(seed: int) -> None:
    first, second = _busy_cluster(seed), _busy_cluster(seed)
    assert len(first) > 300
    assert first == second


def test_another_seed_gives_another_trace() -> None:
    assert _busy_cluster(1) != _busy_cluster(2)

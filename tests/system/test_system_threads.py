from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dqlite_py.errors import ServerStopped, TooManyRequests
from dqlite_py.system import threads
from dqlite_py.system.threads import ThreadWorkers


def with_workers(test: Callable[[ThreadWorkers], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        workers = ThreadWorkers(asyncio.get_running_loop())
        try:
            async with asyncio.timeout(20):
                await test(workers)
        finally:
            workers.close()
            assert workers.join(5)

    asyncio.run(main())


def test_jobs_run_in_order_on_one_named_thread_and_results_come_back() -> None:
    async def test(workers: ThreadWorkers) -> None:
        worker = workers.serial("writer")
        seen: list[tuple[int, str]] = []

        def job(number: int) -> int:
            seen.append((number, threading.current_thread().name))
            return number * 2

        futures = [worker.run(lambda n=n: job(n)) for n in range(100)]  # type: ignore[misc]
        assert await asyncio.gather(*futures) == [number * 2 for number in range(100)]
        assert seen == [(number, "writer") for number in range(100)]

    with_workers(test)


def test_an_error_reaches_whoever_waits_and_the_thread_goes_on() -> None:
    async def test(workers: ThreadWorkers) -> None:
        worker = workers.serial("writer")

        def stop() -> None:
            raise StopIteration

        with pytest.raises(ZeroDivisionError):
            await worker.run(lambda: 1 // 0)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await worker.run(stop)
        assert await worker.run(lambda: "alive") == "alive"

    with_workers(test)


def test_a_cancelled_future_neither_stops_its_job_nor_harms_the_next() -> None:
    async def test(workers: ThreadWorkers) -> None:
        worker = workers.serial("writer")
        go, ran = threading.Event(), threading.Event()
        first = worker.run(go.wait)
        second = worker.run(ran.set)
        first.cancel()
        second.cancel()
        go.set()
        assert await worker.run(lambda: ran.is_set())

    with_workers(test)


def test_notify_arrives_before_the_result_of_the_job_that_sent_it() -> None:
    async def test(workers: ThreadWorkers) -> None:
        worker = workers.serial("writer")
        events: list[str] = []

        def job() -> None:
            workers.notify(lambda: events.append("told"))

        await worker.run(job)
        assert events == ["told"]

    with_workers(test)


def test_a_burst_of_results_wakes_the_loop_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(workers: ThreadWorkers) -> None:
        loop = asyncio.get_running_loop()
        woken: list[object] = []
        wake = loop.call_soon_threadsafe

        def counting(*args: Any) -> Any:
            woken.append(args)
            return wake(*args)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
        worker = workers.serial("writer")
        done = threading.Event()
        futures = [worker.run(int) for _ in range(500)] + [worker.run(done.set)]
        done.wait(10)  # the loop is held up here while all jobs finish
        await asyncio.gather(*futures)
        assert len(woken) <= 2

    with_workers(test)


def test_a_closed_worker_refuses_jobs_but_finishes_those_queued() -> None:
    async def test(workers: ThreadWorkers) -> None:
        worker = workers.serial("writer")
        queued = [worker.run(int) for _ in range(10)]
        worker.close()
        worker.close()
        with pytest.raises(ServerStopped):
            worker.run(int)
        assert await asyncio.gather(*queued) == [0] * 10

    with_workers(test)


def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_QUEUED_JOBS", 3)

    async def test(workers: ThreadWorkers) -> None:
        worker = workers.serial("writer")
        go, running = threading.Event(), threading.Event()
        worker.run(lambda: (running.set(), go.wait()))
        running.wait(5)
        waiting = [worker.run(int) for _ in range(3)]
        with pytest.raises(TooManyRequests):
            worker.run(int)
        go.set()
        await asyncio.gather(*waiting)

    with_workers(test)


def test_a_job_that_ends_after_its_loop_was_closed_is_dropped_in_silence() -> None:
    go = threading.Event()

    async def main() -> ThreadWorkers:
        workers = ThreadWorkers(asyncio.get_running_loop())
        workers.serial("writer").run(go.wait)
        return workers

    workers = asyncio.run(main())
    go.set()
    workers.close()
    assert workers.join(5)

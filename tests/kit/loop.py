"""An event loop on virtual time, with clocks and workers that live on it.

Time stands still while anything is ready to run and jumps to the next timer otherwise, so a
simulated hour takes as long as its computation. Nothing here depends on real time, threads or
object addresses: one seed gives one run.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from dqlite_py.errors import ServerStopped

T = TypeVar("T")

LatencyOf = Callable[[random.Random, str], float]


class Deadlock(RuntimeError):
    """Everything waits and nothing is scheduled: virtual time has nowhere to go."""


class _Task(asyncio.Task[Any]):
    """A task whose hash is its number.

    asyncio keeps tasks in sets and cancels them in the sets' order, which would follow memory
    addresses otherwise.
    """

    def __init__(self, number: int, *args: Any, **kwargs: Any) -> None:
        self._number = number
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _JumpingSelector:
    """Stands where a selector would wait for sockets: waiting moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock(f"nothing is scheduled at {self._loop.time():.6f} s")
        if timeout > 0:
            self._loop.jump()
        return []

    def close(self) -> None:
        return


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio event loop without sockets whose ``time`` is virtual and starts at ``start_s``."""

    _scheduled: list[asyncio.TimerHandle]  # asyncio's heap of timers

    def __init__(self, start_s: float = 0.0) -> None:
        super().__init__()
        self._now_s = start_s
        self._clock_resolution = 1e-9
        self._selector = _JumpingSelector(self)
        self._tasks_made = 0
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._now_s

    def jump(self) -> None:
        """Move the clock to the next timer."""
        self._now_s = max(self._now_s, self._scheduled[0].when())

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **kwargs: Any) -> Any:
        self._tasks_made += 1
        return _Task(self._tasks_made, coro, loop=loop, **kwargs)

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        return  # nothing sleeps in a selector


def run_virtual(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    limit_s: float | None = 3600.0,
    start_s: float = 0.0,
) -> T:
    """Run ``main()`` on a new virtual loop; ``limit_s`` of virtual time end it with TimeoutError.

    Errors that asyncio would only log (a failed callback, an exception nobody fetched) fail the
    run.
    """
    loop = VirtualLoop(start_s)
    unhandled: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unhandled.append(context))
    try:
        result = loop.run_until_complete(_limited(main, limit_s))
    finally:
        _cancel_all(loop)
        loop.close()
    for context in unhandled:
        raise AssertionError(context["message"]) from context.get("exception")
    return result


async def _limited(main: Callable[[], Coroutine[Any, Any, T]], limit_s: float | None) -> T:
    async with asyncio.timeout(limit_s):
        return await main()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = sorted(asyncio.all_tasks(loop), key=hash)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks))
    loop.run_until_complete(loop.shutdown_asyncgens())


class SimClock:
    """One node's clock on a virtual loop, as ``seams.Clock``.

    ``drift`` is how many of its seconds pass in one of the loop's; ``offset_s`` what it showed
    at the loop's time 0; ``wall_offset_s`` likewise for wall time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        drift: float = 1.0,
        offset_s: float = 1000.0,
        wall_offset_s: float = 1_700_000_000.0,
    ) -> None:
        self._loop = loop
        self.drift = drift
        self.offset_s = offset_s
        self.wall_offset_s = wall_offset_s

    def now_s(self) -> float:
        return self.offset_s + self._loop.time() * self.drift

    def wall_s(self) -> float:
        return self.wall_offset_s + self._loop.time() * self.drift


def quick_jobs(rng: random.Random, name: str) -> float:
    """Latency of a job in seconds: mostly tens of microseconds, now and then milliseconds."""
    return rng.uniform(10e-6, 100e-6) if rng.random() < 0.95 else rng.uniform(1e-3, 5e-3)


class SimWorkers:
    """One node's worker threads on a virtual loop, as ``seams.Workers``.

    Each job runs at once, on the event loop, at a virtual time chosen from the seed; jobs of one
    worker run in order, those of several interleave. ``stop`` is the node's death: no queued job
    runs after it and no future settles.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seed: object,
        *,
        latency_s: LatencyOf = quick_jobs,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self._loop = loop
        self._seed = seed
        self._made = 0
        self.latency_s = latency_s
        self.trace = trace
        self.stopped = False

    def serial(self, name: str) -> SimWorker:
        self._made += 1
        return SimWorker(self, self._loop, name, random.Random(f"{self._seed}/{self._made}/{name}"))

    def notify(self, callback: Callable[[], None]) -> None:
        self._loop.call_soon(self._call_unless_stopped, callback)

    def stop(self) -> None:
        self.stopped = True

    def _call_unless_stopped(self, callback: Callable[[], None]) -> None:
        if not self.stopped:
            callback()


class SimWorker:
    """One simulated thread; see SimWorkers."""

    def __init__(
        self, owner: SimWorkers, loop: asyncio.AbstractEventLoop, name: str, rng: random.Random
    ) -> None:
        self._owner = owner
        self._loop = loop
        self._name = name
        self._rng = rng
        self._jobs: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()
        self._closed = False

    def run(self, job: Callable[[], T]) -> Awaitable[T]:
        if self._closed or self._owner.stopped:
            raise ServerStopped
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.append((future, job))
        if len(self._jobs) == 1:
            self._schedule()
        return future

    def close(self) -> None:
        self._closed = True

    def _schedule(self) -> None:
        self._loop.call_later(self._owner.latency_s(self._rng, self._name), self._run_first)

    def _run_first(self) -> None:
        if self._owner.stopped:
            self._jobs.clear()
            return
        future, job = self._jobs[0]
        if self._owner.trace is not None:
            self._owner.trace(f"{self._loop.time():.9f} job {self._name}")
        result, error = None, None
        try:
            result = job()
        except Exception as raised:  # handed to whoever waits, as a thread would
            error = raised
        # The job itself may have been the node's death.
        if not self._owner.stopped and not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)
        self._jobs.popleft()
        if self._jobs:
            self._schedule()

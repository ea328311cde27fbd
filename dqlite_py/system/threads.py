"""Threads on the real machine, one a worker, with cheap delivery of results to the event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from dqlite_py.errors import ServerStopped, TooManyRequests

T = TypeVar("T")

_Job = tuple["asyncio.Future[Any]", Callable[[], Any]]

MAX_QUEUED_JOBS = 10_000
"""Jobs one worker holds at most; callers bound themselves far below, this catches a mistake."""


class _Outbox:
    """Things worker threads want done on the event loop, delivered with one wakeup a burst.

    Waking the loop costs a system call, so it is skipped while an earlier wakeup is still on its
    way. ``_drain`` clears the flag before it empties the queue: a thread that appends and then
    still sees the flag set is therefore certain that the pending drain finds its item.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._waking = False

    def post(self, callback: Callable[..., None], *args: Any) -> None:
        """(any thread) Call ``callback(*args)`` on the event loop, in the order of posting.

        Does nothing once the loop is closed: nobody is left to wait for a result.
        """
        self._items.append((callback, args))
        if self._waking:
            return
        self._waking = True
        try:
            self._loop.call_soon_threadsafe(self._drain)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _drain(self) -> None:
        self._waking = False
        items = self._items
        # Only what is here now: a thread posting without pause must not starve the loop.
        for _ in range(len(items)):
            callback, args = items.popleft()
            try:
                callback(*args)
            except Exception as error:  # one bad callback must not swallow the results behind it
                self._loop.call_exception_handler(
                    {"message": "a worker's callback failed", "exception": error}
                )
        if items and not self._waking:
            self._waking = True
            self._loop.call_soon(self._drain)


class ThreadWorker:
    """One thread that runs jobs in the order given, as ``seams.Worker``."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop, outbox: _Outbox) -> None:
        self._loop = loop
        self._outbox = outbox
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=False)
        self._thread.start()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """(event loop) Queue ``job``; the future settles on the loop with its result or error.

        Raises ServerStopped after ``close`` and TooManyRequests when ``MAX_QUEUED_JOBS`` wait.
        Abandoning or cancelling the future does not stop the job.
        """
        if self._closed:
            raise ServerStopped
        if self._jobs.qsize() >= MAX_QUEUED_JOBS:
            raise TooManyRequests
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((future, job))
        return future

    def close(self) -> None:
        """Refuse further jobs; those already queued still run, then the thread ends."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)

    def join(self, timeout_s: float | None = None) -> bool:
        """Block until the thread has ended; return whether it has. Call ``close`` first."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        while (item := self._jobs.get()) is not None:
            future, job = item
            try:
                result = job()
            except BaseException as error:  # the waiting coroutine must learn of it
                self._outbox.post(_settle_error, future, error)
            else:
                self._outbox.post(_settle, future, result)
                del result
            # Until the next job arrives this frame must not keep the last one's objects alive.
            del item, future, job


class ThreadWorkers:
    """Makes threads, as ``seams.Workers``; create it inside the running event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._outbox = _Outbox(loop)
        self._made: list[ThreadWorker] = []

    def serial(self, name: str) -> ThreadWorker:
        """Start a thread called ``name`` and return the worker it serves."""
        worker = ThreadWorker(name, self._loop, self._outbox)
        self._made.append(worker)
        return worker

    def notify(self, callback: Callable[[], None]) -> None:
        """From inside a running job: call ``callback`` on the event loop soon.

        Ordering: before the futures of jobs that finish later than this call.
        """
        self._outbox.post(callback)

    def close(self) -> None:
        """Close every worker made here."""
        for worker in self._made:
            worker.close()

    def join(self, timeout_s: float) -> bool:
        """Block until all threads have ended, at most ``timeout_s`` each; return whether they did.

        Call ``close`` first. Futures of jobs that end meanwhile settle only if the loop runs on.
        """
        return all(worker.join(timeout_s) for worker in self._made)


def _settle(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _settle_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):
        # A future cannot carry it: awaiting it would look like the end of the coroutine.
        stopped = RuntimeError("a job raised StopIteration")
        stopped.__cause__ = error
        error = stopped
    future.set_exception(error)

"""The wall clock that a tester sets: what follows it, and what does not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from jepsen.nodes.clock import SOURCE, WallClock
from jepsen.nodes.library import NoCompiler, build

READER = """
import sys, time, datetime, threading
WAYS = {
    "time": time.time,
    "seconds": lambda: time.clock_gettime(time.CLOCK_REALTIME),
    "datetime": lambda: datetime.datetime.now().timestamp(),
    "monotonic": time.monotonic,
}
for line in sys.stdin:
    if line.strip() == "waits":
        began_s = time.monotonic()
        time.sleep(0.05)
        threading.Event().wait(0.05)
        print(time.monotonic() - began_s, flush=True)
    else:
        print(WAYS[line.strip()](), flush=True)
"""
DAY_S = 86_400.0
WAYS = ["time", "seconds", "datetime"]


class Server:
    """A process that says what its clocks show."""

    def __init__(self, clock: WallClock) -> None:
        self.clock = clock
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER],
            env={**os.environ, **clock.environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str) -> float:
        """Return a reading."""
        written, read = self._pipes()
        written.write(what + "\n")
        written.flush()
        return float(read.readline())

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout

    def close(self) -> None:
        self._pipes()[0].close()
        self.process.wait()
        self._pipes()[1].close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    try:
        build(SOURCE)
    except NoCompiler as reason:
        pytest.skip(str(reason))
    server = Server(WallClock(tmp_path))
    yield server
    server.close()


def ahead_s(server: Server, way: str) -> tuple[float, float]:
    """Return bounds of how far the shown clock is ahead of the true one."""
    before_s = time.time()
    shown_s = server.ask(way)
    return shown_s - time.time(), shown_s - before_s


def assert_ahead(server: Server, way: str, wanted_s: float) -> None:
    least_s, most_s = ahead_s(server, way)
    assert least_s - 0.001 <= wanted_s <= most_s + 0.001


@pytest.mark.parametrize("way", WAYS)
def test_the_clock_is_true_until_it_is_set(server: Server, way: str) -> None:
    assert_ahead(server, way, 0.0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("offset_s", [-DAY_S, -2.5, 3600.0])
def test_a_jump_is_seen_at_once_by_a_running_process(
    server: Server, way: str, offset_s: float
) -> None:
    server.ask(way)
    server.clock.jump(offset_s)
    assert_ahead(server, way, offset_s)
    server.clock.jump(0)
    assert_ahead(server, way, 0.0)


def test_the_monotonic_clock_stays_true(server: Server) -> None:
    server.clock.jump(DAY_S)
    before_s = time.monotonic()
    shown_s = server.ask("monotonic")
    assert before_s <= shown_s <= time.monotonic()


@pytest.mark.parametrize("speed", [0.5, 5.0])
def test_a_drift_goes_on_from_what_the_clock_shows(server: Server, speed: float) -> None:
    server.clock.jump(100.0)
    began_s = time.time()
    server.clock.drift(speed)
    set_s = time.time()
    server.ask("waits")
    before_s = time.time()
    shown_s = server.ask("time")
    after_s = time.time()
    ran = sorted([(before_s - set_s) * speed, (after_s - began_s) * speed])
    assert began_s + 100.0 + ran[0] - 0.001 <= shown_s <= set_s + 100.0 + ran[1] + 0.001
    assert abs(shown_s - before_s - 100.0) > 0.01


@pytest.mark.parametrize("offset_s", [-DAY_S, DAY_S])
def test_waits_last_as_long_as_they_should(server: Server, offset_s: float) -> None:
    server.clock.jump(offset_s)
    began_s = time.monotonic()
    waited_s = server.ask("waits")
    assert 0.1 <= waited_s <= time.monotonic() - began_s


DEADLINES = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>
static long long now_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
int main(void) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    sem_t semaphore;
    sem_init(&semaphore, 0, 0);
    pthread_mutex_lock(&mutex);
    for (int way = 0; way < 3; way++) {
        long long began = now_ns(CLOCK_MONOTONIC), until = now_ns(CLOCK_REALTIME) + 60000000;
        struct timespec deadline = {until / 1000000000, until % 1000000000};
        if (way == 0) pthread_cond_timedwait(&condition, &mutex, &deadline);
        if (way == 1) while (sem_timedwait(&semaphore, &deadline) && errno == EINTR);
        if (way == 2) clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &deadline, NULL);
        printf("%lld\n", (now_ns(CLOCK_MONOTONIC) - began) / 1000000);
    }
    return 0;
}
"""


@pytest.mark.parametrize("offset_s", [-DAY_S, DAY_S])
def test_absolute_deadlines_of_the_shown_clock_are_kept(
    server: Server, offset_s: float, tmp_path: Path
) -> None:
    (tmp_path / "deadlines.c").write_text(DEADLINES)
    program = tmp_path / "deadlines"
    subprocess.run(["gcc", "-pthread", "-o", program, tmp_path / "deadlines.c"], check=True)
    server.clock.jump(offset_s)
    began_s = time.monotonic()
    environment = {**os.environ, **server.clock.environment()}
    done = subprocess.run([program], env=environment, capture_output=True, text=True, timeout=60)
    waited_ms = [int(line) for line in done.stdout.split()]
    assert len(waited_ms) == 3
    assert min(waited_ms) >= 59
    assert sum(waited_ms) <= (time.monotonic() - began_s) * 1000

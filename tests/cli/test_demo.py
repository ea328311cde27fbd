"""The demo as a stranger runs it."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest

from tests.kit.processes import eventually, run
from tests.kit.products import under_test

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(under_test().name != "dqlite", reason="about this project's own demo"),
]

DEMO = (sys.executable, "-m", "dqlite_py", "demo")


def test_the_demo_holds_and_leaves_nothing_behind(tmp_path) -> None:
    done = run(["env", f"TMPDIR={tmp_path}", *DEMO], timeout_s=80.0)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it held" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_the_demo_can_leave_its_servers_running(tmp_path) -> None:
    done = run(["env", f"TMPDIR={tmp_path}", *DEMO, "--keep"], timeout_s=80.0)
    assert done.returncode == 0, done.stdout + done.stderr
    stop = re.search(r"stop: +kill (\d+) (\d+) (\d+)", done.stdout)
    status = re.search(r"dqlite-py (status --endpoints \S+)", done.stdout)
    assert stop is not None
    assert status is not None
    pids = [int(pid) for pid in stop.groups()]
    try:
        looked = run([sys.executable, "-m", "dqlite_py", *status[1].split()])
        assert looked.returncode == 0, looked.stderr
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
    eventually(lambda: not any(map(_is_alive, pids)), "the servers stopped")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

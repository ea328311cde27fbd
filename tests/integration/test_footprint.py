"""What three members cost before anybody asks anything of them."""

from __future__ import annotations

import pytest

from bench.measure import idle_cpu_percent, rss_mb
from tests.kit.processes import Cluster
from tests.kit.products import under_test

pytestmark = pytest.mark.process

RSS_MAX_MB = 70.0
IDLE_CPU_MAX_PERCENT = 2.0
IDLE_WINDOW_S = 5.0


def test_members_at_rest_need_little_memory_and_processor_time() -> None:
    with Cluster(under_test()) as cluster:
        cluster.start()
        used = {name: rss_mb(pid) for name, pid in cluster.pids().items()}
        assert max(used.values()) <= RSS_MAX_MB, used
        idle = idle_cpu_percent(cluster, IDLE_WINDOW_S)
        assert max(idle) <= IDLE_CPU_MAX_PERCENT, idle

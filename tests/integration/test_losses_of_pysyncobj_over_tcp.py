"""The loss P1 of pysyncobj (docs/decisions/0001) with servers, files, TCP and real time: P1b."""

from __future__ import annotations

import threading

import pytest

from tests.kit.check import assert_identical_files
from tests.kit.etcd_client import Refused
from tests.kit.processes import Cluster, ServerProcess
from tests.kit.products import Options, under_test
from tests.kit.workload import assert_same_hash

pytestmark = pytest.mark.process

WRITES = 300
VALUE_BYTES = 20_000  # the others' state is some megabytes: a snapshot of many chunks
OFTEN = Options(snapshot_count=20)


class Waiting:
    """A put whose outcome is not known yet."""

    def __init__(self, member: ServerProcess, key: bytes) -> None:
        self.key = key
        self.told: object = None
        self._member = member
        self._thread = threading.Thread(target=self._put)
        self._thread.start()

    def _put(self) -> None:
        try:
            self.told = self._member.client.put(self.key, b"lost", timeout_s=20.0)
        except Refused as error:
            self.told = error

    def join(self) -> None:
        self._thread.join()


def test_p1b_an_old_leader_that_gets_a_snapshot_has_acknowledged_nothing_that_is_lost() -> None:
    """There: after the partition the old leader reports success for its own two writes on the
    first chunk, applies them, and loses them: five runs of five.

    Here: what a client was told is what every member has.
    """
    with Cluster(under_test(), proxied=True, options=OFTEN) as cluster:
        cluster.start()
        old = cluster.wait_leader()
        others = [member for member in cluster.members if member is not old]
        old.client.put(b"before", b"x")
        cluster.isolate(old)
        waiting = [Waiting(old, b"lost%d" % number) for number in range(2)]
        new = cluster.wait_leader(others)
        for number in range(WRITES):
            new.client.put(b"k%d" % number, b"%d " % number * (VALUE_BYTES // 4))
        cluster.heal()
        cluster.wait_level(60.0)
        for put in waiting:
            put.join()
            assert put.told is not None
            for member in cluster.members:
                value = member.client.get(put.key)
                if not isinstance(put.told, Refused):
                    assert value == b"lost", f"{put.key!r} was acknowledged and is not there"
        assert_same_hash(cluster)
        if cluster.product.name == "dqlite":
            generations = {path.name for path in (old.address.data_dir / "db").iterdir()}
            assert generations != {"1"}, "the log sufficed: no snapshot was sent"
            assert_identical_files(cluster)

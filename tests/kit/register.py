"""One register written and read all the time: no read may return what was older when it began.

The judge is the modification revision, which only grows: a put whose outcome stayed unknown may
take effect late and bring back an older value, but never an older revision.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from tests.kit.etcd_client import EtcdClient, Refused
from tests.kit.processes import ServerProcess, eventually

KEY = b"register"
CALL_TIMEOUT_S = 2.0


class Readers:
    """Threads that read the register linearizably through each member, and judge each answer.

    ``acknowledged`` is raised by whoever writes, after the write was answered. A context manager:
    leaving it stops the threads and raises the first stale read.
    """

    def __init__(self, members: Sequence[ServerProcess], per_member: int = 2) -> None:
        self.answered = {member.name: 0 for member in members}
        self._acknowledged = 0
        self._stale: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(member.name, member.client))
            for member in members
            for _ in range(per_member)
        ]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert not self._stale, self._stale

    def put(self, client: EtcdClient) -> None:
        """Write the register and note the revision once it is acknowledged."""
        revision = client.put(KEY, b"", timeout_s=CALL_TIMEOUT_S).header.revision
        self._acknowledged = max(self._acknowledged, revision)

    def _read(self, name: str, client: EtcdClient) -> None:
        while not self._stop.is_set():
            floor = self._acknowledged
            try:
                answer = client.range(KEY, timeout_s=CALL_TIMEOUT_S)
            except Refused:
                self._stop.wait(0.01)
                continue
            found = answer.kvs[0].mod_revision if answer.kvs else 0
            if found < floor or answer.header.revision < floor:
                self._stale.append(f"{name} answered revision {found}, {floor} was acknowledged")
            self.answered[name] += 1

    def wait_answers(self, member: ServerProcess, more: int = 20, timeout_s: float = 20.0) -> None:
        """Return when ``member`` has answered ``more`` further reads."""
        target = self.answered[member.name] + more
        eventually(
            lambda: self.answered[member.name] >= target,
            f"{more} more reads answered by {member.name}",
            timeout_s,
        )

"""Clients that write all the time, remember what they were told, and check it afterwards."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.kit.etcd_client import EtcdClient, Refused, prefix_end
from tests.kit.processes import Cluster, eventually

CALL_TIMEOUT_S = 3.0
PAGE_KEYS = 5_000


@dataclass
class Told:
    """What the servers answered: the only truth that a client has."""

    acknowledged: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    unknown: dict[bytes, bytes] = field(default_factory=dict)
    refused: dict[bytes, str] = field(default_factory=dict)


class Writers:
    """``count`` threads, each putting new keys below ``prefix`` through one member after another.

    A context manager: leaving it stops the threads and waits for them.
    """

    def __init__(self, cluster: Cluster, prefix: bytes, count: int = 8, value_bytes: int = 16):
        self.prefix = prefix
        self.told = Told()
        self._clients = [member.client for member in cluster.members]
        self._value_bytes = value_bytes
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(number,), name=f"writer-{number}")
            for number in range(count)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for failure in self._failures:
            raise failure

    def _guarded(self, number: int) -> None:
        try:
            self._write(number)
        except BaseException as failure:
            self._failures.append(failure)

    def _write(self, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            client = self._clients[turn % len(self._clients)]
            key = self.prefix + b"%d/%06d" % (number, turn)
            value = (b"%d:%d;" % (number, turn)).ljust(self._value_bytes, b".")
            turn += 1
            try:
                answer = client.put(key, value, timeout_s=CALL_TIMEOUT_S)
            except Refused as error:
                self._note_refusal(key, value, error)
                # A member that is down refuses at once; a spinning client would starve the rest.
                self._stop.wait(0.02)
            else:
                with self._lock:
                    self.told.acknowledged[key] = (value, answer.header.revision)

    def _note_refusal(self, key: bytes, value: bytes, error: Refused) -> None:
        with self._lock:
            if error.outcome_unknown:
                self.told.unknown[key] = value
            else:
                self.told.refused[key] = str(error)

    def wait_for(self, more: int, timeout_s: float = 30.0) -> None:
        """Return when ``more`` further writes have been acknowledged."""
        target = len(self.told.acknowledged) + more
        eventually(
            lambda: len(self.told.acknowledged) >= target or bool(self._failures),
            f"{more} more acknowledged writes",
            timeout_s,
        )


def read_all(client: EtcdClient, prefix: bytes, *, serializable: bool) -> dict[bytes, Any]:
    """Return every key below ``prefix`` at one revision, in pages."""
    found: dict[bytes, Any] = {}
    start, end, revision = prefix, prefix_end(prefix), 0
    while True:
        page = client.range(
            start, end, limit=PAGE_KEYS, revision=revision, serializable=serializable
        )
        revision = revision or page.header.revision
        found.update((kv.key, kv) for kv in page.kvs)
        if not page.more:
            return found
        start = page.kvs[-1].key + b"\0"


def assert_kept(told: Told, prefix: bytes, clients: Sequence[EtcdClient]) -> None:
    """Require that every member holds what was acknowledged, and nothing that was refused."""
    for client in clients:
        found = read_all(client, prefix, serializable=True)
        lost = [key for key in told.acknowledged if key not in found]
        assert not lost, f"{client.address} lost {len(lost)} acknowledged writes: {lost[:5]}"
        for key, (value, revision) in told.acknowledged.items():
            kv = found[key]
            assert (kv.value, kv.mod_revision) == (value, revision), (client.address, key)
        for key in found.keys() - told.acknowledged.keys():
            assert key in told.unknown, (client.address, key, told.refused.get(key))


def assert_same_hash(cluster: Cluster) -> None:
    """Require that all members hash the same contents at the same revision."""
    cluster.wait_level()
    answers = [member.client.hash_kv() for member in cluster.members]
    hashes = {(answer.hash, answer.header.revision, answer.compact_revision) for answer in answers}
    assert len(hashes) == 1, hashes

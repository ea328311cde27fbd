"""Many watchers, slow clients, compactions: everyone gets exactly what the model says."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.watch.hub import WatchHub, WatchLimits
from tests.kit.loop import run_virtual
from tests.kit.watching import FakeStore, SlowReplica, WatchClient, inside

KEYS = [b"%c%c" % (first, second) for first in b"abcd" for second in b"abcd"]
STEPS = 300


class Run:
    """One seeded run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.store = FakeStore()
        self.clients: list[WatchClient] = []
        self.asked: list[list[dict[str, Any]]] = []  # per client, by watch id

    async def main(self) -> None:
        rng = self.rng
        replica = SlowReplica(lambda: rng.choice((0.0, 0.001, 0.05)))
        limits = WatchLimits(
            stream_min_bytes=200, stream_max_bytes=rng.choice((300, 2000)), fragment_bytes=150
        )
        hub = WatchHub(replica, self.store, self.store, limits, rng)
        self.store.told.append(hub.advanced)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(hub.run())]
            for _ in range(8):
                pace_s = rng.choice((0.0, 0.001, 0.2))
                client = WatchClient(hub, delay_s=lambda pace_s=pace_s: rng.random() * pace_s)
                tasks.append(group.create_task(client.run()))
                self.clients.append(client)
                self.asked.append([])
            for _ in range(STEPS):
                self.step()
                if rng.random() < 0.6:
                    await asyncio.sleep(rng.random() * 0.02)
            await asyncio.sleep(600)
            assert hub.behind_count == 0
            assert hub.queued_bytes == 0
            for task in tasks:
                task.cancel()

    def step(self) -> None:
        rng = self.rng
        choice = rng.random()
        if choice < 0.80:
            writes: list[tuple[bytes, bytes | None]] = []
            for key in rng.sample(KEYS, rng.choice((1, 1, 1, 2, 5))):
                latest = self.store.latest.get(key)
                delete = latest is not None and not latest.is_delete and rng.random() < 0.3
                writes.append((key, None if delete else rng.randbytes(rng.randrange(0, 60))))
            self.store.commit(*writes)
        elif choice < 0.95:
            self.create()
        elif choice < 0.97:
            oldest = max(self.store.compact_revision, 1)
            self.store.compact(rng.randrange(oldest, self.store.revision + 1))
        else:
            rng.choice(self.clients).ask_progress()

    def create(self) -> None:
        rng = self.rng
        first, last = sorted(rng.sample(KEYS, 2))
        end = rng.choice((b"", b"", last, b"\x00"))
        start = rng.choice((0, rng.randrange(1, self.store.revision + 20)))
        fields: dict[str, Any] = {
            "key": first,
            "range_end": end,
            "start_revision": start,
            "prev_kv": rng.random() < 0.5,
            "fragment": rng.random() < 0.3,
            "filters": rng.choice(([], [], [rpc.WatchCreateRequest.NOPUT])),
        }
        number = rng.randrange(len(self.clients))
        self.asked[number].append(fields)
        self.clients[number].create(**fields)

    def check(self) -> int:
        events = 0
        for client, asked in zip(self.clients, self.asked, strict=True):
            self.check_progress(client)
            for watch_id, fields in enumerate(asked):
                own = [r for r in client.responses if r.watch_id == watch_id]
                events += self.check_watcher(own, fields)
        return events

    def check_watcher(self, responses: list[rpc.WatchResponse], fields: dict[str, Any]) -> int:
        created, *rest = responses
        assert created.created
        start = fields["start_revision"] or created.header.revision + 1
        expected = [
            change
            for change in self.store.all_changes
            if change.revision >= start
            and inside(change.key, fields["key"], fields["range_end"])
            and (change.is_delete or not fields["filters"])
        ]
        received = [event for response in rest for event in response.events]
        cancelled = [response.compact_revision for response in rest if response.canceled]
        if cancelled:
            assert rest[-1].canceled
            last = received[-1].kv.mod_revision if received else 0
            assert cancelled[0] > max(start, last + 1)
            expected = expected[: len(received)]
        assert [(e.kv.mod_revision, e.kv.key, bool(e.type)) for e in received] == [
            (c.revision, c.key, c.is_delete) for c in expected
        ]
        for event, change in zip(received, expected, strict=True):
            assert event.kv.value == (change.value or b"")
            replaced = change.replaced
            if event.HasField("prev_kv"):
                assert fields["prev_kv"]
                assert replaced is not None
                assert event.prev_kv.value == replaced.value
            elif fields["prev_kv"]:
                assert replaced is None or change.revision <= self.store.compact_revision
        self.check_whole_revisions(rest)
        return len(received)

    def check_whole_revisions(self, responses: list[rpc.WatchResponse]) -> None:
        last = 0
        inside_fragments = False
        for response in responses:
            if not response.events:
                continue
            if not inside_fragments:
                assert response.events[0].kv.mod_revision > last
            last = response.events[-1].kv.mod_revision
            inside_fragments = response.fragment
        assert not inside_fragments

    def check_progress(self, client: WatchClient) -> None:
        promised = 0
        for response in client.responses:
            if response.watch_id == -1:
                promised = max(promised, response.header.revision)
            elif response.created:
                promised = 0  # a new watcher may look back
            for event in response.events:
                assert event.kv.mod_revision > promised


@pytest.mark.parametrize("seed", range(12))
def test_every_watcher_receives_what_the_model_says(seed: int) -> None:
    run = Run(seed)
    run_virtual(run.main)
    assert run.check() > 100


def test_the_same_seed_gives_the_same_bytes() -> None:
    runs = [Run(5), Run(5)]
    for run in runs:
        run_virtual(run.main)
    assert [c.raw for c in runs[0].clients] == [c.raw for c in runs[1].clients]

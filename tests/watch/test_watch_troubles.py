"""Watching when something is slow, gone or ending, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from dqlite_py.errors import NoLeader, ReadInterrupted, ServerStopped
from dqlite_py.watch.hub import WatchLimits
from tests.kit.watch_world import EVERYTHING, World, watching
from tests.kit.watching import WatchClient


def test_a_client_that_reads_nothing_holds_up_nobody_and_little_memory() -> None:
    async def scenario(world: World) -> None:
        stuck, quick = world.client(), world.client()
        for client in (stuck, quick):
            client.create(*EVERYTHING)
            await client.received(1)
        stuck.open.clear()
        for number in range(500):
            world.store.commit((b"k", bytes(10_000) + b"%d" % number))
            await asyncio.sleep(0.01)
        assert len(quick.events()) == 500
        assert (world.hub.synced_count, world.hub.behind_count) == (1, 1)
        assert world.hub.queued_bytes < 100_000
        stuck.open.set()
        await world.settle()
        assert stuck.events() == quick.events()
        assert (world.hub.synced_count, world.hub.behind_count) == (2, 0)

    watching(scenario, WatchLimits(stream_max_bytes=64 * 1024))


def test_falling_behind_a_compaction_cancels() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(*EVERYTHING)
        await client.received(1)
        client.open.clear()
        for _ in range(100):
            world.store.commit((b"k", bytes(10_000)))
            await asyncio.sleep(0.01)
        world.store.compact(world.store.revision)
        client.open.set()
        await world.settle()
        assert client.responses[-1].canceled
        assert client.responses[-1].compact_revision == 101
        revisions = [revision for revision, _, _ in client.events()]
        assert revisions == list(range(2, 2 + len(revisions)))
        assert len(revisions) < 100

    watching(scenario, WatchLimits(stream_max_bytes=64 * 1024))


def test_history_taken_by_an_installed_snapshot_cancels_those_who_missed_it() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"k")
        client.create(b"k", start_revision=60)
        await client.received(2)
        told, world.store.told = world.store.told, []
        for _ in range(50):
            world.store.commit((b"k", b"missed"))
        world.store.compact(40)
        told[0](world.store.revision)
        await world.settle()
        assert (client.responses[2].canceled, client.responses[2].compact_revision) == (True, 40)
        world.store.told = told
        for _ in range(10):
            world.store.commit((b"k", b"v"))
        await world.settle()
        assert client.events(1) == [(60, b"k", b"v"), (61, b"k", b"v")]

    watching(scenario)


def test_reads_that_a_rollback_interrupts_are_repeated() -> None:
    async def scenario(world: World) -> None:
        world.store.commit((b"k", b"2"))
        await world.settle()
        client = world.client()
        world.replica.errors = [NoLeader(), ReadInterrupted()]
        client.create(b"k", start_revision=2)
        await world.settle()
        world.replica.errors = [NoLeader(), ReadInterrupted()]
        world.store.commit((b"k", b"3"))
        await world.settle()
        assert world.replica.errors == []
        assert client.events() == [(2, b"k", b"2"), (3, b"k", b"3")]

    watching(scenario)


def test_a_read_that_fails_for_good_ends_that_stream_only() -> None:
    async def scenario(world: World) -> None:
        world.store.commit((b"k", b"2"))
        await world.settle()
        healthy = world.client()
        healthy.create(b"k")
        await healthy.received(1)
        world.replica.errors = [ValueError("bug")]
        failing = WatchClient(world.hub)
        failing.create(b"k", start_revision=2)
        with pytest.raises(ValueError, match="bug"):
            await failing.run()
        world.store.commit((b"k", b"3"))
        await healthy.received(2)
        assert world.hub.stream_count == 1

    watching(scenario)


def test_history_is_not_read_when_nobody_watches_live() -> None:
    async def scenario(world: World) -> None:
        for _ in range(10):
            world.store.commit((b"k", b"v"))
            await world.settle()
        assert world.store.reads == 0

    watching(scenario)


def test_the_end_of_requests_does_not_end_the_stream() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"k")
        client.finish_requests()
        await client.received(1)
        world.store.commit((b"k", b"v"))
        await client.received(2)

    watching(scenario)


def test_streams_end_when_the_hub_stops_and_free_their_watchers() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"k")
        await client.received(1)
        [stream] = world.streams
        world.streams.clear()
        world.running.cancel()
        with pytest.raises(ServerStopped):
            await asyncio.shield(stream)
        assert (world.hub.stream_count, world.hub.synced_count) == (0, 0)

    with pytest.raises(ExceptionGroup) as caught:
        watching(scenario)
    assert caught.group_contains(ServerStopped)

"""Watching, as etcd's clients see it, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from dqlite_py.pb import kv_pb2
from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.watch.hub import WatchLimits
from dqlite_py.watch.stream import COMPACTED_TEXT, DUPLICATE_TEXT, EMPTY_TEXT
from tests.kit.watch_world import EVERYTHING, World, watching


def test_created_comes_first_and_live_events_one_response_a_revision() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"a", b"c")
        await client.received(1)
        world.store.commit((b"a", b"1"), (b"b", b"2"))
        world.store.commit((b"c", b"out"))
        world.store.commit((b"a", None))
        created, first, second = await client.received(3)
        assert created.created
        assert created.header == rpc.ResponseHeader(
            cluster_id=22, member_id=11, revision=1, raft_term=3
        )
        assert [event.kv.key for event in first.events] == [b"a", b"b"]
        assert first.header.revision == 2
        assert second.events[0] == kv_pb2.Event(
            type=kv_pb2.Event.DELETE, kv=kv_pb2.KeyValue(key=b"a", mod_revision=4)
        )
        await world.settle()
        assert len(client.responses) == 3

    watching(scenario)


def test_a_start_in_the_past_replays_and_then_goes_on_live() -> None:
    async def scenario(world: World) -> None:
        for number in range(2500):
            world.store.commit((b"k", b"%d" % number))
        await world.settle()
        client = world.client()
        client.create(b"k", start_revision=2)
        await world.settle()
        sizes = [len(response.events) for response in client.responses]
        assert sizes == [0, 1000, 1000, 500]
        assert client.responses[1].header.revision == 2501
        world.store.commit((b"k", b"live"))
        await world.settle()
        assert [revision for revision, _, _ in client.events()] == list(range(2, 2503))

    watching(scenario)


def test_a_start_in_the_future_gets_nothing_earlier() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"k", start_revision=4, progress_notify=True)
        client.ask_progress()
        await client.received(1)
        for value in (b"2", b"3", b"4", b"5"):
            world.store.commit((b"k", value))
        await world.settle()
        assert client.events() == [(4, b"k", b"4"), (5, b"k", b"5")]
        assert [response.watch_id for response in client.responses] == [0, 0, 0]

    watching(scenario)


def test_a_compacted_start_is_created_and_then_cancelled() -> None:
    async def scenario(world: World) -> None:
        for value in (b"2", b"3", b"4"):
            world.store.commit((b"k", value))
        world.store.compact(3)
        await world.settle()
        client = world.client()
        client.create(b"k", start_revision=2)
        client.create(b"k", start_revision=3)
        await world.settle()
        created, cancelled = [r for r in client.responses if r.watch_id == 0]
        assert created.created
        assert (cancelled.canceled, cancelled.compact_revision) == (True, 3)
        assert (cancelled.header.revision, cancelled.cancel_reason) == (0, "")
        assert client.events(1) == [(3, b"k", b"3"), (4, b"k", b"4")]

    watching(scenario)


@pytest.mark.parametrize(
    ("request_fields", "reason"),
    [
        ({"key": b"b", "range_end": b"a"}, EMPTY_TEXT),
        ({"key": b"b", "range_end": b"b"}, EMPTY_TEXT),
        ({"key": b"b", "start_revision": -1}, COMPACTED_TEXT),
        ({"key": b"b", "watch_id": 7}, DUPLICATE_TEXT),
    ],
)
def test_a_watch_that_can_not_be_is_created_and_cancelled_at_once(
    request_fields: dict[str, object], reason: str
) -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"x", watch_id=7)
        client.create(**request_fields)  # type: ignore[arg-type]
        _, refusal = await client.received(2)
        assert (refusal.created, refusal.canceled, refusal.watch_id) == (True, True, -1)
        assert refusal.cancel_reason == reason

    watching(scenario)


def test_ids_are_given_out_in_order_skip_used_ones_and_can_be_used_again() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"k", watch_id=1)
        for _ in range(2):
            client.create(b"k")
        client.cancel(1)
        client.cancel(99)
        client.create(b"k", watch_id=1)
        responses = await client.received(5)
        assert [(r.watch_id, r.created, r.canceled) for r in responses] == [
            (1, True, False),
            (0, True, False),
            (2, True, False),
            (1, False, True),
            (1, True, False),
        ]
        world.store.commit((b"k", b"v"))
        await world.settle()
        assert sorted(response.watch_id for response in client.responses[5:]) == [0, 1, 2]

    watching(scenario)


def test_filters_leave_no_empty_responses() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"k", filters=[rpc.WatchCreateRequest.NOPUT])
        client.create(b"k", filters=[rpc.WatchCreateRequest.NODELETE])
        client.create(b"k", start_revision=1, filters=[rpc.WatchCreateRequest.NOPUT])
        await client.received(3)
        world.store.commit((b"k", b"v"))
        world.store.commit((b"k", None))
        await world.settle()
        assert client.events(0) == client.events(2) == [(3, b"k", None)]
        assert client.events(1) == [(2, b"k", b"v")]
        assert all(response.events for response in client.responses[3:])

    watching(scenario)


def test_previous_pairs_come_only_when_asked_and_never_with_a_create() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"k", prev_kv=True)
        client.create(b"k")
        await client.received(2)
        world.store.commit((b"k", b"1"))
        world.store.commit((b"k", b"2"))
        world.store.commit((b"k", None))
        await world.settle()
        with_previous = [r.events[0] for r in client.responses[2:] if r.watch_id == 0]
        assert [event.prev_kv.value for event in with_previous] == [b"", b"1", b"2"]
        assert [event.HasField("prev_kv") for event in with_previous] == [False, True, True]
        without = [r.events[0] for r in client.responses[2:] if r.watch_id == 1]
        assert not any(event.HasField("prev_kv") for event in without)

    watching(scenario)


def test_previous_pairs_at_or_below_the_compact_revision_are_not_told() -> None:
    async def scenario(world: World) -> None:
        for value in (b"2", b"3", b"4"):
            world.store.commit((b"k", value))
        world.store.compact(3)
        await world.settle()
        client = world.client()
        client.create(b"k", start_revision=3, prev_kv=True)
        await world.settle()
        at_compaction, after = client.responses[1].events
        assert not at_compaction.HasField("prev_kv")
        assert after.prev_kv.value == b"3"

    watching(scenario)


def test_large_responses_are_split_only_for_those_who_allow_it() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(*EVERYTHING, fragment=True)
        client.create(*EVERYTHING)
        await client.received(2)
        world.store.commit(*[(b"k%d" % number, bytes(400)) for number in range(10)])
        await world.settle()
        parts = [r for r in client.responses[2:] if r.watch_id == 0]
        assert [part.fragment for part in parts] == [True] * (len(parts) - 1) + [False]
        assert len(parts) > 3
        assert {part.header.revision for part in parts} == {2}
        [whole] = [r for r in client.responses[2:] if r.watch_id == 1]
        assert not whole.fragment
        assert [e for part in parts for e in part.events] == list(whole.events)

    watching(scenario, WatchLimits(fragment_bytes=1000))


def test_progress_is_notified_to_idle_synced_watchers_that_asked() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.create(b"k", progress_notify=True)
        client.create(b"k")
        await client.received(2)
        await asyncio.sleep(11.5)
        assert [(r.watch_id, r.header.revision) for r in client.responses[2:]] == [(0, 1)]
        world.store.commit((b"k", b"v"))
        await asyncio.sleep(11.5)  # one tick: had events, no notification
        assert len(client.responses) == 5
        await asyncio.sleep(11.5)
        progress = client.responses[5]
        assert (progress.watch_id, progress.header.revision) == (0, 2)
        assert not progress.events

    watching(scenario, WatchLimits(progress_interval_s=10.0))


def test_asked_progress_comes_after_all_events_up_to_its_revision() -> None:
    async def scenario(world: World) -> None:
        client = world.client()
        client.ask_progress()  # no watchers: no answer
        client.create(b"k")
        await client.received(1)
        world.store.commit((b"k", b"v"))
        client.ask_progress()
        _, event, progress = await client.received(3)
        assert event.events[0].kv.mod_revision == 2
        assert (progress.watch_id, progress.header.revision) == (-1, 2)
        assert not (progress.created or progress.canceled or progress.events)

    watching(scenario)


def test_asked_progress_is_not_answered_while_a_watcher_is_behind() -> None:
    async def scenario(world: World) -> None:
        world.store.commit((b"k", b"v"))
        await world.settle()
        client = world.client()
        client.create(b"k", start_revision=1)
        client.ask_progress()
        await world.settle()
        assert [response.watch_id for response in client.responses] == [0, 0]
        client.ask_progress()
        await world.settle()
        assert client.responses[-1].watch_id == -1

    watching(scenario)

"""Limits on what is sent, applied and stored in one piece, and the Ready contract."""

from __future__ import annotations

import random
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqlite_py.raft import (
    ConfChange,
    ConfChangeKind,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeV2,
    Config,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    InvalidConfChange,
    InvariantBroken,
    MemoryStorage,
    Message,
    MessageKind,
    ProgressState,
    RawNode,
    decode_conf_change,
    encode_conf_change,
)
from dqlite_py.raft.confchange import Changer, Configuration
from tests.kit.raft_cluster import Cluster, of_kind, storage_with


def test_window_is_limited_by_count() -> None:
    cluster = Cluster(max_inflight_messages=3)
    leader = cluster.elect(1)
    for number in range(6):
        leader.propose([b"%d" % number])
    cluster.work(1)
    assert len(cluster.take(lambda m: m.to == 2 and m.kind == MessageKind.APP)) == 3
    assert leader.progress[2].is_paused()


def test_window_is_limited_by_bytes() -> None:
    cluster = Cluster(max_inflight_bytes=250, max_size_per_message_bytes=250)
    leader = cluster.elect(1)
    for _ in range(6):
        leader.propose([b"x" * 100])
    cluster.work(1)
    assert len(cluster.take(lambda m: m.to == 2 and m.kind == MessageKind.APP)) == 3
    cluster.settle()
    assert len(cluster.data(3)) == 6  # as it is acknowledged, the window moves on


def test_long_log_is_sent_in_limited_messages() -> None:
    cluster = Cluster(max_size_per_message_bytes=1000)
    leader = cluster.elect(1)
    cluster.isolate(3)
    leader.propose([b"x" * 100] * 50)
    cluster.settle()
    cluster.heal()
    cluster.tick(1)
    sizes = []
    while len(cluster.data(3)) < 50:
        cluster.settle(lambda m: m.kind != MessageKind.APP)
        appends = cluster.take(of_kind(MessageKind.APP))
        assert appends
        for message in appends:
            sizes.append(sum(len(entry.data) for entry in message.entries))
            cluster.deliver(message)
    assert max(sizes) <= 1000
    assert len([size for size in sizes if size]) > 5


def test_entry_above_the_message_limit_is_sent_alone() -> None:
    cluster = Cluster(max_size_per_message_bytes=10)
    leader = cluster.elect(1)
    leader.propose([b"x" * 100, b"y" * 100])
    cluster.settle()
    assert cluster.data(3) == [b"x" * 100, b"y" * 100]


def test_unreachable_member_is_probed_and_recovers() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.report_unreachable(2)
    assert leader.progress[2].state is ProgressState.PROBE
    leader.propose([b"x"])
    cluster.settle()
    assert leader.progress[2].state is ProgressState.REPLICATE
    assert cluster.data(2) == [b"x"]


def test_committed_entries_are_handed_out_within_the_limit() -> None:
    storage = storage_with(ConfState((1,)), [1] * 10, HardState(1, 0, 11))
    node = RawNode(
        Config(
            id=1,
            storage=storage,
            random=random.Random(1),
            max_committed_bytes_per_ready=1,
            applied=1,
        )
    )
    seen = []
    while node.has_ready():
        ready = node.ready()
        assert len(ready.committed_entries) <= 1
        seen += [entry.index for entry in ready.committed_entries]
        node.advance(ready)
    assert seen == list(range(2, 12))


def test_late_refusal_of_an_acknowledged_append_is_ignored() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    refusal = Message(MessageKind.APP_RESP, to=1, from_=2, term=leader.term, index=1, reject=True)
    leader.step(refusal)
    assert leader.progress[2].state is ProgressState.REPLICATE


def test_entries_replaced_while_being_written_are_written_again() -> None:
    cluster = Cluster()
    cluster.slow_disks.add(3)

    def append(term: int, index: int, log_term: int, *terms: int) -> None:
        entries = tuple(Entry(each, index + 1 + n) for n, each in enumerate(terms))
        cluster.deliver(
            Message(
                MessageKind.APP,
                to=3,
                from_=1 if term == 2 else 2,
                term=term,
                log_term=log_term,
                index=index,
                entries=entries,
            )
        )

    append(2, 1, 1, 2, 2, 2)
    append(3, 2, 2, 3)  # replaces the second of three whose write has begun
    cluster.finish_writes(3)
    assert cluster.log(3) == [(2, 2), (3, 3)]


def test_application_waits_for_the_member_s_own_disk() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.slow_disks.add(1)
    leader.propose([b"x"])
    cluster.settle()
    assert leader.commit == leader.last_index  # two followers are enough to commit
    cluster.work(1)
    assert MessageKind.STORAGE_APPLY not in [work.kind for work in cluster.unfinished[1]]
    cluster.finish_writes(1)
    cluster.work(1)
    cluster.finish_writes(1)
    assert cluster.data(1) == [b"x"]


def test_ready_and_advance_alternate() -> None:
    node = RawNode(
        Config(id=1, storage=storage_with(ConfState((1,))), random=random.Random(1), applied=1)
    )
    node.campaign()
    ready = node.ready()
    with pytest.raises(InvariantBroken):
        node.ready()
    node.advance(ready)
    with pytest.raises(InvariantBroken):
        node.advance(ready)


def test_only_a_new_commit_index_needs_no_sync() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster[1].propose([b"x"])
    assert cluster[1].ready().must_sync


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": 0},
        {"heartbeat_tick": 0},
        {"election_tick": 1},
        {"max_inflight_messages": 0},
        {"max_inflight_bytes": 5},
        {"max_uncommitted_bytes": 0},
    ],
)
def test_contradictory_settings_are_refused(wrong: dict[str, int]) -> None:
    settings: dict[str, object] = {
        "id": 1,
        "storage": MemoryStorage(),
        "random": random.Random(1),
        **wrong,
    }
    with pytest.raises(ValueError, match="must"):
        RawNode(Config(**settings))  # type: ignore[arg-type]


_singles = st.builds(
    ConfChangeSingle, st.sampled_from(ConfChangeKind), st.integers(0, (1 << 64) - 1)
)
_changes = st.one_of(
    st.builds(
        ConfChange,
        st.sampled_from(ConfChangeKind),
        st.integers(0, (1 << 64) - 1),
        st.binary(max_size=50),
    ),
    st.builds(
        ConfChangeV2,
        st.sampled_from(ConfChangeTransition),
        st.lists(_singles, max_size=9).map(tuple),
        st.binary(max_size=50),
    ),
)


@given(_changes)
def test_membership_change_survives_its_encoding(change: ConfChange | ConfChangeV2) -> None:
    kind, data = encode_conf_change(change)
    assert decode_conf_change(Entry(1, 1, kind, data)) == change


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (EntryKind.NORMAL, b""),
        (EntryKind.CONF_CHANGE, b"\x00"),
        (EntryKind.CONF_CHANGE, b"\x09" + bytes(8)),
        (EntryKind.CONF_CHANGE_V2, b"\x00"),
        (EntryKind.CONF_CHANGE_V2, b"\x00\x01\x00"),
        (EntryKind.CONF_CHANGE_V2, b"\x00\x02" + bytes(9)),
        (EntryKind.CONF_CHANGE_V2, b"\x07\x00"),
    ],
)
def test_damaged_membership_change_is_refused(kind: EntryKind, data: bytes) -> None:
    with pytest.raises(InvalidConfChange):
        decode_conf_change(Entry(1, 7, kind, data))


def test_too_many_steps_are_refused() -> None:
    step = ConfChangeSingle(ConfChangeKind.ADD_NODE, 1)
    with pytest.raises(InvalidConfChange):
        encode_conf_change(ConfChangeV2(changes=(step,) * 256))


_small = st.lists(st.builds(ConfChangeSingle, st.sampled_from(ConfChangeKind), st.integers(1, 5)))


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(_small, max_size=6))
def test_simple_change_equals_the_same_change_through_a_joint_configuration(
    history: list[list[ConfChangeSingle]],
) -> None:
    start = [ConfChangeSingle(ConfChangeKind.ADD_NODE, 1)]
    configuration, progress = Changer(Configuration(), {}, 10, 10, 0).simple(start)
    for changes in history:
        changer = Changer(configuration, progress, 10, 10, 0)
        try:
            simple, simple_progress = changer.simple(changes)
        except InvalidConfChange:
            continue
        joint, joint_progress = changer.enter_joint(changes, auto_leave=False)
        left, left_progress = Changer(joint, joint_progress, 10, 10, 0).leave_joint()
        assert left == simple
        assert {m: str(p) for m, p in left_progress.items()} == {
            m: str(p) for m, p in simple_progress.items()
        }
        state = joint.conf_state()
        restored, restored_progress = Changer(Configuration(), {}, 10, 10, 0).restore(state)
        assert restored == joint
        assert {m: p.is_learner for m, p in restored_progress.items()} == {
            m: p.is_learner for m, p in joint_progress.items()
        }
        configuration, progress = simple, simple_progress


def test_stored_values_are_values() -> None:
    assert Entry(1, 2, EntryKind.NORMAL, b"x") == Entry(1, 2, data=b"x")
    assert len({Entry(1, 2), Entry(1, 2)}) == 1
    with pytest.raises(FrozenInstanceError):
        HardState(1, 2, 3).term = 4  # type: ignore[misc]

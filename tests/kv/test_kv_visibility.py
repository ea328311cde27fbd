"""Readers see what is committed: not the writer's speculation, not compaction's holes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dqlite_py import errors
from dqlite_py.kv import note as notes
from dqlite_py.kv.commands import Command, Kind
from dqlite_py.kv.history import History
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.loop import run_virtual
from tests.kit.single_etcd import ALL, SingleEtcd, op_put


def put(key: bytes, **fields: Any) -> Command:
    return Command(Kind.PUT, rpc.PutRequest(key=key, **fields))


def grant(lease: int) -> Command:
    return Command(Kind.LEASE_GRANT, rpc.LeaseGrantRequest(ID=lease, TTL=60))


@pytest.fixture
def etcd() -> SingleEtcd:
    etcd = SingleEtcd()
    etcd.put(b"a")
    return etcd


def speculate(etcd: SingleEtcd, *commands: Command) -> bytes:
    """Execute commands so that their rows are readable but not committed; return the note."""
    session = etcd.replica.session
    for command in commands:
        etcd.machine.execute(session, command)
    return etcd.machine.note()


def test_speculation_is_invisible_until_applied(etcd: SingleEtcd) -> None:
    note = speculate(etcd, put(b"b"), put(b"a", value=b"new"))
    response = etcd.range(**ALL)
    assert [(one.key, one.value) for one in response.kvs] == [(b"a", b"")]
    assert (response.count, response.header.revision) == (1, 2)
    with pytest.raises(errors.FutureRevision):
        etcd.range(b"b", revision=3)
    etcd.machine.before_apply(note)
    assert etcd.keys(**ALL) == [b"a"]
    etcd.machine.applied(9, note)
    assert etcd.keys(**ALL) == [b"a", b"b"]


def test_a_speculative_compact_revision_hides_nothing(etcd: SingleEtcd) -> None:
    etcd.put(b"a")
    note = speculate(etcd, Command(Kind.COMPACT, rpc.CompactionRequest(revision=3)))
    assert etcd.keys(b"a", revision=2) == [b"a"]
    etcd.machine.before_apply(note)
    with pytest.raises(errors.Compacted):
        etcd.range(b"a", revision=2)


def test_rows_are_not_deleted_under_a_speculative_compact_revision(etcd: SingleEtcd) -> None:
    etcd.put(b"a")
    note = speculate(etcd, Command(Kind.COMPACT, rpc.CompactionRequest(revision=3)))
    step = Command(Kind.COMPACT_STEP, rpc.CompactionRequest(revision=3))
    with pytest.raises(errors.FutureRevision):
        speculate(etcd, step)
    assert etcd.keys(b"a", revision=2) == [b"a"]
    etcd.machine.before_apply(note)
    etcd.machine.applied(9, note)
    speculate(etcd, step)


def test_a_read_whose_snapshot_lacks_rows_is_refused_or_run_again(etcd: SingleEtcd) -> None:
    """Between choosing the revision and fixing the snapshot, compaction may go past it."""
    read, pending = etcd.replica.read_now, []

    def overtaken_once(query: Any) -> Any:
        committed = etcd.machine.revision
        if not pending:
            pending.append(True)
            etcd.replica.write_batch([put(b"a", value=b"2"), put(b"a", value=b"3")])
            etcd.replica.write_batch([Command(Kind.COMPACT, rpc.CompactionRequest(revision=4))])
            etcd.replica.write_batch(
                [Command(Kind.COMPACT_STEP, rpc.CompactionRequest(revision=4))]
            )
            etcd.machine.revision = committed  # as sampled a moment ago
            try:
                return read(query)
            finally:
                etcd.machine.revision = 4
        return read(query)

    etcd.replica.read_now = overtaken_once  # type: ignore[method-assign]

    async def main() -> rpc.RangeResponse:
        return await etcd.kv.range(rpc.RangeRequest(key=b"a"))

    response = run_virtual(main)
    assert (response.header.revision, response.kvs[0].value) == (4, b"3")


def test_a_refused_command_leaves_the_counters_alone(etcd: SingleEtcd) -> None:
    results = etcd.replica.write_batch(
        [put(b"x"), put(b"y", lease=9), grant(9), put(b"z", lease=9)]
    )
    assert isinstance(results[1], errors.LeaseNotFound)
    assert [one.response.header.revision for one in (results[0], *results[2:])] == [3, 3, 4]


def test_restoring_a_mark_undoes_every_counter(etcd: SingleEtcd) -> None:
    session, machine = etcd.replica.session, etcd.machine
    raised = rpc.AlarmRequest(
        action=rpc.AlarmRequest.ACTIVATE, memberID=2**64 - 1, alarm=rpc.CORRUPT
    )
    before = machine.mark()
    with pytest.raises(RuntimeError), session:
        for command in (
            put(b"x"),
            grant(4),
            Command(Kind.COMPACT, rpc.CompactionRequest(revision=2)),
            Command(Kind.ALARM, raised),
        ):
            machine.execute(session, command)
        raise RuntimeError
    machine.restore(before)
    assert machine.mark() == before
    assert notes.decode(machine.note()) == notes.Note(2, -1, -1)


def test_subscribers_hear_of_committed_changes_in_order(etcd: SingleEtcd) -> None:
    heard: list[Any] = []
    etcd.machine.subscribe(heard.append)
    etcd.machine.subscribe_leases(heard.append)
    etcd.replica.write_batch([put(b"x"), grant(5), grant(6), put(b"y", lease=5)])
    etcd.revoke(5)
    etcd.delete(b"nothing")
    assert heard == [4, ((5, 60), (6, 60)), 5, ((5, notes.REVOKED),)]


def test_too_many_lease_changes_for_a_note_say_so(etcd: SingleEtcd) -> None:
    heard: list[Any] = []
    etcd.machine.subscribe_leases(heard.append)
    etcd.replica.write_batch([grant(lease) for lease in range(1, notes.MOST_LEASES + 2)])
    assert heard == [None]


def test_the_largest_note_fits() -> None:
    alarms = frozenset((2**64 - 1 - member, 2) for member in range(30))
    leases = tuple((2**63 - 1 - lease, 9_000_000_000) for lease in range(notes.MOST_LEASES))
    note = notes.Note(2**40, 2**40 - 1, -1, leases, alarms)
    assert len(notes.encode(note)) <= 1024
    assert notes.decode(notes.encode(note)) == note
    with pytest.raises(ValueError, match="version"):
        notes.decode(b"\xff" + notes.encode(note)[1:])


def test_another_member_takes_everything_from_the_tables(etcd: SingleEtcd) -> None:
    etcd.grant(5)
    etcd.compact(2)
    machine = EtcdMachine()
    heard: list[Any] = []
    machine.subscribe(heard.append)
    machine.subscribe_leases(heard.append)
    assert not machine.has_schema
    machine.reloaded(etcd.replica.session)
    assert (machine.revision, machine.compact_revision, machine.has_schema) == (2, 2, True)
    assert heard == [2, None]


def test_a_member_without_tables_waits_for_a_leader_even_for_local_reads(
    etcd: SingleEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    etcd.machine.has_schema = False
    barriers = []

    async def barrier() -> None:
        barriers.append(1)
        etcd.machine.has_schema = True

    monkeypatch.setattr(etcd.replica, "barrier", barrier)
    etcd.range(b"a", serializable=True)
    assert barriers


# --- alarms ------------------------------------------------------------------------------------
def alarm(etcd: SingleEtcd, action: int, kind: int, member: int = 7) -> list[tuple[int, int]]:
    request = rpc.AlarmRequest(action=action, memberID=member, alarm=kind)
    response = asyncio.run(etcd.kv.alarm(request))
    return [(one.memberID, one.alarm) for one in response.alarms]


GET, ACTIVATE, DEACTIVATE = rpc.AlarmRequest.AlarmAction.values()


def test_alarms_are_raised_listed_and_cleared(etcd: SingleEtcd) -> None:
    assert alarm(etcd, ACTIVATE, rpc.NOSPACE) == [(7, rpc.NOSPACE)]
    assert alarm(etcd, ACTIVATE, rpc.NOSPACE) == [(7, rpc.NOSPACE)]
    assert alarm(etcd, ACTIVATE, rpc.NONE) == []
    assert alarm(etcd, GET, rpc.NONE) == [(7, rpc.NOSPACE)]
    assert alarm(etcd, GET, rpc.CORRUPT) == []
    assert alarm(etcd, DEACTIVATE, rpc.NOSPACE, member=8) == []
    assert alarm(etcd, DEACTIVATE, rpc.NOSPACE) == [(7, rpc.NOSPACE)]
    assert alarm(etcd, GET, rpc.NONE) == []


def test_without_space_nothing_grows_but_the_rest_works(etcd: SingleEtcd) -> None:
    alarm(etcd, ACTIVATE, rpc.NOSPACE)
    with pytest.raises(errors.NoSpace):
        etcd.put(b"x")
    with pytest.raises(errors.NoSpace):
        etcd.txn(failure=[op_put(b"x")])
    with pytest.raises(errors.NoSpace):
        etcd.grant(5)
    assert etcd.keys(b"a") == [b"a"]
    assert etcd.delete(b"a").deleted == 1
    etcd.compact(3)


def test_a_corrupt_cluster_refuses_every_write(etcd: SingleEtcd) -> None:
    alarm(etcd, ACTIVATE, rpc.CORRUPT)
    for attempt in (lambda: etcd.put(b"x"), lambda: etcd.delete(b"a"), lambda: etcd.compact(2)):
        with pytest.raises(errors.CorruptCluster):
            attempt()
    alarm(etcd, DEACTIVATE, rpc.CORRUPT)
    etcd.put(b"x")


# --- history -----------------------------------------------------------------------------------
def test_history_names_changes_in_order_and_what_they_replaced(etcd: SingleEtcd) -> None:
    etcd.put(b"b", b"1")
    etcd.txn(success=[op_put(b"a", b"2"), op_put(b"c")])
    etcd.delete(b"a", b"c")
    history, session = History(etcd.machine), etcd.replica.session
    events = list(history.changes(session, b"\0", b"\0", 3, 5))
    assert [(one.kv.mod_revision, one.kv.key, one.type) for one in events] == [
        (3, b"b", 0),
        (4, b"a", 0),
        (4, b"c", 0),
        (5, b"a", 1),
        (5, b"b", 1),
    ]
    before = [history.previous(session, one.kv.key, one.kv.mod_revision) for one in events]
    assert [one and one.value for one in before] == [None, b"", None, b"2", b"1"]


@pytest.mark.parametrize(
    ("key", "end", "found"),
    [(b"b", b"", [3]), (b"b", b"c", [3]), (b"b", b"\0", [3, 4]), (b"a", b"c", [2, 3])],
)
def test_history_of_an_interval(etcd: SingleEtcd, key: bytes, end: bytes, found: list[int]) -> None:
    etcd.put(b"b")
    etcd.put(b"c")
    events = History(etcd.machine).changes(etcd.replica.session, key, end, 1, 4)
    assert [one.kv.mod_revision for one in events] == found


def test_history_starts_at_the_compact_revision_at_the_earliest(etcd: SingleEtcd) -> None:
    etcd.delete(b"a")
    etcd.put(b"b")
    etcd.compact_fully(3)
    history, session = History(etcd.machine), etcd.replica.session
    with pytest.raises(errors.Compacted):
        history.changes(session, b"\0", b"\0", 2, 4)
    events = list(history.changes(session, b"\0", b"\0", 3, 4))
    assert [(one.kv.mod_revision, one.type) for one in events] == [(3, 1), (4, 0)]
    assert history.previous(session, b"a", 3) is None

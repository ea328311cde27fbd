"""Transactions as etcd runs them."""

from __future__ import annotations

from typing import Any

import pytest

from dqlite_py import errors
from dqlite_py.kv.commands import Kind
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.single_etcd import ALL, SingleEtcd, kv, op_delete, op_put, op_range, op_txn

Compare = rpc.Compare


@pytest.fixture
def etcd() -> SingleEtcd:
    """a at revision 2, b at 3 and 4 (version 2)."""
    etcd = SingleEtcd()
    etcd.put(b"a", b"1")
    etcd.put(b"b", b"2")
    etcd.put(b"b", b"3")
    return etcd


# --- shape -------------------------------------------------------------------------------------
def test_the_longest_list_is_limited() -> None:
    etcd = SingleEtcd(max_txn_ops=2)
    ops = [op_put(b"%d" % number) for number in range(3)]
    for fields in ({"success": ops}, {"failure": ops}, {"compare": [Compare(key=b"k")] * 3}):
        with pytest.raises(errors.TooManyOps):
            etcd.txn(**fields)
    etcd.txn(success=ops[:2], failure=ops[:2])


def test_nested_transactions_use_what_the_outer_leaves() -> None:
    etcd = SingleEtcd(max_txn_ops=3)
    nested = op_txn(success=[op_put(b"x"), op_put(b"y")])
    assert etcd.txn(success=[nested]).succeeded
    with pytest.raises(errors.TooManyOps):
        etcd.txn(success=[nested, op_put(b"z")])


def test_an_operation_without_a_request_is_a_missing_key(etcd: SingleEtcd) -> None:
    with pytest.raises(errors.KeyNotFound):
        etcd.txn(failure=[rpc.RequestOp()])


def test_a_compare_needs_a_key(etcd: SingleEtcd) -> None:
    with pytest.raises(errors.EmptyKey):
        etcd.txn(compare=[Compare()])


PUT_A, PUT_B = op_put(b"a"), op_put(b"b")


@pytest.mark.parametrize(
    "operations",
    [
        [PUT_A, PUT_A],
        [PUT_A, op_delete(b"a")],
        [op_delete(b"a"), PUT_A],
        [op_delete(b"a", b"c"), PUT_B],
        [PUT_A, op_txn(success=[PUT_A])],
        [PUT_A, op_txn(failure=[PUT_A])],
        [op_txn(success=[PUT_A]), op_txn(failure=[PUT_A])],
        [op_txn(success=[op_delete(b"a")]), PUT_A],
        [op_delete(b"a"), op_txn(failure=[op_txn(success=[PUT_A])])],
    ],
)
def test_one_key_is_not_changed_twice(etcd: SingleEtcd, operations: list[Any]) -> None:
    for fields in ({"success": operations}, {"failure": operations}):
        with pytest.raises(errors.DuplicateKey):
            etcd.txn(**fields)
    assert etcd.machine.revision == 4


@pytest.mark.parametrize(
    "operations",
    [
        [PUT_A, PUT_B],
        [op_delete(b"a"), op_delete(b"a", b"c")],
        [PUT_A, op_range(b"a")],
        [op_txn(success=[PUT_A], failure=[PUT_A])],
        [op_delete(b"a", b"b"), PUT_B],
    ],
)
def test_what_does_not_conflict(etcd: SingleEtcd, operations: list[Any]) -> None:
    assert etcd.txn(success=operations).header.revision == 5
    etcd.txn(success=[PUT_A], failure=[PUT_A])


def test_a_deletion_without_an_end_conflicts_with_no_put(etcd: SingleEtcd) -> None:
    etcd.txn(success=[op_put(b"c"), op_delete(b"\0", b"\0"), op_put(b"d")])
    assert etcd.keys(**ALL) == [b"d"]


# --- compares ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        ({"target": Compare.VERSION, "version": 2}, True),
        ({"target": Compare.VERSION, "version": 1, "result": Compare.GREATER}, True),
        ({"target": Compare.CREATE, "create_revision": 3}, True),
        ({"target": Compare.MOD, "mod_revision": 4, "result": Compare.LESS}, False),
        ({"target": Compare.MOD, "mod_revision": 5, "result": Compare.LESS}, True),
        ({"target": Compare.VALUE, "value": b"3"}, True),
        ({"target": Compare.VALUE, "value": b"2", "result": Compare.NOT_EQUAL}, True),
        ({"target": Compare.VALUE, "value": b"31", "result": Compare.LESS}, True),
        ({"target": Compare.LEASE, "lease": 0}, True),
        ({"target": Compare.VERSION}, False),
        ({"target": Compare.VALUE}, False),
    ],
)
def test_compares(etcd: SingleEtcd, compare: dict[str, Any], holds: bool) -> None:
    assert etcd.txn(compare=[Compare(key=b"b", **compare)]).succeeded is holds


@pytest.mark.parametrize(
    ("compare", "holds"),
    [
        ({"target": Compare.MOD, "mod_revision": 0}, True),
        ({"target": Compare.VERSION, "version": 0, "result": Compare.GREATER}, False),
        ({"target": Compare.LEASE}, True),
        ({"target": Compare.VALUE, "value": b""}, False),
        ({"target": Compare.VALUE, "value": b"x", "result": Compare.NOT_EQUAL}, False),
    ],
)
@pytest.mark.parametrize("range_end", [b"", b"z"])
def test_an_absent_key_is_zero_and_has_no_value(
    etcd: SingleEtcd, compare: dict[str, Any], holds: bool, range_end: bytes
) -> None:
    absent = Compare(key=b"x", range_end=range_end, **compare)
    assert etcd.txn(compare=[absent]).succeeded is holds


def test_an_interval_compare_must_hold_for_every_key(etcd: SingleEtcd) -> None:
    created = {"target": Compare.VERSION, "result": Compare.GREATER}
    assert etcd.txn(compare=[Compare(**ALL, version=0, **created)]).succeeded
    assert not etcd.txn(compare=[Compare(**ALL, version=1, **created)]).succeeded


def test_nested_compares_judge_the_state_before_the_transaction(etcd: SingleEtcd) -> None:
    absent = Compare(key=b"new", target=Compare.VERSION, version=0)
    response = etcd.txn(success=[op_put(b"new"), op_txn(compare=[absent], success=[PUT_A])])
    assert response.responses[1].response_txn.succeeded


# --- effects -----------------------------------------------------------------------------------
def test_all_changes_share_a_revision_and_count_subs(etcd: SingleEtcd) -> None:
    etcd.txn(success=[op_put(b"x"), op_delete(b"a", b"c"), op_txn(success=[op_put(b"y")])])
    rows = etcd.replica.session.execute(
        "SELECT id>>22, id>>1&0x1fffff, id&1 FROM revisions ORDER BY 1, 2"
    )
    assert list(rows)[3:] == [(5, 0, 0), (5, 1, 1), (5, 2, 1), (5, 3, 0)]


def test_headers_inside_a_transaction(etcd: SingleEtcd) -> None:
    response = etcd.txn(
        success=[op_range(b"a"), op_delete(b"q"), PUT_A, op_range(b"a"), op_delete(b"q"), op_txn()]
    )
    revisions = [
        getattr(one, one.WhichOneof("response")).header.revision for one in response.responses
    ]
    assert revisions == [4, 4, 5, 5, 5, 0]
    nested = response.responses[5].response_txn
    assert nested.HasField("header")
    assert nested.header == rpc.ResponseHeader()
    assert response.header.revision == 5


def test_ranges_see_earlier_writes_unless_they_name_a_revision(etcd: SingleEtcd) -> None:
    response = etcd.txn(success=[op_put(b"a", b"9"), op_range(b"a"), op_range(b"a", revision=4)])
    assert list(response.responses[1].response_range.kvs) == [kv(b"a", b"9", 2, 5, 2)]
    assert list(response.responses[2].response_range.kvs) == [kv(b"a", b"1", 2, 2, 1)]


def test_nothing_changed_is_no_revision(etcd: SingleEtcd) -> None:
    assert etcd.txn(success=[op_delete(b"q"), op_txn()]).header.revision == 4
    assert etcd.put(b"z").header.revision == 5


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (op_put(b"q", ignore_value=True), errors.KeyNotFound),
        (op_put(b"a", lease=77), errors.LeaseNotFound),
        (op_range(b"a", revision=5), errors.FutureRevision),
        (op_range(b"a", revision=2), errors.Compacted),
    ],
)
def test_a_transaction_that_can_not_run_changes_nothing(
    etcd: SingleEtcd, operation: rpc.RequestOp, error: type[Exception]
) -> None:
    etcd.compact(3)
    before = etcd.stored_revisions()
    with pytest.raises(error):
        etcd.txn(success=[op_put(b"x"), op_txn(success=[operation])])
    assert etcd.stored_revisions() == before
    assert etcd.put(b"x").header.revision == 5


def test_a_put_in_the_same_transaction_does_not_help_ignore_value(etcd: SingleEtcd) -> None:
    with pytest.raises(errors.KeyNotFound):
        etcd.txn(success=[op_put(b"x"), op_put(b"y", ignore_lease=True)])


# --- which way it goes -------------------------------------------------------------------------
def test_a_transaction_of_ranges_stays_out_of_the_log(etcd: SingleEtcd) -> None:
    etcd.replica.written.clear()
    barriers = etcd.replica.barriers
    response = etcd.txn(
        compare=[Compare(key=b"a", target=Compare.VALUE, value=b"1")],
        success=[op_range(**ALL, limit=1)],
        failure=[op_range(b"b")],
    )
    answer = response.responses[0].response_range
    assert (response.header.revision, answer.header.revision, answer.count) == (4, 4, 2)
    assert not etcd.replica.written
    assert etcd.replica.barriers == barriers + 1


def test_it_is_serializable_only_if_every_range_is(etcd: SingleEtcd) -> None:
    barriers = etcd.replica.barriers
    local = op_range(b"a", serializable=True)
    etcd.txn(success=[local], failure=[local])
    assert etcd.replica.barriers == barriers
    etcd.txn(success=[local], failure=[op_range(b"a")])
    etcd.txn()
    assert etcd.replica.barriers == barriers + 2


def test_a_nested_transaction_passes_through_the_log(etcd: SingleEtcd) -> None:
    etcd.replica.written.clear()
    etcd.txn(success=[op_txn(success=[op_range(b"a")])])
    assert [command.kind for command in etcd.replica.written] == [Kind.TXN]

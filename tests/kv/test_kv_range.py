"""Range, put and delete as etcd answers them."""

from __future__ import annotations

import pytest

from dqlite_py import errors
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.single_etcd import ALL, SingleEtcd, kv

Range = rpc.RangeRequest


@pytest.fixture
def etcd() -> SingleEtcd:
    """Three keys: c of revision 2, b of 4 (its second version), a of 5."""
    etcd = SingleEtcd()
    etcd.put(b"c", b"1")
    etcd.put(b"b", b"9")
    etcd.put(b"b", b"3")
    etcd.put(b"a", b"2")
    return etcd


def test_the_first_put_makes_revision_two() -> None:
    etcd = SingleEtcd()
    assert etcd.range(**ALL).header.revision == 1
    assert etcd.put(b"k").header.revision == 2


def test_a_range_needs_a_key(etcd: SingleEtcd) -> None:
    with pytest.raises(errors.EmptyKey):
        etcd.range(b"")


@pytest.mark.parametrize("field", ["sort_order", "sort_target"])
def test_unknown_sort_options_are_refused(etcd: SingleEtcd, field: str) -> None:
    with pytest.raises(errors.InvalidSortOption):
        etcd.range(b"a", **{field: 77})


@pytest.mark.parametrize(
    ("key", "end", "found"),
    [
        (b"b", b"", [b"b"]),
        (b"b", b"\0", [b"b", b"c"]),
        (b"\0", b"\0", [b"a", b"b", b"c"]),
        (b"a", b"c", [b"a", b"b"]),
        (b"c", b"a", []),
        (b"b", b"b", []),
        (b"nothing", b"", []),
    ],
)
def test_intervals(etcd: SingleEtcd, key: bytes, end: bytes, found: list[bytes]) -> None:
    response = etcd.range(key, end)
    assert [one.key for one in response.kvs] == found
    assert response.count == len(found)


def test_the_header_shows_the_current_revision_whatever_was_asked(etcd: SingleEtcd) -> None:
    response = etcd.range(b"b", revision=3)
    assert response.header.revision == 5
    assert list(response.kvs) == [kv(b"b", b"9", 3, 3, 1)]


@pytest.mark.parametrize("revision", [0, -1])
def test_revision_zero_or_less_means_the_latest(etcd: SingleEtcd, revision: int) -> None:
    assert list(etcd.range(b"b", revision=revision).kvs) == [kv(b"b", b"3", 3, 4, 2)]


def test_future_and_compacted_revisions_are_refused(etcd: SingleEtcd) -> None:
    with pytest.raises(errors.FutureRevision):
        etcd.range(b"a", revision=6)
    etcd.compact(4)
    with pytest.raises(errors.Compacted):
        etcd.range(b"a", revision=3)
    assert etcd.keys(**ALL, revision=4) == [b"b", b"c"]


def test_count_ignores_limit_and_filters(etcd: SingleEtcd) -> None:
    assert etcd.range(**ALL, limit=1).count == 3
    filtered = etcd.range(**ALL, min_mod_revision=4)
    assert ([one.key for one in filtered.kvs], filtered.count) == ([b"a", b"b"], 3)
    assert not filtered.more


def test_more_tells_whether_the_limit_cut(etcd: SingleEtcd) -> None:
    assert etcd.range(**ALL, limit=2).more
    assert not etcd.range(**ALL, limit=3).more
    assert not etcd.range(**ALL, limit=2, min_mod_revision=4).more
    assert etcd.range(**ALL, limit=1, min_mod_revision=4).more


def test_count_only_returns_no_keys_and_ignores_the_limit(etcd: SingleEtcd) -> None:
    response = etcd.range(**ALL, count_only=True, limit=1)
    assert (len(response.kvs), response.count, response.more) == (0, 3, False)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"min_mod_revision": 4}, [b"a", b"b"]),
        ({"max_mod_revision": 4}, [b"b", b"c"]),
        ({"min_create_revision": 3}, [b"a", b"b"]),
        ({"max_create_revision": 3}, [b"b", b"c"]),
        ({"min_mod_revision": 3, "max_mod_revision": 4}, [b"b"]),
    ],
)
def test_filters(etcd: SingleEtcd, filters: dict[str, int], found: list[bytes]) -> None:
    assert etcd.keys(**ALL, **filters) == found


@pytest.mark.parametrize(
    ("target", "ascending"),
    [
        (Range.KEY, [b"a", b"b", b"c"]),
        (Range.CREATE, [b"c", b"b", b"a"]),
        (Range.MOD, [b"c", b"b", b"a"]),
        (Range.VALUE, [b"c", b"a", b"b"]),
    ],
)
def test_sorting(etcd: SingleEtcd, target: int, ascending: list[bytes]) -> None:
    assert etcd.keys(**ALL, sort_target=target, sort_order=Range.ASCEND) == ascending
    descending = etcd.keys(**ALL, sort_target=target, sort_order=Range.DESCEND)
    assert descending == ascending[::-1]
    assert etcd.keys(**ALL, sort_target=target) == ascending


def test_the_limit_cuts_before_sorting_unless_an_order_is_given(etcd: SingleEtcd) -> None:
    assert etcd.keys(**ALL, limit=1, sort_target=Range.MOD) == [b"b"]
    ordered = etcd.keys(**ALL, limit=1, sort_target=Range.MOD, sort_order=Range.ASCEND)
    assert ordered == [b"c"]


def test_keys_only_leaves_values_out_even_when_sorting_by_them(etcd: SingleEtcd) -> None:
    for fields in ({}, {"sort_target": Range.VALUE}):
        response = etcd.range(**ALL, keys_only=True, **fields)
        assert {one.value for one in response.kvs} == {b""}
        assert [one.version for one in response.kvs if one.key == b"b"] == [2]


def test_serializable_reads_need_no_barrier(etcd: SingleEtcd) -> None:
    before = etcd.replica.barriers
    etcd.range(b"a", serializable=True)
    assert etcd.replica.barriers == before
    etcd.range(b"a")
    assert etcd.replica.barriers == before + 1


def test_a_linearizable_read_fails_without_a_leader(etcd: SingleEtcd) -> None:
    etcd.replica.fail_barriers = errors.NoLeader()
    with pytest.raises(errors.NoLeader):
        etcd.range(b"a")
    assert etcd.keys(b"a", serializable=True) == [b"a"]


# --- put ---------------------------------------------------------------------------------------
def test_put_refuses_contradictions(etcd: SingleEtcd) -> None:
    with pytest.raises(errors.EmptyKey):
        etcd.put(b"")
    with pytest.raises(errors.ValueProvided):
        etcd.put(b"a", b"x", ignore_value=True)
    with pytest.raises(errors.LeaseProvided):
        etcd.put(b"a", lease=1, ignore_lease=True)
    with pytest.raises(errors.KeyNotFound):
        etcd.put(b"new", ignore_value=True)
    with pytest.raises(errors.KeyNotFound):
        etcd.put(b"new", ignore_lease=True)
    with pytest.raises(errors.LeaseNotFound):
        etcd.put(b"a", lease=5)
    assert etcd.machine.revision == 5


def test_generations_restart_versions(etcd: SingleEtcd) -> None:
    etcd.delete(b"b")
    etcd.put(b"b", b"x")
    assert list(etcd.range(b"b").kvs) == [kv(b"b", b"x", 7, 7, 1)]


def test_the_same_value_again_is_a_new_revision(etcd: SingleEtcd) -> None:
    etcd.put(b"a", b"2")
    assert list(etcd.range(b"a").kvs) == [kv(b"a", b"2", 5, 6, 2)]


def test_the_previous_pair_is_returned_only_when_asked_and_there(etcd: SingleEtcd) -> None:
    assert not etcd.put(b"new", prev_kv=True).HasField("prev_kv")
    assert not etcd.put(b"b").HasField("prev_kv")
    assert etcd.put(b"a", prev_kv=True).prev_kv == kv(b"a", b"2", 5, 5, 1)


def test_ignoring_keeps_value_or_lease(etcd: SingleEtcd) -> None:
    etcd.grant(7)
    etcd.put(b"a", lease=7, ignore_value=True)
    assert list(etcd.range(b"a").kvs) == [kv(b"a", b"2", 5, 6, 2, lease=7)]
    etcd.put(b"a", b"z", ignore_lease=True)
    assert list(etcd.range(b"a").kvs) == [kv(b"a", b"z", 5, 7, 3, lease=7)]


def test_a_put_without_a_lease_detaches_the_key(etcd: SingleEtcd) -> None:
    etcd.grant(7)
    etcd.put(b"a", lease=7)
    etcd.put(b"a")
    etcd.revoke(7)
    assert etcd.keys(b"a") == [b"a"]


def test_a_put_larger_than_the_limit_is_refused() -> None:
    etcd = SingleEtcd(max_request_bytes=100)
    etcd.put(b"k", b"v" * 90)
    with pytest.raises(errors.RequestTooLarge):
        etcd.put(b"k", b"v" * 100)


# --- delete ------------------------------------------------------------------------------------
def test_deleting_nothing_changes_nothing(etcd: SingleEtcd) -> None:
    response = etcd.delete(b"x", b"z")
    assert (response.deleted, response.header.revision) == (0, 5)


def test_one_delete_is_one_revision_in_key_order(etcd: SingleEtcd) -> None:
    response = etcd.delete(b"a", b"c", prev_kv=True)
    assert (response.deleted, response.header.revision) == (2, 6)
    assert [one.key for one in response.prev_kvs] == [b"a", b"b"]
    assert etcd.stored_revisions()[-2:] == [(6, b"a", True), (6, b"b", True)]
    assert etcd.keys(**ALL) == [b"c"]
    assert etcd.keys(**ALL, revision=5) == [b"a", b"b", b"c"]


def test_a_deleted_key_leaves_its_lease(etcd: SingleEtcd) -> None:
    etcd.grant(7)
    etcd.put(b"a", lease=7)
    etcd.delete(b"a")
    etcd.put(b"a")
    assert etcd.revoke(7).header.revision == etcd.machine.revision == 8
    assert etcd.keys(b"a") == [b"a"]


def test_more_changes_than_a_revision_can_number_are_refused_whole(
    etcd: SingleEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dqlite_py.kv.writes.SUB_LIMIT", 2)
    with pytest.raises(errors.RequestTooLarge):
        etcd.delete(**ALL)
    assert etcd.keys(**ALL) == [b"a", b"b", b"c"]
    assert etcd.delete(b"a", b"c").deleted == 2

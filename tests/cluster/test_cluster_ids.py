from __future__ import annotations

from dqlite_py.cluster.ids import added_member_id, cluster_id, member_id


def test_ids_are_those_that_etcd_gives_for_its_default_flags() -> None:
    # `etcd` 3.5.1 without any flag, as printed in its log.
    member = member_id(["http://localhost:2380"], "etcd-cluster")
    assert f"{member:x}" == "8e9e05c52164694d"
    assert f"{cluster_id([member]):x}" == "cdf818194e3a8c32"


def test_the_order_of_urls_and_members_does_not_matter() -> None:
    assert member_id(["b", "a"], "t") == member_id(["a", "b"], "t")
    assert cluster_id([2, 1]) == cluster_id([1, 2])


def test_an_address_used_again_gets_a_new_id() -> None:
    first = added_member_id(["http://a:1"], 1_700_000_000.9, ())
    assert added_member_id(["http://a:1"], 1_700_000_001.0, ()) != first
    assert added_member_id(["http://a:1"], 1_700_000_000.0, {first}) != first
    assert added_member_id(["http://a:1"], 1_700_000_000.0, ()) == first

"""Unmodified etcdctl 3.5.1 against each of three members, compared with a real etcd.

Both sides get the same commands in the same order, so every output must be equal, revisions
included, once ids, terms and times are masked.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kit.etcdctl import FollowedCommand, comparable, etcdctl, etcdctl_json, etcdctl_ok
from tests.kit.processes import Cluster
from tests.kit.products import Etcd, under_test

pytestmark = pytest.mark.process

MEMBERS = ["n1", "n2", "n3"]


def masked(done: tuple[int, str, str], *ids: str) -> tuple[int, str, str]:
    return done[0], comparable(done[1], *ids), comparable(done[2], *ids)


class Both:
    """One member under test and the real etcd, always given the same commands."""

    def __init__(self, ours: Cluster, theirs: Cluster, member: str) -> None:
        self.endpoint = ours[member].address.client
        self.oracle = theirs.members[0].address.client

    def same(self, *arguments: str, stdin: str = "") -> tuple[int, str]:
        """Run the command on both sides, require equal results, and return (code, output)."""
        expected = etcdctl(self.oracle, *arguments, stdin=stdin)
        found = etcdctl(self.endpoint, *arguments, stdin=stdin)
        assert masked(found) == masked(expected), f"etcdctl {' '.join(arguments)}"
        return expected[0], expected[1]

    def same_lines(self, count: int, *arguments: str) -> list[str]:
        """Like ``same`` for a command that never ends: compare its first lines."""
        with FollowedCommand(self.oracle, *arguments) as expected:
            expected_lines = expected.lines(count)
        with FollowedCommand(self.endpoint, *arguments) as found:
            assert found.lines(count) == expected_lines, f"etcdctl {' '.join(arguments)}"
        return expected_lines

    def revision(self) -> int:
        return int(etcdctl_json(self.oracle, "get", "none")["header"]["revision"])


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[Cluster, Cluster]]:
    with Cluster(under_test()) as ours, Cluster(Etcd(), 1) as theirs:
        yield ours.start(), theirs.start()


@pytest.fixture(params=MEMBERS)
def both(request: pytest.FixtureRequest, clusters: tuple[Cluster, Cluster]) -> Both:
    return Both(*clusters, request.param)


def test_put_and_get_print_what_etcd_prints(both: Both) -> None:
    for number in range(5):
        both.same("put", f"k/{number}", f"value {number % 3}")
    revision = both.revision()
    both.same("put", "k/1", "newer", "--prev-kv")
    both.same("put", "k/1", "--ignore-value")
    both.same("get", "k/1")
    both.same("get", "absent")
    both.same("get", "k/1", "--write-out=json")
    both.same("get", "k/1", "--write-out=fields")
    both.same("get", "k/", "--prefix", "--write-out=json")
    both.same("get", "k/", "--prefix", "--limit=2", "--write-out=json")
    both.same("get", "k/", "--prefix", f"--rev={revision}", "--write-out=json")
    both.same("get", "k/", "--prefix", "--keys-only")
    both.same("get", "k/", "--prefix", "--count-only", "--write-out=fields")
    both.same("get", "k/", "--prefix", "--order=DESCEND", "--sort-by=KEY")
    both.same("get", "k/", "--prefix", "--order=ASCEND", "--sort-by=MODIFY", "--limit=3")
    both.same("get", "k/2", "--from-key", "--print-value-only")
    both.same("get", "k/1", "k/3")
    both.same("get", "k/1", "--consistency=l")
    code, _ = both.same("get", "k/1", "--rev=999999")
    assert code != 0


def test_del_prints_what_etcd_prints(both: Both) -> None:
    for key in ("d/1", "d/2", "d/3", "e"):
        both.same("put", key, "v")
    both.same("del", "d/1", "--prev-kv")
    both.same("del", "d/1")
    both.same("del", "d/", "--prefix", "--write-out=json")
    both.same("del", "e", "f")
    both.same("get", "d/", "--prefix")


def test_txn_prints_what_etcd_prints(both: Both) -> None:
    both.same("put", "t", "1")
    taken = 'value("t") = "1"\n\nput t 2\nget t\n\nput t no\n\n'
    assert both.same("txn", stdin=taken)[1].startswith("SUCCESS")
    assert both.same("txn", stdin=taken)[1].startswith("FAILURE")
    both.same("txn", stdin='mod("absent") = "0"\ncreate("t") > "0"\n\ndel t\nput u 1\n\nget t\n\n')
    both.same("txn", "--write-out=json", stdin='version("u") > "0"\n\nget u\n\n\n')
    code, _ = both.same("txn", stdin='version("u") > "0"\n\nput u 1\nput u 2\n\n\n')
    assert code != 0


def test_watch_prints_what_etcd_prints(both: Both) -> None:
    start = both.revision() + 1
    for arguments in (
        ("put", "w/1", "first"),
        ("put", "w/2", "other"),
        ("put", "w/1", "second"),
        ("del", "w/2"),
        ("put", "wz", "outside"),
    ):
        both.same(*arguments)
    both.same_lines(6, "watch", "w/1", f"--rev={start}")
    both.same_lines(12, "watch", "w/", "--prefix", f"--rev={start}")
    both.same_lines(14, "watch", "w/", "--prefix", "--prev-kv", f"--rev={start}")
    both.same_lines(3, "watch", "wz", f"--rev={start}")


def test_compaction_prints_what_etcd_prints(both: Both) -> None:
    both.same("put", "c", "1")
    old = both.revision()
    both.same("put", "c", "2")
    both.same("compaction", str(old + 1), "--physical")
    assert both.same("compaction", str(old + 1))[0] != 0
    assert both.same("compaction", "999999")[0] != 0
    assert both.same("get", "c", f"--rev={old}")[0] != 0
    both.same("get", "c", f"--rev={old + 1}")
    both.same("watch", "c", f"--rev={old}")


def test_hashkv_equals_etcds_on_every_member(clusters: tuple[Cluster, Cluster]) -> None:
    ours, theirs = clusters
    both = Both(ours, theirs, "n1")
    for number in range(3):
        both.same("put", f"h/{number}", "v")
    both.same("del", "h/1")
    expected = etcdctl_json(both.oracle, "endpoint", "hashkv")[0]["HashKV"]["hash"]
    found = etcdctl_json(",".join(ours.endpoints), "endpoint", "hashkv")
    assert [member["HashKV"]["hash"] for member in found] == [expected] * len(MEMBERS)


def test_leases_print_what_etcd_prints(clusters: tuple[Cluster, Cluster], both: Both) -> None:
    ours, _ = clusters
    mine, theirs = (
        etcdctl_ok(endpoint, "lease", "grant", "600").split()[1]
        for endpoint in (both.endpoint, both.oracle)
    )

    def each(*arguments: str) -> tuple[int, str]:
        shown = []
        for endpoint, lease in ((both.endpoint, mine), (both.oracle, theirs)):
            done = etcdctl(endpoint, *[part.replace("LEASE", lease) for part in arguments])
            shown.append(masked(done, lease))
        assert shown[0] == shown[1], f"etcdctl {' '.join(arguments)}"
        return shown[0][0], shown[0][1]

    each("put", "l/1", "v", "--lease=LEASE")
    each("put", "l/2", "v", "--lease=LEASE")
    each("get", "l/", "--prefix", "--write-out=json")
    each("lease", "timetolive", "LEASE")
    each("lease", "timetolive", "LEASE", "--keys")
    each("lease", "keep-alive", "--once", "LEASE")
    for member in ours.members:
        assert mine in etcdctl_ok(member.address.client, "lease", "list")
    each("lease", "revoke", "LEASE")
    each("get", "l/", "--prefix", "--write-out=json")
    each("lease", "timetolive", "LEASE")
    assert each("lease", "revoke", "LEASE")[0] != 0
    assert each("put", "l/3", "v", "--lease=LEASE")[0] != 0

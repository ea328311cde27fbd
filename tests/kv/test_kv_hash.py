"""HashKV gives the figures that etcd 3.5.1 gave for the same requests."""

from __future__ import annotations

from typing import Any

import pytest

from dqlite_py import errors
from dqlite_py.kv.commands import Command, Kind
from dqlite_py.pb import rpc_pb2 as rpc
from tests.kit.single_etcd import ALL, SingleEtcd, op_put


@pytest.fixture
def etcd() -> SingleEtcd:
    etcd = SingleEtcd()
    etcd.grant(7, 600)
    return etcd


def fill(etcd: SingleEtcd) -> None:
    etcd.put(b"a", b"1")
    etcd.put(b"b", b"2")
    etcd.put(b"a", b"3")
    etcd.delete(b"a")
    etcd.put(b"c", b"4", lease=7)
    etcd.txn(success=[op_put(b"d"), op_put(b"e", b"\x00\xff")])


def test_an_empty_store(etcd: SingleEtcd) -> None:
    response = etcd.hash()
    assert (response.hash, response.compact_revision) == (1084519789, -1)
    assert (response.hash_revision, response.header.revision) == (1, 1)


@pytest.mark.parametrize(
    ("revision", "figure"), [(0, 3021816502), (4, 2069675932), (5, 1346927904)]
)
def test_uncompacted_history(etcd: SingleEtcd, revision: int, figure: int) -> None:
    fill(etcd)
    response = etcd.hash(revision)
    assert response.hash == figure
    assert response.hash_revision == (revision or 7)
    assert response.header.revision == 7


@pytest.mark.parametrize("physically", [True, False])
def test_compacted_history_whether_or_not_its_rows_are_gone(
    etcd: SingleEtcd, physically: bool
) -> None:
    fill(etcd)
    if physically:
        etcd.compact_fully(5)
    else:
        etcd.compact(5)
    assert etcd.hash().compact_revision == 5
    assert [etcd.hash(revision).hash for revision in (0, 6)] == [1914387855, 3387429999]
    etcd.put(b"b", b"9")
    assert [etcd.hash(revision).hash for revision in (0, 7)] == [1578053947, 1914387855]
    etcd.delete(**ALL)
    assert etcd.hash().hash == 2783801324


def test_compacted_and_future_revisions_are_refused(etcd: SingleEtcd) -> None:
    fill(etcd)
    etcd.compact(5)
    with pytest.raises(errors.Compacted):
        etcd.hash(4)
    with pytest.raises(errors.FutureRevision):
        etcd.hash(8)


def test_chunks_do_not_show(etcd: SingleEtcd, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(etcd)
    whole = etcd.hash().hash
    for rows in (1, 2, 3, 7):
        monkeypatch.setattr("dqlite_py.kv.hashkv._CHUNK_ROWS", rows)
        assert etcd.hash().hash == whole


def test_a_compaction_between_chunks_starts_the_hash_again(
    etcd: SingleEtcd, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(etcd)
    monkeypatch.setattr("dqlite_py.kv.hashkv._CHUNK_ROWS", 2)
    read = etcd.replica.read_now
    reads = 0

    def compact_before_the_third(query: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 3:
            etcd.replica.write_batch([compact_to_five()])
            etcd.replica.write_batch([compact_to_five(step=True)])
        return read(query)

    etcd.replica.read_now = compact_before_the_third
    assert etcd.hash().hash == 1914387855


def compact_to_five(*, step: bool = False) -> Command:
    kind = Kind.COMPACT_STEP if step else Kind.COMPACT
    return Command(kind, rpc.CompactionRequest(revision=5))

"""What travels in Raft entries is SQLite pages: a follower's log alone rebuilds the database."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest

from dqlite_py.node.entries import CreateEntry, FramesEntry, decode
from dqlite_py.pb import rpc_pb2 as rpc
from dqlite_py.raft import Entry, EntryKind
from dqlite_py.storage import manifest
from dqlite_py.storage.datadir import DataDir
from dqlite_py.storage.raft_storage import RaftStorage
from dqlite_py.system.disk import OsDisk
from dqlite_py.vfs import frames
from tests.kit.check import assert_identical_files, check
from tests.kit.processes import Cluster, ServerProcess, eventually
from tests.kit.products import Dqlite, under_test

pytestmark = pytest.mark.process

WRITES = 50
FIRST_ENTRY = 2  # index 1 stands for the founding configuration
# The first byte of a B-tree page: interior or leaf, index or table (SQLite file format 1.6).
BTREE_PAGE_KINDS = {2, 5, 10, 13}
FILE_MAGIC = b"SQLite format 3\0"


def entries_of(data_dir: Path) -> list[Entry]:
    """Return the whole Raft log of a copy of a stopped member's directory."""
    disk = OsDisk()
    opened = DataDir.open(disk, str(data_dir))
    found = manifest.load(disk, opened.path)
    assert found is not None
    storage = RaftStorage.open(disk, opened.raft_path, found)
    try:
        first, last = storage.first_index(), storage.last_index()
        assert first == FIRST_ENTRY, "the log does not begin at its beginning"
        return list(storage.entries(first, last + 1, 1 << 30))
    finally:
        storage.close()
        opened.close()


def rebuilt(entries: list[Entry]) -> bytes:
    """Return the file of the one database that the entries create and change."""
    image = bytearray()
    frames_seen = 0
    for entry in entries:
        meaning = decode(entry.data) if entry.kind is EntryKind.NORMAL else None
        if isinstance(meaning, CreateEntry):
            assert not image
            image[:] = meaning.genesis
        elif isinstance(meaning, FramesEntry):
            batch = frames.decode(meaning.frames)
            frames_seen += len(batch.pages)
            image.extend(bytes(max(0, batch.page_count * batch.page_size - len(image))))
            for number, page in batch.pages:
                assert page.startswith(FILE_MAGIC) if number == 1 else page[0] in BTREE_PAGE_KINDS
                at = (number - 1) * batch.page_size
                image[at : at + batch.page_size] = page
            del image[batch.page_count * batch.page_size :]
    assert frames_seen > WRITES
    return bytes(image)


def hand_leadership(cluster: Cluster, heir: ServerProcess) -> None:
    """Return when ``heir`` leads."""
    target = heir.client.status().header.member_id

    def handed() -> bool:
        if cluster.leader() is not heir:
            request = rpc.MoveLeaderRequest(targetID=target)
            cluster.wait_leader().client.call("MoveLeader", request)
        return cluster.leader() is heir

    eventually(handed, f"{heir.name} leads")


def test_a_followers_log_holds_the_pages_of_the_whole_database(tmp_path: Path) -> None:
    if under_test().name != "dqlite":
        pytest.skip("about this project's own log")
    with Cluster(Dqlite()) as cluster:
        cluster.start()
        # The first server has the log from its beginning: those that joined got a snapshot.
        follower, leader, _ = cluster.members
        hand_leadership(cluster, leader)
        for number in range(WRITES):
            leader.client.put(b"wire/%03d" % number, b"value of %d" % number)
        cluster.wait_level()
        assert cluster.wait_leader() is leader
        assert_identical_files(cluster)
        (database,) = check(follower.client, checkpoint=True).databases
        follower.kill()
        copy = tmp_path / "copy"
        shutil.copytree(follower.address.data_dir, copy)
    entries = entries_of(copy)
    assert any(b"value of 7" in frames_of(entry) for entry in entries)
    image = rebuilt(entries)
    assert sha256(image).digest() == database.sha256
    path = tmp_path / "rebuilt.sqlite"
    path.write_bytes(image)
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        keys = connection.execute("SELECT count(DISTINCT key) FROM revisions").fetchone()
        assert keys == (WRITES,)


def frames_of(entry: Entry) -> bytes:
    """Return the page images of an entry, one after another; empty if it has none."""
    meaning = decode(entry.data) if entry.kind is EntryKind.NORMAL else None
    if not isinstance(meaning, FramesEntry):
        return b""
    return b"".join(page for _, page in frames.decode(meaning.frames).pages)

"""A server on a damaged data directory: exit code 1, one line naming the file, nothing changed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import msgpack
import pytest

from dqlite_py.storage import manifest as manifests
from dqlite_py.storage import token_file
from dqlite_py.storage.datadir import _check
from dqlite_py.system.disk import OsDisk
from tests.kit.processes import Cluster, ServerProcess, run
from tests.kit.products import Dqlite, Options, under_test

pytestmark = pytest.mark.process

REFUSED = 1
PUTS = 120
PAGE_BYTES = 4096


@dataclass
class Site:
    """A stopped server's data directory, and an undamaged copy of it."""

    server: ServerProcess
    copy: Path

    @property
    def data(self) -> Path:
        return self.server.address.data_dir

    def restore(self) -> None:
        shutil.rmtree(self.data)
        shutil.copytree(self.copy, self.data)

    def files(self) -> dict[str, bytes]:
        """Return all files but the spare segment: empty, and made anew at every start."""
        return {
            str(path.relative_to(self.data)): path.read_bytes()
            for path in sorted(self.data.rglob("*"))
            if path.is_file() and path.suffix != ".tmp"
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A lone server that has written, checkpointed and trimmed, then stopped."""
    if under_test().name != "dqlite":
        pytest.skip("about this project's own files")
    folder = tmp_path_factory.mktemp("damage")
    with Cluster(Dqlite(), size=1, options=Options(snapshot_count=40), directory=folder) as cluster:
        server = cluster.members[0]
        server.start()
        for number in range(PUTS):
            server.client.put(key(number), value(number))
        assert server.terminate() == 0
        site = Site(server, folder / "undamaged")
        shutil.copytree(site.data, site.copy)
        yield site


def key(number: int) -> bytes:
    return b"key %d" % number


def value(number: int) -> bytes:
    return b"%d " % number * 100


def flip(path: Path, offset: int, mask: int = 0x10) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= mask
    path.write_bytes(content)


def segment(data: Path) -> Path:
    return max((data / "raft").glob("*.seg"))


def database(data: Path) -> Path:
    return data / "db" / "1" / "etcd.sqlite"


def base(data: Path) -> Path:
    return database(data).with_suffix(".base")


def beside(data: Path, suffix: str) -> Path:
    path = database(data)
    return path.with_name(path.name + suffix)


def make_newer_sealed(path: Path) -> None:
    data = path.read_bytes()
    head = data[:4] + (2).to_bytes(4, "little") + data[8:12]
    check = crc32(data[16:], crc32(head)).to_bytes(4, "little")
    path.write_bytes(head + check + data[16:])


def make_newer_segment(path: Path) -> None:
    data = path.read_bytes()
    head = data[:8] + (2).to_bytes(4, "little") + data[12:56]
    path.write_bytes(head + crc32(head).to_bytes(4, "little") + data[60:])


def make_newer_identity(path: Path) -> None:
    document = json.loads(path.read_bytes()) | {"format": 2}
    document["check"] = _check(document)
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def make_newer_token(path: Path) -> None:
    path.write_bytes(token_file.encode(path.read_text().splitlines()[0], version=2))


@dataclass(frozen=True)
class Damage:
    """What is done to a file, and what of it the refusal must say besides its path."""

    file: Callable[[Path], Path]
    do: Callable[[Path], object]
    says: str = "put back a copy"
    after_replay: bool = False  # by then the member has taken part in an election


def make_newer_catalogue(path: Path) -> None:
    disk = OsDisk()
    found = manifests.load(disk, str(path.parent))
    assert found is not None
    fields = msgpack.unpackb(found.payload)
    newer = dataclasses.replace(found, payload=msgpack.packb([2, *fields[1:]]))
    manifests.store(disk, str(path.parent), newer)


DAMAGES = {
    "segment flipped": Damage(segment, lambda p: flip(p, 20_000), "below the sync watermark"),
    "segment cut": Damage(segment, lambda p: os.truncate(p, 20_000), "bytes long instead of"),
    "segment newer": Damage(segment, make_newer_segment, "NewerFormat"),
    "log gone": Damage(lambda d: d / "raft", shutil.rmtree, "missing"),
    "identity flipped": Damage(lambda d: d / "identity.json", lambda p: flip(p, 30), "checksum"),
    "identity cut": Damage(lambda d: d / "identity.json", lambda p: os.truncate(p, 40)),
    "identity newer": Damage(lambda d: d / "identity.json", make_newer_identity, "NewerFormat"),
    "identity gone": Damage(lambda d: d / "identity.json", os.unlink, "missing"),
    "manifest flipped": Damage(lambda d: d / "manifest", lambda p: flip(p, 40), "checksum"),
    "manifest cut": Damage(lambda d: d / "manifest", lambda p: os.truncate(p, 40), "checksum"),
    "manifest newer": Damage(lambda d: d / "manifest", make_newer_sealed, "NewerFormat"),
    "catalogue newer": Damage(lambda d: d / "manifest", make_newer_catalogue, "NewerFormat"),
    "manifest gone": Damage(lambda d: d / "manifest", os.unlink, "no manifest"),
    "token flipped": Damage(lambda d: d / "token", lambda p: flip(p, 2, 1), "checksum"),
    "token cut": Damage(lambda d: d / "token", lambda p: os.truncate(p, 4), "checksum"),
    "token newer": Damage(lambda d: d / "token", make_newer_token, "NewerFormat"),
    "token gone": Damage(lambda d: d / "token", os.unlink, "missing"),
    "base flipped": Damage(base, lambda p: flip(p, 20), "checksum"),
    "base cut": Damage(base, lambda p: os.truncate(p, 20), "checksum"),
    "base newer": Damage(base, make_newer_sealed, "NewerFormat"),
    "base gone": Damage(base, os.unlink, "missing"),
    "database gone": Damage(database, os.unlink, "missing"),
    "database empty": Damage(database, lambda p: os.truncate(p, 0), "page size"),
    "database cut": Damage(
        database, lambda p: os.truncate(p, 3 * PAGE_BYTES), "without page", after_replay=True
    ),
    "database not SQLite": Damage(database, lambda p: flip(p, 3), "page size"),
    "database page size": Damage(database, lambda p: flip(p, 16), "page size"),
    "foreign WAL": Damage(
        lambda d: beside(d, "-wal"), lambda p: p.write_bytes(b"x"), "another program"
    ),
    "foreign journal": Damage(
        lambda d: beside(d, "-journal"), lambda p: p.write_bytes(b"x"), "another program"
    ),
}


# Each start of a process takes its time; tests/storage does the rest without one.
ALWAYS = {
    "segment flipped",
    "segment cut",
    "identity flipped",
    "identity gone",
    "manifest flipped",
    "catalogue newer",
    "token flipped",
    "base gone",
    "database gone",
    "database cut",
    "foreign WAL",
}


@pytest.mark.parametrize(
    "name",
    [name if name in ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in DAMAGES],
)
def test_damage_is_refused_by_name_and_nothing_changes(site: Site, name: str) -> None:
    damage = DAMAGES[name]
    site.restore()
    path = damage.file(site.data)
    damage.do(path)
    before = site.files()
    done = run(site.server.command, timeout_s=20.0)
    output = done.stdout + done.stderr
    assert done.returncode == REFUSED, output
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("dqlite-py:")]
    assert line == output.splitlines()[-1]
    assert damage.says in line
    named = path.with_suffix("") if name == "base gone" else path
    assert str(named if name != "manifest gone" else site.data) in line
    after = site.files()
    for file in before | after:
        assert after.get(file) == before.get(file) or (
            damage.after_replay and file.startswith("raft/")
        ), file


def test_the_undamaged_copy_starts_with_everything(site: Site) -> None:
    site.restore()
    site.server.start()
    found = {pair.key: pair.value for pair in site.server.client.prefix(b"key ").kvs}
    assert found == {key(number): value(number) for number in range(PUTS)}
    assert site.server.terminate() == 0

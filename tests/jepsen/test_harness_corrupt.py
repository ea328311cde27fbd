"""Which files the nemesis `corrupt` damages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from jepsen.nemesis.corrupt import END_BYTES, KINDS, FlippedBits, FlippedDatabaseBits

LOG_BYTES = 5000
FILES = {
    "manifest": b"m" * 100,
    "token": b"t" * 37,
    "identity.json": b"i" * 128,
    "LOCK": b"1",
    "raft/1.seg": b"s" * LOG_BYTES + b"\0" * 1000,
    "raft/spare-1.tmp": b"\0" * 1000,
    "db/1/a.base": b"b" * 32,
    "db/1/a.sqlite": b"d" * 8192,
    "staging/8/a": b"x" * 100,
}


class Member:
    """A member that only has files."""

    name = "n1"

    def __init__(self, folder: Path) -> None:
        self.address = SimpleNamespace(data_dir=folder)

    def kill(self) -> None:
        for name, body in FILES.items():
            path = self.address.data_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)

    def flips(self) -> dict[str, list[int]]:
        """Return the places of the bytes that differ, by file."""
        found = {}
        for name, body in FILES.items():
            now = (self.address.data_dir / name).read_bytes()
            places = [at for at, (old, new) in enumerate(zip(body, now, strict=True)) if old != new]
            if places:
                found[name] = places
        return found


def nemesis_of(kind: type[FlippedBits], member: Member, seed: int) -> FlippedBits:
    cluster: Any = SimpleNamespace(nodes=[member])
    return kind(cluster, None, Random(seed), lambda *_: None)


@pytest.mark.parametrize("seed", range(5))
def test_every_kind_of_file_is_hit_equally_often(seed: int, tmp_path: Path) -> None:
    member = Member(tmp_path)
    nemesis = nemesis_of(FlippedBits, member, seed)
    kinds: Counter[str] = Counter()
    for _ in range(5 * len(KINDS)):
        kinds[nemesis.start()["kind"]] += 1
        assert set(member.flips()) <= {name for name in FILES if counts(name)}
    assert kinds == dict.fromkeys(KINDS, 5)


def counts(name: str) -> bool:
    return not name.startswith(("LOCK", "staging", "raft/spare", "db/1/a.sqlite"))


def test_only_bytes_that_were_written_are_changed(tmp_path: Path) -> None:
    member = Member(tmp_path)
    nemesis = nemesis_of(FlippedBits, member, 1)
    for _ in range(40):
        told = nemesis.start()
        places = member.flips().get("raft/1.seg", [])
        assert all(place < LOG_BYTES for place in places)
        if told["kind"] == "end of the log":
            assert all(place >= LOG_BYTES - END_BYTES for place in places)


def test_database_files_are_hit_only_by_the_nemesis_for_them(tmp_path: Path) -> None:
    member = Member(tmp_path)
    nemesis = nemesis_of(FlippedDatabaseBits, member, 1)
    told = nemesis.start()
    assert told["kind"] == "database"
    assert set(member.flips()) == {"db/1/a.sqlite"}

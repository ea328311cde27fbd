"""The disk that loses what was not synced: building its library, and the loss itself.

``shim.c`` is loaded into the server and writes a journal of undo and sync records. A crash loses
all that no completed sync covered: ``drop_unsynced`` walks the journal backwards and undoes it.
What is undone is what POSIX allows a power failure to undo: bytes and sizes of files without
fsync, and names without fsync of their directory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jepsen.nodes.library import build

SOURCE = Path(__file__).with_name("shim.c")
RECORD = struct.Struct("<IIQQQQ")
BYTES, CREATE, RENAME, UNLINK, SYNC = (ord(letter) for letter in "WCRUS")


@dataclass(frozen=True)
class Record:
    """One record of the journal."""

    kind: int
    sequence: int
    inode: int
    offset: int
    size: int
    body: bytes

    def names(self) -> list[Path | None]:
        """Return the paths of a record about names: first, second, kept."""
        return [Path(os.fsdecode(part)) if part else None for part in self.body.split(b"\0")[:3]]


def records(journal: Path) -> Iterator[Record]:
    """Yield the whole records of a journal; the last may be torn by the kill and is left out."""
    data = journal.read_bytes()
    at = 0
    while at + RECORD.size <= len(data):
        kind, length, sequence, inode, offset, size = RECORD.unpack_from(data, at)
        at += RECORD.size
        if at + length > len(data):
            return
        yield Record(kind, sequence, inode, offset, size, data[at : at + length])
        at += length


class LossyDisk:
    """The disk of one member; files of the journal lie beside its data directory."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.journal = data_dir.parent / "disk-journal"
        self.control = data_dir.parent / "disk-control"
        self.dropped = 0
        self.lossy = False
        self.control.write_text("0")

    def environment(self) -> dict[str, str]:
        """Return the variables that put a server on this disk; raises NoCompiler."""
        return {
            "LD_PRELOAD": str(build(SOURCE)),
            "JEPSEN_DISK_ROOT": str(self.data_dir),
            "JEPSEN_DISK_JOURNAL": str(self.journal),
            "JEPSEN_DISK_CONTROL": str(self.control),
        }

    def set_sync_delay_ms(self, delay_ms: int) -> None:
        """Let every sync wait before it begins."""
        fresh = self.control.with_suffix(".new")
        fresh.write_text(str(delay_ms))
        fresh.replace(self.control)

    def after_kill(self) -> None:
        """Lose what was not synced if the disk is lossy now; begin a new journal."""
        if self.lossy:
            self.dropped += drop_unsynced(self.data_dir, self.journal)
        self.journal.unlink(missing_ok=True)
        for kept in self.journal.parent.glob(f"{self.journal.name}.kept.*"):
            kept.unlink()


def drop_unsynced(data_dir: Path, journal: Path) -> int:
    """Undo every change that no sync covered; return how many there were."""
    if not journal.exists():
        return 0
    found = list(records(journal))
    covered: dict[int, int] = {}
    for record in found:
        if record.kind == SYNC:
            covered[record.inode] = max(covered.get(record.inode, 0), record.size)
    paths = _paths_by_inode(data_dir, journal)
    dropped = 0
    for record in reversed(found):
        if record.kind == SYNC or record.sequence <= covered.get(record.inode, 0):
            continue
        dropped += 1
        if record.kind == BYTES:
            _undo_bytes(record, paths)
        else:
            _undo_names(record)
            paths = _paths_by_inode(data_dir, journal)
    return dropped


def _paths_by_inode(data_dir: Path, journal: Path) -> dict[int, Path]:
    kept = journal.parent.glob(f"{journal.name}.kept.*")
    inside = (path for path in data_dir.rglob("*") if path.is_file())
    return {path.stat().st_ino: path for path in (*kept, *inside)}


def _undo_bytes(record: Record, paths: dict[int, Path]) -> None:
    path = paths.get(record.inode)
    if path is None:
        return  # the file's own creation was undone already, or it was a temporary one
    with path.open("r+b") as file:
        file.seek(record.offset)
        file.write(record.body)
        file.truncate(record.size)


def _undo_names(record: Record) -> None:
    first, second, kept = record.names()
    assert first is not None
    if record.kind != CREATE:
        # The directory may have been removed since; the name's return brings it back.
        first.parent.mkdir(parents=True, exist_ok=True)
    if record.kind == CREATE:
        first.unlink(missing_ok=True)
    elif record.kind == UNLINK:
        assert kept is not None
        with suppress(FileExistsError):
            os.link(kept, first)
    else:
        assert second is not None
        if second.exists():
            second.rename(first)
        if kept is not None:
            os.link(kept, second)

"""One database's base index: every entry up to it is contained in the main database file."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from dqlite_py.errors import CorruptFile
from dqlite_py.seams import Disk
from dqlite_py.storage.sealed import load_sealed, store_sealed

VERSION: Final = 1
_MAGIC: Final = b"DQPB"
_BODY: Final = struct.Struct("<QQ")


@dataclass(frozen=True, slots=True)
class BaseIndex:
    """Up to where the main file holds everything, and its last entry that carried frames."""

    index: int
    last_frames: int


def load(disk: Disk, path: str) -> BaseIndex | None:
    """Return the base index stored in ``path``, ``None`` if absent.

    It is a lower bound: the file may contain later pages, and replaying full page images from
    here is idempotent. Raises CorruptFile, NewerFormat or DiskFailed.
    """
    body = load_sealed(disk, path, _MAGIC, VERSION)
    if body is None:
        return None
    if len(body) != _BODY.size:
        raise CorruptFile(path=path, detail="the content is not a base index")
    return BaseIndex(*_BODY.unpack(body))


def store(disk: Disk, path: str, base: BaseIndex) -> None:
    """Record ``base``; durable on return.

    Ordering: after the database file's own fsync, before the log is trimmed. Raises DiskFailed.
    """
    store_sealed(disk, path, _MAGIC, VERSION, _BODY.pack(base.index, base.last_frames))

"""The log's start: position, configuration and the node's own record, replaced as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgpack

from dqlite_py.errors import CorruptFile
from dqlite_py.raft import ConfState
from dqlite_py.seams import Disk
from dqlite_py.storage.sealed import load_sealed, store_sealed

FILE_NAME: Final = "manifest"
VERSION: Final = 1
_MAGIC: Final = b"DQPM"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the member's state rests on at ``index``, the entry before the log's first.

    ``generation`` names the directory of the database files; ``payload`` is opaque here (members
    and database catalogue). All of it changes in one file replacement, so that databases, log
    start and configuration can not disagree after a crash.
    """

    generation: int
    index: int
    term: int
    conf_state: ConfState
    payload: bytes = b""


def load(disk: Disk, directory: str) -> Manifest | None:
    """Return the manifest in ``directory``, ``None`` if it was never stored.

    Raises CorruptFile, NewerFormat or DiskFailed.
    """
    path = f"{directory}/{FILE_NAME}"
    body = load_sealed(disk, path, _MAGIC, VERSION)
    if body is None:
        return None
    try:
        generation, index, term, conf, payload = msgpack.unpackb(body, use_list=False)
        voters, outgoing, learners, learners_next, auto_leave = conf
    except (ValueError, TypeError) as error:
        raise CorruptFile(path=path, detail="the content is not a manifest") from error
    conf_state = ConfState(voters, outgoing, learners, learners_next, auto_leave)
    return Manifest(generation, index, term, conf_state, payload)


def store(disk: Disk, directory: str, manifest: Manifest) -> None:
    """Make ``manifest`` the current one; durable on return.

    Ordering: whatever it promises (database files, base indexes) must be durable before; log
    trimming comes after. Raises DiskFailed.
    """
    conf = manifest.conf_state
    body = msgpack.packb(
        (
            manifest.generation,
            manifest.index,
            manifest.term,
            (
                conf.voters,
                conf.voters_outgoing,
                conf.learners,
                conf.learners_next,
                conf.auto_leave,
            ),
            manifest.payload,
        )
    )
    store_sealed(disk, f"{directory}/{FILE_NAME}", _MAGIC, VERSION, body)

"""A Raft core without I/O: see DESIGN.md; the door is ``RawNode``."""

from __future__ import annotations

from dqlite_py.raft.changes import (
    ConfChange,
    ConfChangeKind,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeV2,
    decode_conf_change,
    encode_conf_change,
)
from dqlite_py.raft.config import Config, ReadOnlyMode
from dqlite_py.raft.errors import (
    Compacted,
    InvalidConfChange,
    InvariantBroken,
    LocalMessage,
    PeerNotFound,
    ProposalDropped,
    RaftError,
    SnapshotOutOfDate,
    SnapshotTemporarilyUnavailable,
    Unavailable,
)
from dqlite_py.raft.messages import (
    LOCAL_APPEND_THREAD,
    LOCAL_APPLY_THREAD,
    NO_LIMIT,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    ReadState,
    Role,
    Snapshot,
    SoftState,
)
from dqlite_py.raft.progress import Progress, ProgressState
from dqlite_py.raft.rawnode import RawNode
from dqlite_py.raft.ready import Ready
from dqlite_py.raft.storage import LogReader, MemoryStorage

__all__ = [
    "LOCAL_APPEND_THREAD",
    "LOCAL_APPLY_THREAD",
    "NO_LIMIT",
    "Compacted",
    "ConfChange",
    "ConfChangeKind",
    "ConfChangeSingle",
    "ConfChangeTransition",
    "ConfChangeV2",
    "ConfState",
    "Config",
    "Entry",
    "EntryKind",
    "HardState",
    "InvalidConfChange",
    "InvariantBroken",
    "LocalMessage",
    "LogReader",
    "MemoryStorage",
    "Message",
    "MessageKind",
    "PeerNotFound",
    "Progress",
    "ProgressState",
    "ProposalDropped",
    "RaftError",
    "RawNode",
    "ReadOnlyMode",
    "ReadState",
    "Ready",
    "Role",
    "Snapshot",
    "SnapshotOutOfDate",
    "SnapshotTemporarilyUnavailable",
    "SoftState",
    "Unavailable",
    "decode_conf_change",
    "encode_conf_change",
]

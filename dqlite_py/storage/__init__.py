"""Everything a member keeps on disk besides the databases: see DESIGN.md."""

from __future__ import annotations

from dqlite_py.storage.datadir import DataDir, Identity
from dqlite_py.storage.log_writer import AppendBatch, StorageLimits, WriteResult
from dqlite_py.storage.manifest import Manifest
from dqlite_py.storage.raft_storage import Compaction, Installation, RaftStorage

__all__ = [
    "AppendBatch",
    "Compaction",
    "DataDir",
    "Identity",
    "Installation",
    "Manifest",
    "RaftStorage",
    "StorageLimits",
    "WriteResult",
]

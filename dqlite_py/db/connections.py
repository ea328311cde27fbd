"""How connections are opened: every setting that replication rests on, in one place."""

from __future__ import annotations

import apsw

from dqlite_py.errors import InvariantBroken
from dqlite_py.vfs.capture_vfs import NodeVFS

_STATEMENT_CACHE = 64


def open_bare(vfs: NodeVFS, path: str) -> apsw.Connection:
    """Open a connection that has run no SQL, so that it has not looked at the file yet."""
    return apsw.Connection(
        path,
        flags=apsw.SQLITE_OPEN_READWRITE,
        vfs=vfs.vfs_name,
        statementcachesize=_STATEMENT_CACHE,
    )


def open_configured(
    vfs: NodeVFS, path: str, *, cache_kib: int, query_only: bool
) -> apsw.Connection:
    """Open a connection for SQL, with a page cache of at most ``cache_kib`` KiB.

    It never checkpoints by itself, and has read the schema, so that the WAL is open. Raises
    InvariantBroken if a setting does not hold.
    """
    connection = open_bare(vfs, path)
    connection.set_busy_timeout(0)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    # One pragma a call, each fetched to its end: SQLite runs several in one string only as far as
    # their rows are taken.
    for name, value in (
        ("synchronous", 1),  # NORMAL: only checkpoints sync the database file
        ("wal_autocheckpoint", 0),
        ("temp_store", 2),  # MEMORY
        ("cache_size", -cache_kib),
        ("foreign_keys", 1),
        ("query_only", int(query_only)),
    ):
        connection.execute(f"PRAGMA {name}={value}").fetchall()
        found = connection.execute(f"PRAGMA {name}").fetchall()
        if found != [(value,)]:
            raise InvariantBroken(detail=f"PRAGMA {name} is {found}, not {value}")
    connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    if connection.execute("PRAGMA journal_mode").fetchall() != [("wal",)]:
        raise InvariantBroken(detail="the database file is not in WAL mode")
    return connection

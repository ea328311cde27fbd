"""The settings that replication rests on hold on every connection."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from dqlite_py.db.database import Database
from dqlite_py.errors import InvariantBroken
from tests.kit.replicated import create, execute


def everyone(database: Database) -> list[apsw.Connection]:
    found: list[apsw.Connection] = []
    execute(database, found.append)
    database.read(found.append)
    database.read(found.append)
    database.read_now(found.append)
    assert database._opened is not None
    return [*found, *database._opened.checkpointer._idle]


@pytest.mark.parametrize("again", [False, True])
def test_every_connection_is_configured(tmp_path: Path, again: bool) -> None:
    database = create(tmp_path, "one", writer_cache_kib=2048, reader_cache_kib=512)
    if again:
        database.rollback_to_committed()
    connections = everyone(database)
    assert len(set(map(id, connections))) == 5
    for number, connection in enumerate(connections):
        assert connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, -1) == 1
        assert connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1
        for name, value in {
            "synchronous": 1,
            "wal_autocheckpoint": 0,
            "temp_store": 2,
            "journal_mode": "wal",
            "foreign_keys": 1,
            "query_only": int(number != 0),
            "cache_size": -2048 if number == 0 else -512,
        }.items():
            assert connection.pragma(name) == value, (number, name)
    database.close()


def test_sql_is_opened_once(tmp_path: Path) -> None:
    database = create(tmp_path, "one")
    with pytest.raises(InvariantBroken):
        database.open_sql(1)
    database.close()

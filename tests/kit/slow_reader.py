"""A reader in the way."""

from __future__ import annotations

from threading import Event, Thread

import apsw

from dqlite_py.db.database import Database
from dqlite_py.errors import ReadInterrupted


class SlowReader:
    """A read on a thread of its own that keeps its snapshot until told, or until interrupted."""

    def __init__(self, database: Database, *, stubborn: bool = False) -> None:
        self.started, self.go_on = Event(), Event()
        self.error: Exception | None = None
        self._stubborn = stubborn
        self._thread = Thread(target=self._run, args=(database,))
        self._thread.start()
        assert self.started.wait(10)

    def _run(self, database: Database) -> None:
        try:
            database.read(self._query)
        except ReadInterrupted as error:
            self.error = error

    def _query(self, session: apsw.Connection) -> None:
        if self._stubborn:  # between statements an interruption does not reach it
            session.execute("SELECT count(*) FROM t").fetchall()
            self.started.set()
            assert self.go_on.wait(10)
        else:
            session.create_scalar_function("running", lambda: self.started.set())
            endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
            session.execute(f"{endless} SELECT count(running()) FROM n").fetchall()

    def end(self) -> None:
        self.go_on.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

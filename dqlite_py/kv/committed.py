"""Reading the store at the committed revision, whatever the leader speculates meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from dqlite_py import errors
from dqlite_py.kv import schema
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.kv.schema import COMPACT_STARTED, NEVER_COMPACTED
from dqlite_py.kv.store import View
from dqlite_py.node.contract import ReplicaPort, Session

T = TypeVar("T")

_ATTEMPTS = 100
_PAUSE_S = 0.01


class _Overtaken(Exception):
    """Compaction took rows of the revision chosen before the snapshot was fixed."""


class CommittedReader:
    """Runs queries on views of the committed revision."""

    def __init__(self, replica: ReplicaPort, machine: EtcdMachine) -> None:
        self._replica = replica
        self._machine = machine

    async def read(self, query: Callable[[View], T], *, inline: bool) -> T:
        """Run ``query`` on the committed state; what it raises is passed on.

        ``inline`` runs it on the event loop, for queries of a few rows. A query may run more than
        once. Raises RequestTimeout if the member can not offer a consistent state.
        """
        for _ in range(_ATTEMPTS):
            if not self._machine.has_schema:
                # The cluster's first leader has been elected and is about to make the tables.
                await asyncio.sleep(_PAUSE_S)
                continue
            try:
                # Sampled before any snapshot is fixed, so that it is surely within it.
                run = partial(self._run, query, self._machine.revision)
                return self._replica.read_now(run) if inline else await self._replica.read(run)
            except errors.ReadInterrupted:
                inline = False  # a rollback has the connections; a reader thread waits for it
            except _Overtaken:
                await asyncio.sleep(_PAUSE_S)
        raise errors.RequestTimeout

    def _run(self, query: Callable[[View], T], revision: int, session: Session) -> T:
        # A compact revision sampled after the snapshot was fixed covers every row it may lack. The
        # table tells what this very snapshot may lack, which also covers the moment between
        # installing another member's snapshot and hearing of it.
        started = schema.get_meta(session, COMPACT_STARTED, NEVER_COMPACTED)
        if started > revision:
            raise _Overtaken
        compact_revision = max(started, self._machine.compact_revision)
        return query(View(session, schema.bound(revision), revision, compact_revision))

"""Reading the store at the committed revision, whatever the leader speculates meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
            try:
                if inline:
                    return self._replica.read_now(lambda session: self._run(session, query))
                return await self._replica.read(lambda session: self._run(session, query))
            except errors.ReadInterrupted:
                inline = False  # a rollback has the connections; a reader thread waits for it
            except _Overtaken:
                await asyncio.sleep(_PAUSE_S)
        raise errors.RequestTimeout

    def _run(self, session: Session, query: Callable[[View], T]) -> T:
        # The order matters. A revision sampled before the snapshot is fixed is surely within it;
        # the compact revision sampled after it covers every row the snapshot may lack. The first
        # query fixes the snapshot and tells what this very snapshot may lack, which also covers
        # the moment between installing another member's snapshot and hearing of it.
        revision = self._machine.revision
        started = schema.get_meta(session, COMPACT_STARTED, NEVER_COMPACTED)
        if started > revision:
            raise _Overtaken
        compact_revision = max(started, self._machine.compact_revision)
        return query(View(session, schema.bound(revision), revision, compact_revision))

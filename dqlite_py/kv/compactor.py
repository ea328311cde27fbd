"""Drives physical compaction from the leader, in small steps through the log."""

from __future__ import annotations

import asyncio
import logging

from dqlite_py import errors
from dqlite_py.kv.commands import Command, Kind
from dqlite_py.kv.machine import EtcdMachine
from dqlite_py.node.contract import ReplicaPort
from dqlite_py.pb import rpc_pb2

_PAUSE_S = 0.01  # between steps, so that requests get in between
_RETRY_S = 1.0

logger = logging.getLogger(__name__)


class Compactor:
    """A leadership listener that deletes what a committed compact revision has made unreadable.

    It starts when a compact revision is applied or this member begins to lead, so a compaction
    that a former leader left unfinished goes on from its cursor.
    """

    def __init__(self, replica: ReplicaPort, machine: EtcdMachine) -> None:
        self._replica = replica
        self._machine = machine
        self._leading = False
        self._wake = asyncio.Event()
        machine.subscribe_compaction(self._wake.set)
        replica.add_leadership_listener(self)

    def leadership_started(self, term: int) -> None:  # noqa: ARG002 (the contract's shape)
        """Take over unfinished compactions."""
        self._leading = True
        self._wake.set()

    def leadership_stopped(self) -> None:
        """Leave the rest to the next leader."""
        self._leading = False

    async def run(self) -> None:
        """Compact until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._leading and self._pending():
                await self._step()

    def _pending(self) -> bool:
        return self._machine.compact_finished < self._machine.compact_revision

    async def _step(self) -> None:
        request = rpc_pb2.CompactionRequest(revision=self._machine.compact_revision)
        try:
            await self._replica.write(Command(Kind.COMPACT_STEP, request))
        except (errors.OutcomeUnknown, errors.RequestRefused) as failure:
            # A step may be repeated: it starts from the cursor that the tables hold.
            logger.info("compaction step failed, will be repeated: %s", failure)
            await asyncio.sleep(_RETRY_S)
        else:
            await asyncio.sleep(_PAUSE_S)

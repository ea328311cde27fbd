"""The leader's expiry loop: learns of leases, revokes the expired, at its own pace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from dqlite_py import errors
from dqlite_py.lease.lessor import Lessor
from dqlite_py.node.contract import ReplicaPort, Session

logger = logging.getLogger(__name__)

SCAN_S = 0.5
MOST_A_SCAN = 500
REVOKES_IN_FLIGHT = 16
_RELOAD_PAUSE_S = 0.1


class ExpiryTables(Protocol):
    """The part of the lease tables that expiry uses; see ``lease.service.LeaseTables``."""

    def subscribe_leases(
        self, callback: Callable[[Sequence[tuple[int, int]] | None], None]
    ) -> None:
        """Call back with committed changes (id, ttl_s; negative: revoked); None: read all."""

    def load(self, session: Session) -> list[tuple[int, int]]:
        """Return all leases as (id, ttl_s)."""

    def expire(self, lease: int, guard: Callable[[], bool]) -> Awaitable[Any]:
        """Revoke on this member only, if ``guard()`` still holds at execution (any thread)."""


class Expiry:
    """Feeds the lessor with committed changes and revokes what has expired.

    A leadership listener: the lessor holds deadlines only between ``leadership_started`` and
    ``leadership_stopped``. It learns of a lease when the grant is applied, never before.
    """

    def __init__(
        self,
        replica: ReplicaPort,
        tables: ExpiryTables,
        lessor: Lessor,
        now_s: Callable[[], float],
    ) -> None:
        self._replica = replica
        self._tables = tables
        self._lessor = lessor
        self._now_s = now_s
        self._leading_term: int | None = None
        self._spell = 0  # counts leaderships; executing may pause and go on within one term
        self._missed: list[tuple[int, int]] | None = None  # changes applied while loading
        self._promoted = False
        self._load_wanted = asyncio.Event()
        self._settled = asyncio.Event()  # all leases are loaded, or this member does not lead
        self._revokes: asyncio.Queue[int] = asyncio.Queue(maxsize=MOST_A_SCAN)
        self._waiting: dict[int, list[asyncio.Future[None]]] = {}
        tables.subscribe_leases(self._changed)
        replica.add_leadership_listener(self)

    # --- leadership listener -------------------------------------------------------------------
    def leadership_started(self, term: int) -> None:
        """Load all leases; until then renewals wait."""
        self._lessor.demote()
        self._leading_term = term
        self._spell += 1
        self._promoted = False
        self._settled.clear()
        self._load_wanted.set()

    def leadership_stopped(self) -> None:
        """Forget all deadlines; whoever waits for a revoke must ask the next leader."""
        self._leading_term = None
        self._promoted = False
        self._lessor.demote()
        self._settled.set()
        for waiting in self._waiting.values():
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_exception(errors.LeaderChanged())
        self._waiting.clear()

    # --- used by the service -------------------------------------------------------------------
    async def loaded(self) -> None:
        """Return when the lessor knows all leases; raise NotLeader if it will not."""
        await self._settled.wait()
        if self._leading_term is None:
            raise errors.NotLeader

    async def revoked(self, lease: int) -> None:
        """Return when the revoke of an expired lease is applied; raise LeaderChanged."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(lease, []).append(waiter)
        try:
            await waiter
        finally:
            waiting = self._waiting.get(lease)
            if waiting and waiter in waiting:
                waiting.remove(waiter)
                if not waiting:
                    del self._waiting[lease]

    async def run(self) -> None:
        """Load, scan and revoke until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_loading())
            group.create_task(self._keep_scanning())
            for _ in range(REVOKES_IN_FLIGHT):
                group.create_task(self._keep_revoking())

    # --- committed changes ---------------------------------------------------------------------
    def _changed(self, changes: Sequence[tuple[int, int]] | None) -> None:
        if self._leading_term is None:
            return
        if changes is None:
            self._load_wanted.set()
            return
        if self._missed is not None:
            self._missed.extend(changes)
        if self._promoted:
            self._apply(changes)

    def _apply(self, changes: Sequence[tuple[int, int]]) -> None:
        now_s = self._now_s()
        for lease, ttl_s in changes:
            if ttl_s < 0:
                self._lessor.revoked(lease)
                self._release(lease)
            else:
                self._lessor.granted(lease, ttl_s, now_s)

    def _release(self, lease: int) -> None:
        for waiter in self._waiting.pop(lease, ()):
            if not waiter.done():
                waiter.set_result(None)

    # --- tasks ---------------------------------------------------------------------------------
    async def _keep_loading(self) -> None:
        while True:
            await self._load_wanted.wait()
            self._load_wanted.clear()
            if self._leading_term is None:
                continue
            try:
                await self._load(self._spell)
            except errors.DqliteError as failure:
                if isinstance(failure, errors.Fatal):
                    raise
                logger.info("leases can not be read yet: %s", failure)
                self._load_wanted.set()
                await asyncio.sleep(_RELOAD_PAUSE_S)

    async def _load(self, spell: int) -> None:
        # What is applied while the tables are being read may or may not be in what was read:
        # doing it again is harmless.
        self._missed = []
        try:
            leases = await self._replica.read_gated(self._tables.load)
            if self._leading_term is None or self._spell != spell:
                self._load_wanted.set()
                return
            if self._promoted:
                self._lessor.reconcile(leases, self._now_s())
                known = {lease for lease, _ in leases}
                for lease in [lease for lease in self._waiting if lease not in known]:
                    self._release(lease)
            else:
                self._lessor.promote(leases, self._now_s())
            self._apply(self._missed)
            self._promoted = True
            self._settled.set()
        finally:
            self._missed = None

    async def _keep_scanning(self) -> None:
        while True:
            await asyncio.sleep(SCAN_S)
            if not self._promoted:
                continue
            due = self._lessor.due(self._now_s(), MOST_A_SCAN)
            if due and await self._still_leads(due):
                for lease in due:
                    await self._revokes.put(lease)

    def _leads_still(self, term: int | None) -> Callable[[], bool]:
        # A request may wait out an election and find this member leading again: by then renewals
        # may have happened elsewhere, and the lessor has started afresh.
        return lambda: self._leading_term == term

    async def _still_leads(self, due: list[int]) -> bool:
        # A leader that was asleep may find leases expired that its successor has renewed since.
        try:
            await self._replica.barrier()
        except (errors.OutcomeUnknown, errors.RequestRefused) as failure:
            logger.info("%d expired leases wait for a leader: %s", len(due), failure)
            for lease in due:
                self._lessor.revoke_failed(lease, self._now_s())
            return False
        return True

    async def _keep_revoking(self) -> None:
        while True:
            lease = await self._revokes.get()
            if not self._lessor.is_queued(lease):
                continue
            try:
                await self._tables.expire(lease, self._leads_still(self._leading_term))
            except errors.LeaseNotFound:
                self._lessor.revoked(lease)
                self._release(lease)
            except (errors.OutcomeUnknown, errors.RequestRefused) as failure:
                logger.info("revoking lease %x failed, will be repeated: %s", lease, failure)
                self._lessor.revoke_failed(lease, self._now_s())

"""The leader makes learners voters once they have caught up."""

from __future__ import annotations

import asyncio
import logging

from dqlite_py.cluster.admission import has_run
from dqlite_py.errors import LearnerNotReady, OutcomeUnknown, RequestRefused
from dqlite_py.node.contract import ReplicaPort

log = logging.getLogger(__name__)

RETRY_S = 0.25


class Promoter:
    """Promotes learners while this member leads; ``run`` is its only task.

    A learner that has not published its client URLs has not served yet and is left alone: were it
    promoted before it started, it would count for the quorum without being there.
    """

    def __init__(self, replica: ReplicaPort, retry_s: float = RETRY_S) -> None:
        self._replica = replica
        self._retry_s = retry_s
        self._leading = asyncio.Event()
        replica.add_leadership_listener(self)

    def leadership_started(self, term: int) -> None:
        """Begin to look for learners."""
        del term
        self._leading.set()

    def leadership_stopped(self) -> None:
        """Stop looking for learners."""
        self._leading.clear()

    async def run(self) -> None:
        """Promote for ever; ends by cancellation."""
        while True:
            await self._leading.wait()
            await self.promote_ready()
            await asyncio.sleep(self._retry_s)

    async def promote_ready(self) -> None:
        """Try to promote each learner once."""
        learners = [one for one in self._replica.members() if one.is_learner and has_run(one)]
        for member in learners:
            try:
                await self._replica.promote_member(member.id)
            except LearnerNotReady:
                log.debug("learner has not caught up", extra={"learner": f"{member.id:x}"})
            except (RequestRefused, OutcomeUnknown) as error:
                # Looked at again in the next round, on whichever member leads then.
                log.info(
                    "learner not promoted",
                    extra={"learner": f"{member.id:x}", "reason": str(error)},
                )
            else:
                log.info("learner promoted", extra={"learner": f"{member.id:x}"})

"""Members are added, promoted, demoted and removed all the time."""

from __future__ import annotations

import asyncio
import random

from dqlite_py.errors import DqliteError
from dqlite_py.raft import (
    ConfChangeKind,
    ConfChangeSingle,
    ConfChangeTransition,
    ConfChangeV2,
    ProposalDropped,
    Role,
)
from tests.simulation.member import Gone, SimServer
from tests.simulation.world import World

_MOST = 7


class MembershipChanges:
    """One change after another, through any member."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = random.Random(f"{world.seed}/membership")

    async def run(self) -> None:
        pace_s = self._rng.choice((1.0, 4.0, 12.0))
        while self._world.active:
            await asyncio.sleep(self._rng.uniform(0.3, 2 * pace_s))
            members = self._world.answering()
            if not members:
                continue
            try:
                await self._change(self._rng.choice(members))
            except (DqliteError, Gone, ProposalDropped) as error:
                self._world.trace(f"membership change failed: {error!r}")

    async def _change(self, through: SimServer) -> None:
        view = self._world.newest_view()
        voters = [m.id for m in view if not m.is_learner]
        learners = [m.id for m in view if m.is_learner]
        rng = self._rng
        choices = ["joint"] if len(voters) > 1 else []
        if learners:
            choices += ["promote", "promote", "promote"]
        if len(view) < _MOST:
            choices += ["add voter"] if len(voters) > 1 else []
            choices += ["add learner", "add learner"] if not learners else []
        if len(voters) > 1:
            choices += ["remove"] * (2 if len(view) > 3 else 1)
        if not choices:
            return
        choice = rng.choice(choices)
        self._world.trace(f"membership {choice}: voters {voters}, learners {learners}")
        replica = through.replica
        if choice.startswith("add"):
            url, name = self._world.new_url()
            is_learner = choice == "add learner"
            await through.ask(replica.add_member([url], is_learner=is_learner, name=name))
        elif choice == "promote":
            await through.ask(replica.promote_member(rng.choice(learners)))
        elif choice == "remove":
            await through.ask(replica.remove_member(rng.choice([m.id for m in view])))
        else:
            self._joint(voters, learners)

    def _joint(self, voters: list[int], learners: list[int]) -> None:
        """Change several members in one step, through a joint configuration."""
        leader = self._world.leader
        if leader is None or leader.parts.raw.role is not Role.LEADER:
            return
        demoted = self._rng.choice(voters)
        steps = [ConfChangeSingle(ConfChangeKind.ADD_LEARNER_NODE, demoted)]
        if learners:
            promoted = self._rng.choice(learners)
            steps.append(ConfChangeSingle(ConfChangeKind.ADD_NODE, promoted))
        change = ConfChangeV2(ConfChangeTransition.JOINT_IMPLICIT, tuple(steps))
        leader.parts.raw.propose_conf_change(change)
        leader.parts.driver.kick()

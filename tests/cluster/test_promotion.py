from __future__ import annotations

import asyncio
from typing import Any, cast

from dqlite_py.cluster.promotion import Promoter
from dqlite_py.errors import LearnerNotReady
from dqlite_py.node.contract import Member
from tests.kit.member_list_replica import MemberListReplica


def learner(member_id: int, client_urls: tuple[str, ...] = ("http://a:1",)) -> Member:
    return Member(member_id, f"n{member_id}", (f"http://p:{member_id}",), client_urls, True)


def test_learners_are_promoted_once_caught_up_and_only_while_leading() -> None:
    async def scenario() -> MemberListReplica:
        replica = MemberListReplica()
        replica.records.append(learner(2))
        replica.raised = [LearnerNotReady()]
        promoter = Promoter(cast(Any, replica), retry_s=0.0)
        task = asyncio.ensure_future(promoter.run())
        await asyncio.sleep(0)
        assert not replica.promoted
        promoter.leadership_started(3)
        await replica.promotion.wait()
        promoter.leadership_stopped()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        replica.records.append(learner(3))
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return replica

    assert asyncio.run(scenario()).promoted == [2]


def test_a_learner_that_never_ran_is_left_alone() -> None:
    replica = MemberListReplica()
    replica.records.append(learner(2, client_urls=()))
    asyncio.run(Promoter(cast(Any, replica)).promote_ready())
    assert replica.promoted == []


def test_one_learner_that_is_not_ready_does_not_hold_up_another() -> None:
    replica = MemberListReplica()
    replica.records += [learner(2), learner(3)]
    replica.raised = [LearnerNotReady()]
    asyncio.run(Promoter(cast(Any, replica)).promote_ready())
    assert replica.promoted == [3]

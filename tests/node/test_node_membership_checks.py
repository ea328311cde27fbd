"""What etcd would answer to a membership change that must not happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from dqlite_py.errors import (
    ConfChangeInProgress,
    DqliteError,
    LearnerNotReady,
    MemberExists,
    MemberNotEnoughStarted,
    MemberNotFound,
    MemberNotLearner,
    NotLeader,
    PeerUrlExists,
    RequestTimeout,
    TooManyLearners,
    UnhealthyCluster,
)
from dqlite_py.node.catalog import Catalog
from dqlite_py.node.contract import Member
from dqlite_py.node.limits import ReplicaLimits
from dqlite_py.node.membership import (
    ChangeContext,
    Membership,
    apply_change,
    check_add,
    check_remove,
)
from dqlite_py.raft import ConfChange, ConfChangeKind, ProposalDropped
from tests.kit.loop import run_virtual


def member(member_id: int, *, name: str = "n", learner: bool = False) -> Member:
    return Member(member_id, name, (f"http://{member_id}:1",), (), is_learner=learner)


def catalog(*members: Member, removed: tuple[int, ...] = ()) -> Catalog:
    return Catalog(cluster_id=1, members=members, removed=removed)


def everyone(_: int) -> bool:
    return True


STARTED = (member(1), member(2), member(3))
UNSTARTED = member(9, name="")


@pytest.mark.parametrize(
    ("there", "new", "error"),
    [
        (catalog(*STARTED), member(3), MemberExists),
        (catalog(*STARTED, removed=(4,)), member(4), MemberExists),
        (catalog(*STARTED), replace(member(4), peer_urls=("http://2:1",)), PeerUrlExists),
        (catalog(*STARTED, member(4, learner=True)), member(5, learner=True), TooManyLearners),
        (catalog(member(1), UNSTARTED), member(5), MemberNotEnoughStarted),
        (catalog(member(1)), member(5), None),
        (catalog(*STARTED), member(5, learner=True), None),
        (catalog(*STARTED), member(5), None),
    ],
)
def test_a_member_is_added_as_etcd_would(
    there: Catalog, new: Member, error: type[DqliteError] | None
) -> None:
    if error is None:
        check_add(there, new, learners_max=1)
        return
    with pytest.raises(error):
        check_add(there, new, learners_max=1)


@pytest.mark.parametrize(
    ("there", "gone", "reachable", "error"),
    [
        (catalog(*STARTED), 7, everyone, MemberNotFound),
        (catalog(member(1)), 1, everyone, MemberNotEnoughStarted),
        (catalog(member(1), UNSTARTED), 1, everyone, MemberNotEnoughStarted),
        (catalog(*STARTED), 3, lambda each: each == 1, UnhealthyCluster),
        (catalog(*STARTED, member(4, learner=True)), 4, lambda _: False, None),
        (catalog(*STARTED), 3, everyone, None),
    ],
)
def test_a_member_is_removed_as_etcd_would(
    there: Catalog, gone: int, reachable: Callable[[int], bool], error: type[DqliteError] | None
) -> None:
    if error is None:
        check_remove(there, gone, reachable)
        return
    with pytest.raises(error):
        check_remove(there, gone, reachable)


def test_an_update_that_comes_after_the_removal_brings_nobody_back() -> None:
    there = catalog(*STARTED[:2], removed=(3,))
    context = ChangeContext(b"", member(3), "")
    assert apply_change(there, ConfChange(ConfChangeKind.UPDATE_NODE, 3), context) == there


def test_removing_a_member_again_names_it_once() -> None:
    once = catalog(*STARTED).without_member(3)
    assert once.without_member(3) == once
    assert once.removed == (3,)


@dataclass
class Core:
    """The Raft core as far as membership asks it."""

    has_pending_conf_change: bool = False
    drops: bool = False
    last_index: int = 100
    progress: dict[int, Any] = field(default_factory=dict)
    proposed: list[ConfChange] = field(default_factory=list)

    def propose_conf_change(self, change: ConfChange) -> None:
        if self.drops:
            raise ProposalDropped("no")
        self.proposed.append(change)


def membership(core: Core, there: Catalog, reachable: Callable[[int], bool]) -> Membership:
    limits = ReplicaLimits()
    return Membership(
        1, core, limits, Random(1),  # type: ignore[arg-type]
        catalog=lambda: there, leads=lambda: True, kick=lambda: None, reachable=reachable,
    )  # fmt: skip


LEARNER = member(4, learner=True)
BEHIND = {4: SimpleNamespace(recent_active=True, match=89)}
SILENT = {4: SimpleNamespace(recent_active=False, match=100)}
READY = {4: SimpleNamespace(recent_active=True, match=90)}
WITH_LEARNER = catalog(*STARTED, LEARNER)


@pytest.mark.parametrize(
    ("act", "core", "there", "reachable", "error"),
    [
        (lambda m: m.promote(7), Core(), WITH_LEARNER, everyone, MemberNotFound),
        (lambda m: m.promote(3), Core(), WITH_LEARNER, everyone, MemberNotLearner),
        (lambda m: m.promote(4), Core(), WITH_LEARNER, everyone, LearnerNotReady),
        (lambda m: m.promote(4), Core(progress=SILENT), WITH_LEARNER, everyone, LearnerNotReady),
        (lambda m: m.promote(4), Core(progress=BEHIND), WITH_LEARNER, everyone, LearnerNotReady),
        (lambda m: m.promote(4), Core(progress=READY), WITH_LEARNER, everyone, RequestTimeout),
        (lambda m: m.update(7, lambda r: r), Core(), WITH_LEARNER, everyone, MemberNotFound),
        (
            lambda m: m.update(3, lambda r: replace(r, peer_urls=("http://1:1",))),
            Core(),
            WITH_LEARNER,
            everyone,
            PeerUrlExists,
        ),
        (lambda m: m.remove(1), Core(), catalog(*STARTED), everyone, UnhealthyCluster),
        (lambda m: m.add(member(5), ""), Core(), catalog(*STARTED), lambda _: False,
         UnhealthyCluster),
        (lambda m: m.remove(3), Core(has_pending_conf_change=True), catalog(*STARTED), everyone,
         ConfChangeInProgress),
        (lambda m: m.remove(3), Core(drops=True), catalog(*STARTED), everyone, NotLeader),
        (lambda m: m.remove(3), Core(), catalog(*STARTED), everyone, RequestTimeout),
    ],
)  # fmt: skip
def test_a_change_is_refused_before_it_is_proposed_or_its_outcome_is_unknown(
    act: Callable[[Membership], Any],
    core: Core,
    there: Catalog,
    reachable: Callable[[int], bool],
    error: type[DqliteError],
) -> None:
    core = replace(core, proposed=[])

    async def main() -> None:
        with pytest.raises(error):
            await act(membership(core, there, reachable))

    run_virtual(main, limit_s=60)
    assert bool(core.proposed) is (error is RequestTimeout)

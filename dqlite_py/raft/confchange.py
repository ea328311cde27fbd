"""Membership configurations and the rules for changing them (dissertation chapter 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dqlite_py.raft.changes import ConfChangeKind, ConfChangeSingle
from dqlite_py.raft.errors import InvalidConfChange, InvariantBroken
from dqlite_py.raft.messages import ConfState
from dqlite_py.raft.progress import Inflights, Progress
from dqlite_py.raft.quorum import JointConfig, MajorityConfig

ProgressMap = dict[int, Progress]

_NO_VOTERS = JointConfig()


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who votes and who only learns.

    ``learners_next`` are outgoing voters that turn into learners when the joint configuration
    ends: until then they vote, so they cannot be learners yet.
    """

    voters: JointConfig = _NO_VOTERS
    learners: frozenset[int] = frozenset()
    learners_next: frozenset[int] = frozenset()
    auto_leave: bool = False

    def __str__(self) -> str:
        words = [f"voters={self.voters}"]
        if self.learners:
            words.append(f"learners={MajorityConfig(self.learners)}")
        if self.learners_next:
            words.append(f"learners_next={MajorityConfig(self.learners_next)}")
        if self.auto_leave:
            words.append("autoleave")
        return " ".join(words)

    @property
    def members(self) -> frozenset[int]:
        """Everyone who replicates the log."""
        return self.voters.ids | self.learners

    def conf_state(self) -> ConfState:
        """Return the form that is stored and sent."""
        return ConfState(
            tuple(sorted(self.voters.incoming.ids)),
            tuple(sorted(self.voters.outgoing.ids)),
            tuple(sorted(self.learners)),
            tuple(sorted(self.learners_next)),
            self.auto_leave,
        )

    @staticmethod
    def from_conf_state(state: ConfState) -> Configuration:
        """Return the configuration that ``conf_state`` was called on."""
        return Configuration(
            JointConfig.of(state.voters, state.voters_outgoing),
            frozenset(state.learners),
            frozenset(state.learners_next),
            state.auto_leave,
        )


class Draft:
    """A configuration being changed step by step."""

    def __init__(
        self,
        configuration: Configuration,
        progress: ProgressMap,
        make_progress: Callable[[bool], Progress],
    ) -> None:
        self.incoming = set(configuration.voters.incoming.ids)
        self.outgoing = set(configuration.voters.outgoing.ids)
        self.learners = set(configuration.learners)
        self.learners_next = set(configuration.learners_next)
        self.progress = {member: each.copy() for member, each in progress.items()}
        self._make_progress = make_progress

    def apply(self, changes: Iterable[ConfChangeSingle]) -> None:
        """Take the steps in order; raises InvalidConfChange if no voter is left."""
        for change in changes:
            if change.node_id == 0 or change.kind == ConfChangeKind.UPDATE_NODE:
                continue
            if change.kind == ConfChangeKind.ADD_NODE:
                self._make_voter(change.node_id)
            elif change.kind == ConfChangeKind.ADD_LEARNER_NODE:
                self._make_learner(change.node_id)
            else:
                self._remove(change.node_id)
        if not self.incoming:
            raise InvalidConfChange("removed all voters")

    def _make_voter(self, member: int) -> None:
        progress = self.progress.get(member)
        if progress is None:
            self.progress[member] = self._make_progress(False)
        else:
            progress.is_learner = False
        self.learners.discard(member)
        self.learners_next.discard(member)
        self.incoming.add(member)

    def _make_learner(self, member: int) -> None:
        progress = self.progress.get(member)
        if progress is None:
            self.progress[member] = self._make_progress(True)
            self.learners.add(member)
            return
        if progress.is_learner:
            return
        self.incoming.discard(member)
        if member in self.outgoing:
            self.learners_next.add(member)
        else:
            progress.is_learner = True
            self.learners.add(member)

    def _remove(self, member: int) -> None:
        self.incoming.discard(member)
        self.learners.discard(member)
        self.learners_next.discard(member)
        if member not in self.outgoing:
            self.progress.pop(member, None)

    def leave_joint(self) -> None:
        """End the joint configuration."""
        for member in self.learners_next:
            self.learners.add(member)
            self.progress[member].is_learner = True
        self.learners_next.clear()
        for member in self.outgoing - self.incoming - self.learners:
            self.progress.pop(member, None)
        self.outgoing.clear()

    def finish(self, *, auto_leave: bool) -> tuple[Configuration, ProgressMap]:
        """Return the result; raises InvariantBroken if its parts contradict each other."""
        configuration = Configuration(
            JointConfig.of(self.incoming, self.outgoing),
            frozenset(self.learners),
            frozenset(self.learners_next),
            auto_leave,
        )
        if configuration.members != self.progress.keys():
            raise InvariantBroken(f"progress does not cover {configuration}")
        if self.learners & configuration.voters.ids or not self.learners_next <= self.outgoing:
            raise InvariantBroken(f"a member is both voter and learner in {configuration}")
        return configuration, self.progress


class Changer:
    """Computes configurations from one configuration; changes nothing itself."""

    def __init__(
        self,
        configuration: Configuration,
        progress: ProgressMap,
        last_index: int,
        max_inflight_messages: int,
        max_inflight_bytes: int,
    ) -> None:
        self._configuration = configuration
        self._progress = progress
        self._last_index = last_index
        self._max_inflight_messages = max_inflight_messages
        self._max_inflight_bytes = max_inflight_bytes

    def _make_progress(self, is_learner: bool) -> Progress:
        """A new member is probed from the last entry on, and is not suspected of being dead."""
        inflights = Inflights(self._max_inflight_messages, self._max_inflight_bytes)
        progress = Progress(0, max(self._last_index, 1), inflights, is_learner=is_learner)
        progress.recent_active = True
        return progress

    def _draft(self) -> Draft:
        return Draft(self._configuration, self._progress, self._make_progress)

    def simple(self, changes: Iterable[ConfChangeSingle]) -> tuple[Configuration, ProgressMap]:
        """Change at most one voter: old and new majorities then always overlap (4.1).

        Raises InvalidConfChange.
        """
        voters = self._configuration.voters
        if voters.is_joint:
            raise InvalidConfChange("can't apply simple config change in joint config")
        draft = self._draft()
        draft.apply(changes)
        if len(voters.incoming.ids ^ draft.incoming) > 1:
            raise InvalidConfChange("more than one voter changed without entering joint config")
        return draft.finish(auto_leave=False)

    def enter_joint(
        self, changes: Iterable[ConfChangeSingle], *, auto_leave: bool
    ) -> tuple[Configuration, ProgressMap]:
        """Require both the present and the changed majority (4.3); raises InvalidConfChange."""
        voters = self._configuration.voters
        if voters.is_joint:
            raise InvalidConfChange("config is already joint")
        if not voters.incoming.ids:
            raise InvalidConfChange("can't make a zero-voter config joint")
        draft = self._draft()
        draft.outgoing = set(draft.incoming)
        draft.apply(changes)
        return draft.finish(auto_leave=auto_leave)

    def leave_joint(self) -> tuple[Configuration, ProgressMap]:
        """Return to one majority; raises InvalidConfChange if there is only one."""
        if not self._configuration.voters.is_joint:
            raise InvalidConfChange("can't leave a non-joint config")
        draft = self._draft()
        draft.leave_joint()
        return draft.finish(auto_leave=False)

    def restore(self, state: ConfState) -> tuple[Configuration, ProgressMap]:
        """Return the configuration stored as ``state`` with fresh progress for everyone."""
        configuration = Configuration.from_conf_state(state)
        draft = Draft(configuration, {}, self._make_progress)
        for member in configuration.members:
            draft.progress[member] = self._make_progress(member in configuration.learners)
        return draft.finish(auto_leave=state.auto_leave)

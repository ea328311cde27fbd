"""Majorities and pairs of majorities (dissertation sections 3.3 and 4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

INFINITE_INDEX: Final = (1 << 64) - 1
"""What a majority of nobody has agreed on: everything."""


class VoteResult(IntEnum):
    """The state of an election."""

    PENDING = 1
    LOST = 2
    WON = 3


@dataclass(frozen=True, slots=True)
class MajorityConfig:
    """A set of voters that decides by majority; an empty set agrees to everything."""

    ids: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return f"({' '.join(str(voter) for voter in sorted(self.ids))})"

    def committed_index(self, acked: Mapping[int, int]) -> int:
        """Return the largest index that a majority has acknowledged; absent voters count 0."""
        count = len(self.ids)
        if not count:
            return INFINITE_INDEX
        indexes = sorted(acked.get(voter, 0) for voter in self.ids)
        return indexes[count - (count // 2 + 1)]

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Return the state of an election; a voter absent from ``votes`` has not answered."""
        count = len(self.ids)
        if not count:
            return VoteResult.WON
        granted = missing = 0
        for voter in self.ids:
            vote = votes.get(voter)
            if vote is None:
                missing += 1
            elif vote:
                granted += 1
        needed = count // 2 + 1
        if granted >= needed:
            return VoteResult.WON
        return VoteResult.PENDING if granted + missing >= needed else VoteResult.LOST


@dataclass(frozen=True, slots=True)
class JointConfig:
    """Voters that decide by majority, and during a transition also by the old majority."""

    incoming: MajorityConfig = MajorityConfig()
    outgoing: MajorityConfig = MajorityConfig()

    def __str__(self) -> str:
        if self.outgoing.ids:
            return f"{self.incoming}&&{self.outgoing}"
        return str(self.incoming)

    @staticmethod
    def of(incoming: Iterable[int], outgoing: Iterable[int] = ()) -> JointConfig:
        """Return the configuration with these two halves."""
        return JointConfig(MajorityConfig(frozenset(incoming)), MajorityConfig(frozenset(outgoing)))

    @property
    def ids(self) -> frozenset[int]:
        """All voters of both halves."""
        return self.incoming.ids | self.outgoing.ids

    @property
    def is_joint(self) -> bool:
        """Whether two majorities must agree."""
        return bool(self.outgoing.ids)

    @property
    def is_singleton(self) -> bool:
        """Whether one voter decides alone."""
        return len(self.incoming.ids) == 1 and not self.outgoing.ids

    def committed_index(self, acked: Mapping[int, int]) -> int:
        """Return the largest index that both majorities have acknowledged."""
        if not self.outgoing.ids:
            return self.incoming.committed_index(acked)
        return min(self.incoming.committed_index(acked), self.outgoing.committed_index(acked))

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Return the state of an election: won only if both halves are, lost if either is."""
        one, two = self.incoming.vote_result(votes), self.outgoing.vote_result(votes)
        if one is two:
            return one
        return VoteResult.LOST if VoteResult.LOST in (one, two) else VoteResult.PENDING

"""What must hold of Raft at every step, judged from what members send and apply."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from dqlite_py.raft import (
    ConfChangeV2,
    Entry,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    RawNode,
    decode_conf_change,
)
from tests.simulation.coverage import Coverage

_LEADERS_OWN = frozenset({MessageKind.APP, MessageKind.HEARTBEAT, MessageKind.SNAP})
_COMPARED_AT_ELECTION = 64


class Violation(AssertionError):
    """An invariant does not hold."""


def require(holds: bool, text: str) -> None:
    if not holds:
        raise Violation(text)


@dataclass(frozen=True, slots=True)
class Content:
    """An entry by its term, kind and checksum."""

    term: int
    kind: EntryKind
    checksum: int


def content_of(entry: Entry) -> Content:
    return Content(entry.term, entry.kind, zlib.crc32(entry.data))


@dataclass(slots=True)
class Promise:
    """What a member has told others is on its disk."""

    term: int = 0
    vote: int = 0
    last_term: int = 0
    last_index: int = 0


class Consensus:
    """Sees every message that leaves a member and every entry that one applies."""

    def __init__(self, coverage: Coverage) -> None:
        self.coverage = coverage
        self.leaders: dict[int, int] = {}  # by term
        self.committed: dict[int, Content] = {}  # by index
        self.last_committed = 0
        self.newest_term = 0
        self._last_leader = 0
        self._appended: dict[tuple[int, int], tuple[Content, int]] = {}  # (index, term)
        self._promises: dict[int, Promise] = {}

    # --- election safety, leader completeness ----------------------------------------------------
    def leads(self, member_id: int, raw: RawNode) -> None:
        """A member takes itself for the leader of its term."""
        known = self.leaders.get(raw.term)
        require(
            known in (None, member_id),
            f"term {raw.term} has two leaders: {known} and {member_id}",
        )
        if known is None:
            self._elected(member_id, raw)

    def _elected(self, member_id: int, raw: RawNode) -> None:
        self.leaders[raw.term] = member_id
        self.coverage.hit("elections")
        if self._last_leader not in (0, member_id):
            self.coverage.hit("leader changes")
        self._last_leader = member_id
        # An old leader may hear of its own election late; then later terms may have committed.
        if raw.term < self.newest_term:
            return
        self.newest_term = raw.term
        log = raw.raft.log
        last = self.last_committed
        require(
            log.last_index() >= last,
            f"{member_id} leads term {raw.term} with a log up to {log.last_index()}, "
            f"but {last} is committed",
        )
        for index in range(max(log.first_index(), last - _COMPARED_AT_ELECTION), last + 1):
            require(
                log.term(index) == self.committed[index].term,
                f"{member_id} leads term {raw.term} with another entry {index} than committed",
            )

    # --- log matching, durability of promises ----------------------------------------------------
    def sent(self, member_id: int, message: Message, raw: RawNode) -> None:
        """``message`` leaves the member."""
        if message.kind in _LEADERS_OWN:
            if message.term == raw.term:
                self.leads(member_id, raw)
            known = self.leaders.get(message.term)
            require(known == member_id, f"{member_id} sends as leader of term {message.term}")
            self._check_chain(message)
        elif message.kind is MessageKind.APP_RESP and not message.reject:
            self._promised_entries(member_id, message, raw)
        elif message.kind is MessageKind.VOTE_RESP and not message.reject:
            promise = self._promise(member_id, message.term)
            require(
                promise.vote in (0, message.to),
                f"{member_id} votes twice in term {message.term}",
            )
            promise.vote = message.to

    def _check_chain(self, message: Message) -> None:
        """(index, term) names one entry with one predecessor, hence one whole prefix."""
        before = message.log_term
        for entry in message.entries:
            found = (content_of(entry), before)
            known = self._appended.setdefault((entry.index, entry.term), found)
            require(
                known == found,
                f"two entries at index {entry.index} of term {entry.term}: {known} and {found}",
            )
            before = entry.term

    def _promise(self, member_id: int, term: int) -> Promise:
        promise = self._promises.setdefault(member_id, Promise())
        if term > promise.term:
            promise.term, promise.vote = term, 0
        return promise

    def _promised_entries(self, member_id: int, message: Message, raw: RawNode) -> None:
        promise = self._promise(member_id, message.term)
        log_term = raw.raft.log.term_or_zero(message.index)
        if (log_term, message.index) > (promise.last_term, promise.last_index):
            promise.last_term, promise.last_index = log_term, message.index

    def restarted(self, member_id: int, state: HardState, last_term: int, last_index: int) -> None:
        """A member came up with this on its disk."""
        promise = self._promises.get(member_id)
        if promise is None:
            return
        require(
            state.term >= promise.term,
            f"{member_id} answered in term {promise.term} and came up in term {state.term}",
        )
        if state.term == promise.term and promise.vote:
            require(
                state.vote == promise.vote,
                f"{member_id} voted for {promise.vote} in term {state.term}, "
                f"but its disk says {state.vote}",
            )
        require(
            (last_term, last_index) >= (promise.last_term, promise.last_index),
            f"{member_id} acknowledged {promise.last_index} of term {promise.last_term} and came "
            f"up with {last_index} of term {last_term}",
        )

    # --- state machine safety --------------------------------------------------------------------
    def applies(self, member_id: int, entries: Sequence[Entry]) -> None:
        """The member is about to apply ``entries`` as committed."""
        for entry in entries:
            found = content_of(entry)
            known = self.committed.get(entry.index)
            if known is None:
                self._committed(entry, found)
            else:
                require(
                    known == found,
                    f"{member_id} applies {found} at {entry.index}, others {known}",
                )

    def _committed(self, entry: Entry, found: Content) -> None:
        self.committed[entry.index] = found
        self.last_committed = max(self.last_committed, entry.index)
        if entry.kind is EntryKind.NORMAL:
            return
        self.coverage.hit("membership changes")
        change = decode_conf_change(entry)
        if isinstance(change, ConfChangeV2) and change.enters_joint:
            self.coverage.hit("joint changes")

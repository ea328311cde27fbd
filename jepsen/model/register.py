"""One key as a register with compare-and-swap, without and with etcd's revisions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from jepsen.history import INFO, Operation


@dataclass(frozen=True, slots=True)
class Call:
    """An operation as a model sees it.

    ``rank`` is the place in the order of revisions, if the answer tells it. ``returns`` is
    false if the outcome is unknown. A call that ``observes`` changes the state in no case. Calls
    with equal ``twin`` do the same.
    """

    operation: Operation
    f: str
    request: Any
    answer: Any
    revision: int | None
    rank: int | None
    returns: bool
    observes: bool
    twin: Hashable


class Model(Protocol):
    """A sequential specification: states are hashable values."""

    def initial(self) -> Hashable:
        """Return the state before the first operation."""

    def call(self, operation: Operation) -> Call | None:
        """Return the call of an operation; None if the operation says nothing."""

    def step(self, state: Any, call: Call) -> Hashable | None:
        """Return the state after a call; None if the call could not answer so in this state.

        The initial state must not be None, and a call of unknown outcome that would change
        nothing returns None too: trying it is useless.
        """


def read_rank(revision: int | None) -> int | None:
    """Return the rank of a read at a revision: after the write that made the revision."""
    return None if revision is None else 2 * revision + 1


def write_rank(revision: int | None) -> int | None:
    """Return the rank of the write that made a revision."""
    return None if revision is None else 2 * revision


def register_call(operation: Operation) -> Call | None:
    """Return a register operation as a call; None for reads that may be stale or unanswered."""
    unknown = operation.type == INFO
    if operation.f == "read" and (unknown or operation.serializable):
        return None
    revision = operation.revision
    changed = operation.f != "read" and bool(operation.extra.get("succeeded", True))
    return Call(
        operation=operation,
        f=operation.f,
        request=operation.request,
        answer=operation.answer,
        revision=revision,
        rank=write_rank(revision) if changed else read_rank(revision),
        returns=not unknown,
        observes=not changed,
        twin=(operation.f, str(operation.request)),
    )


class Register:
    """A register of which only the values are known; the state is (value,)."""

    def initial(self) -> Hashable:
        """Return the state of a key that was never written."""
        return (None,)

    def call(self, operation: Operation) -> Call | None:
        """Return the call of an operation; None if the operation says nothing."""
        return register_call(operation)

    def step(self, state: tuple[Any], call: Call) -> Hashable | None:
        """Return the state after a call; None if it is impossible."""
        (value,) = state
        if call.f == "read":
            return state if call.answer == value else None
        if call.f == "write":
            return (call.request,)
        old, new = call.request
        if call.returns and not call.operation.extra.get("succeeded", True):
            return state if value != old else None
        return (new,) if value == old else None


@dataclass(frozen=True, slots=True)
class Versioned:
    """A key: its value, its mod revision (or the least it can be), and the store's revision."""

    value: Any
    mod: int
    exact: bool
    seen: int


class RevisionRegister:
    """A key of etcd: each answer tells the revision of the store at that moment.

    A write takes a revision above all that were seen before; a read or a failed swap answers at
    a revision not below them, and its ``mod_revision`` names the write that it saw.
    """

    def initial(self) -> Hashable:
        """Return the state of a key that was never written."""
        return Versioned(None, 0, True, 0)

    def call(self, operation: Operation) -> Call | None:
        """Return the call of an operation; None if the operation says nothing."""
        return register_call(operation)

    def step(self, state: Versioned, call: Call) -> Hashable | None:
        """Return the state after a call; None if it is impossible."""
        if call.f == "read":
            return self._observe(state, call) if call.answer == state.value else None
        if call.f == "write":
            return self._write(state, call, call.request)
        old, new = call.request
        if call.returns and not call.operation.extra.get("succeeded", True):
            return self._observe(state, call) if state.value != old else None
        return self._write(state, call, new) if state.value == old else None

    def _write(self, state: Versioned, call: Call, value: Any) -> Versioned | None:
        least = _least_revision(state)
        if call.revision is None:
            # A write that forgets the value forgets how many unknown ones were before it as
            # well: otherwise states that behave alike would be kept apart.
            before = least if call.f == "cas" else state.seen
            return Versioned(value, before + 1, False, state.seen)
        if call.revision <= least:
            return None
        extra = call.operation.extra
        if "prev" in extra and not _shows(extra["prev"], state):
            return None
        return Versioned(value, call.revision, True, call.revision)

    def _observe(self, state: Versioned, call: Call) -> Versioned | None:
        least = _least_revision(state)
        revision = least if call.revision is None else call.revision
        if revision < least:
            return None
        mod = call.operation.extra.get("mod_revision")
        if mod is None:
            return Versioned(state.value, state.mod, state.exact, revision)
        if mod > revision or (mod != state.mod if state.exact else mod < state.mod):
            return None
        return Versioned(state.value, mod, True, revision)


def _least_revision(state: Versioned) -> int:
    """Return the least revision that the store can be at."""
    return max(state.seen, state.mod)


def _shows(pair: Any, state: Versioned) -> bool:
    """Return whether a previous pair in an answer is what the state holds."""
    if pair is None:
        return state.value is None
    mod = pair["mod_revision"]
    agrees = mod == state.mod if state.exact else mod >= state.mod
    return bool(agrees and pair["value"] == state.value)

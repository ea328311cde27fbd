"""The membership of a cluster as a set."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from jepsen.history import INFO, Operation
from jepsen.model.register import Call

Members = frozenset[tuple[str, bool]]


class Membership:
    """The state is the set of (peer, learner); peers that are added are named by the client."""

    def __init__(self, initial: Iterable[tuple[str, bool]]) -> None:
        self._initial: Members = frozenset(initial)

    def initial(self) -> Hashable:
        """Return the members before the first operation."""
        return self._initial

    def call(self, operation: Operation) -> Call | None:
        """Return the call of an operation; None if the operation says nothing."""
        unknown = operation.type == INFO
        if operation.f == "list" and (unknown or operation.serializable):
            return None
        return Call(
            operation=operation,
            f=operation.f,
            request=operation.request,
            answer=operation.answer,
            revision=None,
            rank=None,
            returns=not unknown,
            observes=operation.f == "list",
            twin=(operation.f, str(operation.request)),
        )

    def step(self, state: Members, call: Call) -> Hashable | None:
        """Return the members after a call; None if it is impossible."""
        if call.f == "list":
            listed = frozenset((member["peer"], bool(member["learner"])) for member in call.answer)
            return state if listed == state else None
        peer = call.request["peer"]
        if call.f == "add":
            added = (peer, bool(call.request.get("learner")))
            known = any(name == peer for name, _ in state)
            return None if known else state | {added}
        if call.f == "remove":
            left = frozenset(member for member in state if member[0] != peer)
            return left if left != state else None
        return (state - {(peer, True)}) | {(peer, False)} if (peer, True) in state else None

"""Linearizability by search: Wing and Gong's algorithm with just-in-time linearization.

A configuration is a state of the model together with the open calls that took effect already.
Configurations are extended only when a call returns, and only until that call has taken effect
(Lowe, "Testing for linearizability", 2017). Equal configurations are met once, and three rules
keep their number small without losing an answer:

- a call that only observes takes effect as soon as the state agrees with its answer;
- if answers carry revisions, calls take effect in the order of revisions, so that only calls of
  unknown outcome are left to choose from;
- of two configurations that differ only in calls of unknown outcome, the one that used fewer of
  them can do all that the other can.

A first pass keeps only the few configurations that used the fewest unknown calls. If it gets
through, the history is linearizable; only if it does not, all of them are kept.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from jepsen.checkers.realtime import check_order, told_revisions
from jepsen.checkers.result import Deadline, Result, by_key, describe
from jepsen.checkers.stale_reads import check_stale_registers
from jepsen.history import NEVER, Operation
from jepsen.model.members import Membership
from jepsen.model.register import Call, Model, Register, RevisionRegister

MAX_CONFIGURATIONS = 200_000
FIRST_PASS_CONFIGURATIONS = 32
FIRST_PASS_ALTERNATIVES = 4
SHOWN_CONTEXT = 4

Configuration = tuple[Hashable, int, int]
"""State, bits of the open calls that took effect and will return, bits of those that will not."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """The search ended: no order of the calls explains the answer of ``call``."""

    call: Call
    states: tuple[Hashable, ...]
    open_calls: tuple[Call, ...]


class Undecided(Exception):
    """Time or memory ran out before the search ended."""


class Search:
    """The search over the calls of one partition."""

    def __init__(self, model: Model, deadline: Deadline, *, kept: int | None = None) -> None:
        self._model = model
        self._deadline = deadline
        self._kept = kept
        self.forgot = False
        self._open: dict[int, Call] = {}
        self._free: list[int] = []
        self._slots = 0
        self.configurations: set[Configuration] = {(model.initial(), 0, 0)}
        self.met = 0

    def run(self, calls: Sequence[Call]) -> Stuck | None:
        """Return where the search got stuck; None if the calls are linearizable.

        Raises Undecided.
        """
        moments: list[tuple[int, bool, int]] = []
        for number, call in enumerate(calls):
            moments.append((call.operation.start, False, number))
            if call.operation.end != NEVER:
                moments.append((call.operation.end, True, number))
        slots: dict[int, int] = {}
        for _, returns, number in sorted(moments):
            if not returns:
                slots[number] = self._invoke(calls[number])
            elif not self._return(slots.pop(number)):
                return self._stuck
        return None

    def _invoke(self, call: Call) -> int:
        if self._free:
            slot = self._free.pop()
        else:
            slot = self._slots
            self._slots += 1
        self._open[slot] = call
        return slot

    def _return(self, slot: int) -> bool:
        if self._deadline.passed():
            raise Undecided(f"no answer within {self._deadline.time_limit_s} s")
        before = self.configurations
        self.configurations = self._extend(before, slot)
        if self._kept is not None and len(self.configurations) > self._kept:
            self.forgot = True
            fewest = sorted(self.configurations, key=unknown_calls_used)[: self._kept]
            self.configurations = set(fewest)
        call = self._open.pop(slot)
        if not self.configurations:
            states = tuple({state: None for state, _, _ in before})[:SHOWN_CONTEXT]
            self._stuck = Stuck(call, states, tuple(self._open.values()))
        self._free.append(slot)
        return bool(self.configurations)

    def _extend(self, start: Iterable[Configuration], slot: int) -> set[Configuration]:
        """Return all configurations in which the call of ``slot`` has just been retired."""
        bit = 1 << slot
        reached = Frontier(self._kept and FIRST_PASS_ALTERNATIVES)
        finished = Frontier(None)
        queue: deque[Configuration] = deque()
        # Fewer unknown calls first: what comes later is then often dominated.
        for configuration in sorted(start, key=unknown_calls_used):
            settled = self._settle(configuration)
            if reached.add(settled):
                queue.append(settled)
        while queue:
            state, done, maybe = queue.popleft()
            if done & bit:
                finished.add((state, done & ~bit, maybe))
                continue
            for after in self._successors(state, done, maybe):
                settled = self._settle(after)
                if reached.add(settled):
                    queue.append(settled)
            if reached.size > MAX_CONFIGURATIONS or self._deadline.passed():
                raise Undecided(f"{reached.size} configurations at one answer")
        self.met += reached.size
        self.forgot |= reached.forgot
        return finished.all()

    def _successors(self, state: Hashable, done: int, maybe: int) -> Iterable[Configuration]:
        first = self._next_ranked(done)
        twins: set[Hashable] = set()
        for slot, call in self._open.items():
            bit = 1 << slot
            if (done | maybe) & bit:
                continue
            if call.returns:
                if call.rank is not None and slot != first:
                    continue
            elif call.twin in twins:
                continue
            else:
                twins.add(call.twin)
            after = self._model.step(state, call)
            if after is not None:
                yield (after, done | bit, maybe) if call.returns else (after, done, maybe | bit)

    def _next_ranked(self, done: int) -> int | None:
        """Return the slot of the call that comes next in the order of revisions."""
        waiting = [
            (call.rank, slot)
            for slot, call in self._open.items()
            if call.rank is not None and not done & (1 << slot)
        ]
        return min(waiting)[1] if waiting else None

    def _settle(self, configuration: Configuration) -> Configuration:
        """Let every observation take effect that the state agrees with: waiting gains nothing."""
        state, done, maybe = configuration
        for slot, call in self._open.items():
            bit = 1 << slot
            if call.observes and not done & bit and self._model.step(state, call) == state:
                done |= bit
        return state, done, maybe


def unknown_calls_used(configuration: Configuration) -> int:
    """Return how many calls of unknown outcome took effect."""
    return configuration[2].bit_count()


class Frontier:
    """Configurations, without those that another one dominates."""

    def __init__(self, alternatives: int | None) -> None:
        self._least: dict[tuple[Hashable, int], list[int]] = {}
        self._alternatives = alternatives
        self.size = 0
        self.forgot = False

    def add(self, configuration: Configuration) -> bool:
        """Add a configuration; returns whether it brings anything new."""
        state, done, maybe = configuration
        known = self._least.setdefault((state, done), [])
        if any(other & maybe == other for other in known):
            return False
        if self._alternatives is not None and len(known) >= self._alternatives:
            self.forgot = True
            return False
        known.append(maybe)
        self.size += 1
        return True

    def all(self) -> set[Configuration]:
        """Return the configurations that no other one dominates."""
        kept: set[Configuration] = set()
        for (state, done), masks in self._least.items():
            for mask in masks:
                if not any(other != mask and other & mask == other for other in masks):
                    kept.add((state, done, mask))
        return kept


def check_partitions(
    name: str,
    partitions: Iterable[tuple[str, Sequence[Operation]]],
    model_for: Callable[[Sequence[Operation]], Model],
    time_limit_s: float,
) -> Result:
    """Check every partition against its own model; the time limit is for all of them."""
    result = Result(name)
    began_s = time.monotonic()
    deadline = Deadline(time_limit_s)
    met = 0
    for key, operations in partitions:
        happened = [operation for operation in operations if operation.may_have_happened]
        model = model_for(happened)
        calls = [call for operation in happened if (call := model.call(operation)) is not None]
        result.operations += len(calls)
        search = Search(model, deadline, kept=FIRST_PASS_CONFIGURATIONS)
        try:
            stuck = search.run(calls)
            if stuck is not None and search.forgot:
                search = Search(model, deadline)
                stuck = search.run(calls)
        except Undecided as reason:
            result.undecided = f"{key}: {reason}"
            if deadline.passed():
                break
            continue
        met += search.met
        if stuck is not None:
            _report(result, key, stuck, calls)
    result.stats["configurations"] = met
    result.seconds = time.monotonic() - began_s
    return result


def _report(result: Result, key: str, stuck: Stuck, calls: Sequence[Call]) -> None:
    culprit = stuck.call.operation
    past = [call.operation for call in calls if call.operation.end < culprit.end]
    context = sorted(past, key=lambda operation: operation.end)[-SHOWN_CONTEXT:]
    states = ", ".join(str(state) for state in stuck.states)
    result.add(
        "not linearizable",
        f"{describe(culprit)}: no order explains it; possible states of {key!r} before: {states}",
        culprit,
        *context,
        *(call.operation for call in stuck.open_calls if call.returns),
    )


def check_registers(operations: Sequence[Operation], *, time_limit_s: float = 60.0) -> Result:
    """Check a register workload, key by key.

    Revisions are used where every answer has one. Serializable reads have no part in the search:
    they are held to the revision that they name. Revisions are the store's, not the key's, so
    their order is held against real time across keys too.
    """

    def model_for(group: Sequence[Operation]) -> Model:
        answered = [operation for operation in group if operation.is_ok]
        if all(operation.revision is not None for operation in answered):
            return RevisionRegister()
        return Register()

    groups = by_key(operations).items()
    result = check_partitions("linearizable", groups, model_for, time_limit_s)
    check_stale_registers(result, operations)
    check_order(result, ((each, changed(each)) for each in told_revisions(operations)))
    return result


def changed(operation: Operation) -> bool:
    """Return whether an answered operation of a register or a set wrote."""
    return operation.f != "read" and bool(operation.extra.get("succeeded", True))


def check_membership(operations: Sequence[Operation], *, time_limit_s: float = 60.0) -> Result:
    """Check that changes and lists of members are linearizable.

    The members at the start are those of the first list that was answered before any change
    was asked for; without one the result is undecided.
    """
    first = next((each for each in operations if each.is_ok and each.f == "list"), None)
    if first is None or any(each.f != "list" and each.start < first.end for each in operations):
        return Result("membership", undecided="no list of members before the first change")
    initial = [(member["peer"], bool(member["learner"])) for member in first.answer]
    told = without_unseen(operations)
    return check_partitions(
        "membership", [("members", told)], lambda _: Membership(initial), time_limit_s
    )


def without_unseen(operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations without changes of unknown outcome to members that nobody ever saw.

    If no answered list shows a member and no answered change names it, every change of it has an
    unknown outcome, and from an order that explains the history all of them can be taken out: the
    lists between them would have shown it. So this loses no order, and the search need not try
    when they might have happened.
    """
    seen: set[str] = set()
    for each in operations:
        if each.is_ok and each.f == "list":
            seen |= {member["peer"] for member in each.answer}
        elif each.is_ok:
            seen.add(each.request["peer"])
    return [each for each in operations if each.f == "list" or each.request["peer"] in seen]

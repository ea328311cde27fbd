"""Strict serializability of the whole store, by replaying it in the order of its revisions.

etcd answers with the revision of the store, and each write makes one: the answers name the only
order in which the operations can have happened. So the check is exact: the operations are
replayed in that order against the model, every response is compared in full, and the order is
held against real time. A revision that no answer names was made by a request of unknown outcome;
which one is searched for among those that were asked early enough and agree with every pair that
anybody saw (see evidence.py).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jepsen.checkers.evidence import Evidence, collect
from jepsen.checkers.realtime import Floor, check_order
from jepsen.checkers.result import Deadline, Result, brief, describe
from jepsen.history import Operation
from jepsen.model.store import FIRST_REVISION, Store, Txn, same_response, txn_of

KV = frozenset({"txn", "put", "range", "delete", "compact"})
MAX_STEPS = 2_000_000


@dataclass(slots=True)
class Failure:
    """Why the replay could not go on."""

    revision: int
    kind: str
    message: str
    operations: tuple[Operation, ...]


@dataclass(slots=True)
class Request:
    """An operation with its request in general form."""

    operation: Operation
    txn: Txn

    @property
    def wrote(self) -> bool:
        """Whether the answer says that the store was changed."""
        answer = self.operation.answer
        if not answer or not self.txn.may_write:
            return False
        ops = self.txn.success if answer.get("succeeded", True) else self.txn.failure
        return any(
            op["op"] == "put" or (op["op"] == "delete" and response["deleted"] > 0)
            for op, response in zip(ops, answer["responses"], strict=False)
        )


class Replay:
    """The replay of one history; afterwards ``store`` holds all revisions that it explained."""

    def __init__(self, operations: Sequence[Operation], *, time_limit_s: float = 60.0) -> None:
        self._began_s = time.monotonic()
        self.result = Result("whole store")
        self.store = Store()
        self.writers: dict[int, Operation] = {}
        self.complete = False
        self._deadline = Deadline(time_limit_s)
        self._steps = 0
        self._failure: Failure | None = None
        self._writes: dict[int, Request] = {}
        self._reads: dict[int, list[Request]] = {}
        self._unknown: list[Request] = []
        self._used: set[int] = set()
        self._pinned: dict[int, Request] = {}
        self._evidence: Evidence = collect(operations)
        self._floor: Floor = self._sort(operations)
        self._target = max(
            (FIRST_REVISION, self._evidence.last_revision, *self._writes, *self._reads)
        )
        self._shown = _earliest_shown(operations, self._target)
        self._pin(operations)

    def run(self) -> Result:
        """Replay everything and return the verdict."""
        self._replay()
        result = self.result
        result.stats.update(
            revisions=self.store.revision,
            inferred_writes=len(self._used),
            unknown_writes=len(self._unknown),
            steps=self._steps,
        )
        if self.complete:
            self._check_stale_reads()
        elif self._failure is not None:
            failure = self._failure
            if result.undecided is None:
                result.add(failure.kind, failure.message, *failure.operations)
            else:
                result.undecided += f"; the furthest replay ended so: {failure.message}"
        result.seconds = time.monotonic() - self._began_s
        return result

    def _sort(self, operations: Sequence[Operation]) -> Floor:
        """Put every operation where the replay will look for it; checks the order of time."""
        ordered: list[tuple[Operation, bool]] = []
        for operation in operations:
            if operation.f not in KV or not operation.may_have_happened:
                continue
            request = Request(operation, txn_of(operation))
            if not operation.is_ok:
                if request.txn.may_write:
                    self._unknown.append(request)
                continue
            self.result.operations += 1
            if operation.revision is None:
                self.result.add("no revision", describe(operation), operation)
                continue
            wrote = request.wrote
            if operation.revision < FIRST_REVISION + wrote:
                self.result.add("impossible revision", describe(operation), operation)
            if not operation.serializable:
                ordered.append((operation, wrote))
            if wrote:
                self._writes.setdefault(operation.revision, request)
            elif operation.f != "compact":
                self._reads.setdefault(operation.revision, []).append(request)
        return check_order(self.result, ordered)

    def _pin(self, operations: Sequence[Operation]) -> None:
        """Tie an unknown write to a revision if nobody else can have written what was seen."""
        putters: dict[tuple[str, str], list[Request]] = {}
        for request in self._unknown:
            for op in (*request.txn.success, *request.txn.failure):
                if op["op"] == "put":
                    putters.setdefault((op["key"], op["value"]), []).append(request)
        for revision, pairs in self._evidence.puts.items():
            if revision in self._writes:
                continue
            for pair in pairs.values():
                found = putters.get((pair.key, pair.value), [])
                if len(found) == 1:
                    self._pinned[revision] = found[0]
        self._reserved = {request.operation.start for request in self._pinned.values()}
        self._failed = [
            Request(operation, txn_of(operation))
            for operation in operations
            if operation.f in KV and operation.type == "fail"
        ]

    def _replay(self) -> None:
        if not self._reads_agree(FIRST_REVISION):
            return
        choices: list[tuple[Iterator[Request], int | None]] = []
        options = self._options(FIRST_REVISION + 1)
        while self.store.revision < self._target:
            revision = FIRST_REVISION + len(choices) + 1
            request = next((each for each in options if self._take(each, revision)), None)
            if request is not None:
                start = request.operation.start
                guessed = None if revision in self._writes else start
                if guessed is not None:
                    self._used.add(guessed)
                self.writers[revision] = request.operation
                choices.append((options, guessed))
                options = self._options(revision + 1)
                continue
            if self.result.undecided is not None or not choices:
                return
            options, guessed = choices.pop()
            self.store.undo(revision - 1)
            if guessed is not None:
                self._used.discard(guessed)
        self.complete = True

    def _options(self, revision: int) -> Iterator[Request]:
        """Yield the writes that may have made a revision, the likeliest first."""
        known = self._writes.get(revision)
        if known is not None:
            yield known
            return
        pinned = self._pinned.get(revision)
        if pinned is not None:
            if pinned.operation.start not in self._used:
                yield pinned
        else:
            yield from self._guesses(revision)
        if self._failure is None or self._failure.revision < revision:
            self._nobody(revision)

    def _guesses(self, revision: int) -> Iterator[Request]:
        tried: set[tuple[tuple[str, str | None], ...]] = set()
        for request in reversed(self._unknown):
            start = request.operation.start
            if start in self._used or start in self._reserved:
                continue
            shown = self._shown[revision]
            if shown is not None and start > shown.end:
                continue
            if self._floor.before(start)[0] >= 2 * revision:
                continue
            _, _, changes = self.store.apply(request.txn, revision)
            self.store.undo(revision)
            effect = tuple(
                (change.key, None if change.after is None else change.after.value)
                for change in changes
            )
            # Unknown writes with the same effect here can stand for each other later.
            if changes and effect not in tried:
                tried.add(effect)
                yield request

    def _nobody(self, revision: int) -> None:
        seen = self._evidence.puts.get(revision, {})
        kind = "a revision nobody wrote"
        culprits: list[Operation] = []
        for request in self._failed:
            for op in (*request.txn.success, *request.txn.failure):
                pair = seen.get(op["key"])
                if op["op"] == "put" and pair is not None and pair.value == op["value"]:
                    kind = "aborted write"
                    culprits.append(request.operation)
        teller = self._shown[revision]
        if teller is not None:
            culprits.append(teller)
        shown = brief(list(seen.values()))
        self._fail(revision, kind, f"no request explains revision {revision}: {shown}", *culprits)

    def _take(self, request: Request, revision: int) -> bool:
        """Apply a write as a revision, unless something contradicts it."""
        if self.result.undecided is not None:
            return False
        self._steps += 1
        if self._steps > MAX_STEPS or (self._steps % 64 == 0 and self._deadline.passed()):
            self.result.undecided = f"{self._steps} steps did not decide who wrote what"
            return False
        operation = request.operation
        held, responses, changes = self.store.apply(request.txn, revision)
        if not changes:
            self._fail(revision, "wrong response", f"changes nothing: {describe(operation)}")
            return False
        if operation.is_ok and not self._response_agrees(request, held, responses, revision):
            self.store.undo(revision)
            return False
        if not operation.is_ok and not all(
            self._evidence.allows_write(change.key, revision) for change in changes
        ):
            self.store.undo(revision)
            return False
        if not self._evidence_agrees(revision, operation) or not self._reads_agree(revision):
            self.store.undo(revision)
            return False
        return True

    def _response_agrees(
        self, request: Request, held: bool, responses: Sequence[dict[str, object]], revision: int
    ) -> bool:
        operation = request.operation
        answer = operation.answer
        ops = request.txn.success if held else request.txn.failure
        given = answer.get("responses", ())
        if (
            answer.get("succeeded", True) == held
            and len(given) == len(ops)
            and all(map(same_response, ops, responses, given))
        ):
            return True
        expected = brief(responses) if answer.get("succeeded", True) == held else f"held: {held}"
        message = f"{brief(describe(operation), 600)}; the model answers {expected}"
        around = [self.writers[each] for each in (revision, revision - 1) if each in self.writers]
        self._fail(revision, "wrong response", message, operation, *around)
        return False

    def _evidence_agrees(self, revision: int, writer: Operation) -> bool:
        for pair in self._evidence.puts.get(revision, {}).values():
            mine = self.store.get(pair.key)
            if mine != pair:
                message = f"revision {revision} was seen as {pair}, the model has {mine}"
                self._fail(revision, "wrong pair", message, writer)
                return False
        for key in self._evidence.deletes.get(revision, ()):
            if self.store.get(key) is not None:
                message = f"{key!r} was seen deleted at {revision}, the model has it"
                self._fail(revision, "wrong pair", message, writer)
                return False
        return True

    def _reads_agree(self, revision: int) -> bool:
        """Return whether the reads answered at the newest revision are what the model answers."""
        for request in self._reads.get(revision, ()):
            held, responses, changes = self.store.apply(request.txn, revision + 1)
            if changes:
                self.store.undo(revision + 1)
            if not self._response_agrees(request, held, responses, revision):
                return False
        return True

    def _fail(self, revision: int, kind: str, message: str, *operations: Operation) -> None:
        """Keep the furthest reason for which a replay ended."""
        if self._failure is None or revision >= self._failure.revision:
            self._failure = Failure(revision, kind, message, operations)

    def _check_stale_reads(self) -> None:
        """A read may be old, but it cannot show what had not been asked for when it ended."""
        for revision, requests in self._reads.items():
            writer = self.writers.get(revision)
            for request in requests:
                if writer is not None and writer.start > request.operation.end:
                    message = f"{describe(request.operation)} shows the later {describe(writer)}"
                    self.result.add("read from the future", message, request.operation, writer)


def _earliest_shown(operations: Sequence[Operation], target: int) -> list[Operation | None]:
    """Return, by revision, the answer that was the first to tell of it or of a later one.

    Serializable reads count: what they show was asked for before they ended.
    """
    shown: list[Operation | None] = [None] * (target + 2)
    for operation in operations:
        revision = operation.revision
        if operation.f in KV and operation.is_ok and revision is not None and revision > 0:
            at = min(revision, target)
            shown[at] = _earlier(shown[at], operation)
    for revision in range(target, -1, -1):
        shown[revision] = _earlier(shown[revision], shown[revision + 1])
    return shown


def _earlier(one: Operation | None, other: Operation | None) -> Operation | None:
    if one is None or (other is not None and other.end < one.end):
        return other
    return one


def check_store(operations: Sequence[Operation], *, time_limit_s: float = 60.0) -> Result:
    """Check all kv operations of a history together.

    The store must be empty at its first revision when the history begins, and every write must
    be in the history. Watches in the history are used as evidence.
    """
    return Replay(operations, time_limit_s=time_limit_s).run()

"""Locks as fencing: what is promised is that an old holder's guarded writes are refused.

Two clients may both believe that they hold a lock, because one was paused; this is counted and
is no violation. A write guarded by the holder's token is another matter: in the order of
revisions tokens never go back, and none takes effect after its lock was given up or passed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jepsen.checkers.result import Result, by_key, describe, ended_before, overlap
from jepsen.history import NEVER, Operation


def check_locks(operations: Sequence[Operation]) -> Result:
    """Check every lock of a lock workload."""
    result = Result("lock")
    result.operations = sum(1 for each in operations if each.is_ok)
    acquired = by_key(each for each in operations if each.f == "acquire" and each.is_ok)
    writes: dict[str, list[Operation]] = {}
    for each in operations:
        if each.f == "fenced" and each.is_ok and each.extra.get("succeeded", True):
            writes.setdefault(each.request["lock"], []).append(each)
    released = {_token(each): each for each in operations if each.f == "release" and each.is_ok}
    for lock, holders in acquired.items():
        _check_tokens(result, holders)
        _check_holds(result, holders, released)
        for write in writes.get(lock, ()):
            _check_write(result, write, holders, released)
        _check_write_order(result, writes.get(lock, []))
    return result


def _token(operation: Operation) -> tuple[str, int]:
    value = operation.request or {}
    if "token" not in value:
        value = operation.answer
    return value["lock_key"], value["token"]


def _check_tokens(result: Result, holders: Sequence[Operation]) -> None:
    owners: dict[int, Operation] = {}
    for holder in holders:
        other = owners.setdefault(holder.answer["token"], holder)
        if other.process != holder.process:
            text = f"{describe(other)} and {describe(holder)}"
            result.add("one token for two holders", text, other, holder)


def _check_holds(
    result: Result, holders: Sequence[Operation], released: dict[tuple[str, int], Operation]
) -> None:
    """Count believed holds that overlap, and find holds out of turn.

    The oldest key owns the lock, so a holder's token is older than that of every later one.
    """
    ordered = sorted(holders, key=lambda holder: holder.end)
    for one, other in pairwise(ordered):
        release = released.get(_token(one))
        until = NEVER if release is None else release.start
        if other.end < until and not overlap(one, other):
            result.stats["overlapping_holds"] = result.stats.get("overlapping_holds", 0) + 1


def _check_write(
    result: Result,
    write: Operation,
    holders: Sequence[Operation],
    released: dict[tuple[str, int], Operation],
) -> None:
    token = write.request["token"]
    release = released.get(_token(write))
    if release is not None and ended_before(release, write):
        result.add("write after release", describe(write), release, write)
    for holder in holders:
        if holder.answer["token"] > token and ended_before(holder, write):
            text = f"{describe(write)} though {describe(holder)} had the lock by then"
            result.add("write after loss", text, holder, write)
            break
    if all(holder.answer["token"] != token for holder in holders):
        result.stats["writes_without_answered_acquire"] = (
            result.stats.get("writes_without_answered_acquire", 0) + 1
        )


def _check_write_order(result: Result, writes: Sequence[Operation]) -> None:
    """Tokens rise with revisions."""
    ordered = sorted(
        (write for write in writes if write.revision is not None), key=lambda w: w.revision or 0
    )
    highest: Operation | None = None
    for write in ordered:
        if highest is not None and write.request["token"] < highest.request["token"]:
            text = f"{describe(write)} after {describe(highest)}"
            result.add("token went back", text, highest, write)
        else:
            highest = write

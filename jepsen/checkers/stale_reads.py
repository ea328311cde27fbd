"""Serializable reads: they may be old, but show the store as it was at the revision they name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jepsen.checkers.result import Result, by_key, describe
from jepsen.history import FAIL, Operation


def check_stale_registers(result: Result, operations: Sequence[Operation]) -> None:
    """Add a violation for each serializable read of a register that was never true.

    Counts these reads, and those older than an answer that had been given before they began.
    """
    for group in by_key(operations).values():
        writes = {
            each.revision: each
            for each in group
            if each.f != "read" and each.revision is not None and each.extra.get("succeeded", True)
        }
        for read in group:
            if read.f == "read" and read.serializable and read.is_ok:
                result.operations += 1
                count(result, "serializable_reads")
                _check_register(result, read, group, writes)


def _check_register(
    result: Result,
    read: Operation,
    group: Sequence[Operation],
    writes: dict[int, Operation],
) -> None:
    mod = read.extra.get("mod_revision")
    if mod is None or read.revision is None:
        return
    if mod > read.revision or (mod == 0) != (read.answer is None):
        result.add("impossible read", describe(read), read)
        return
    writer = writes.get(mod)
    if writer is not None and _written(writer) != read.answer:
        result.add("wrong value", f"{describe(read)}, written by {describe(writer)}", read, writer)
    if writer is not None and writer.start > read.end:
        text = f"{describe(read)} shows the later {describe(writer)}"
        result.add("read from the future", text, read, writer)
    if mod and writer is None and not _may_be_written(group, read):
        result.add("never written", describe(read), read)
    for revision, write in writes.items():
        if mod < revision <= read.revision:
            text = f"{describe(read)} lacks {describe(write)}"
            result.add("wrong at its revision", text, read, write)
    if any(revision > read.revision and w.end < read.start for revision, w in writes.items()):
        count(result, "stale_serializable_reads")


def _written(write: Operation) -> Any:
    return write.request if write.f == "write" else write.request[1]


def _may_be_written(group: Sequence[Operation], read: Operation) -> bool:
    """Return whether a request of unknown outcome may have written what was read."""
    return any(
        each.f != "read"
        and not each.is_ok
        and each.type != FAIL
        and each.start < read.end
        and _written(each) == read.answer
        for each in group
    )


def check_sets_at_revisions(result: Result, operations: Sequence[Operation]) -> None:
    """Add a violation for each read of a set, serializable or not, that is not its revision's."""
    for name, group in by_key(operations).items():
        added = {
            each.request: each for each in group if each.f == "add" and each.revision is not None
        }
        for read in group:
            if read.f != "read" or read.revision is None:
                continue
            got = set(read.answer)
            for element, add in added.items():
                assert add.revision is not None
                if (element in got) != (add.revision <= read.revision):
                    verb = "has" if element in got else "lacks"
                    text = f"a read of {name!r} at {read.revision} {verb} {describe(add)}"
                    result.add("wrong at its revision", text, add, read)
                    break


def count(result: Result, name: str) -> None:
    """Add one to a figure of a result."""
    result.stats[name] = result.stats.get(name, 0) + 1

"""Bank accounts: transfers move money, and no read may see more or less of it."""

from __future__ import annotations

from collections.abc import Sequence

from jepsen.checkers.result import Result, describe
from jepsen.history import Operation


def check_bank(operations: Sequence[Operation], *, total: int | None = None) -> Result:
    """Check that every read has all accounts, none below zero, and the same total.

    ``total`` and the accounts are those of the first read if they are not given.
    """
    result = Result("bank")
    first: Operation | None = None
    for read in operations:
        if read.f != "read" or not read.is_ok:
            continue
        result.operations += 1
        balances = read.answer
        if first is None:
            first = read
            total = sum(balances.values()) if total is None else total
        if balances.keys() != first.answer.keys():
            result.add("wrong accounts", describe(read), first, read)
        if any(balance < 0 for balance in balances.values()):
            result.add("negative balance", describe(read), read)
        if sum(balances.values()) != total:
            text = f"{sum(balances.values())} instead of {total}: {describe(read)}"
            result.add("wrong total", text, read)
    if first is None:
        result.undecided = "nothing was read"
    return result

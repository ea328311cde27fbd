"""Requests on their way through the pipeline, and how they are answered."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from dqlite_py.errors import DqliteError


@dataclass(slots=True)
class Request:
    """A command that waits to be executed."""

    command: Any
    size_bytes: int
    answer: asyncio.Future[Any]
    deadline_s: float


@dataclass(slots=True, eq=False)
class ProposedBatch:
    """A batch that was proposed at ``index`` and waits to be committed."""

    term: int
    index: int
    number: int
    answers: list[tuple[asyncio.Future[Any], Any]]
    committed: bool = False


def settle(answer: asyncio.Future[Any], value: Any) -> None:
    """Give ``value`` as the answer, a DqliteError as its failure; once."""
    if answer.done():
        return
    if isinstance(value, DqliteError):
        answer.set_exception(value)
    else:
        answer.set_result(value)


def fail(answer: asyncio.Future[Any], error: Exception) -> None:
    """Give ``error`` as the answer, unless there is one."""
    if not answer.done():
        answer.set_exception(error)

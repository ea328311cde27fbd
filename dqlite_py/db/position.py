"""Places in the virtual WAL, and what a batch came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dqlite_py.vfs.frames import FrameBatch


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the virtual WAL: its generation, frames in it, database size in pages there.

    ``page_count`` is 0 where only the file's size tells, before the first commit.
    """

    generation: int
    max_frame: int
    page_count: int


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What a batch came to: a result or DqliteError for each job; the pages, None if unchanged."""

    results: list[Any]
    batch: FrameBatch | None
    position: Position

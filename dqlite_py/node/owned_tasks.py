"""Tasks that start while a replica runs, owned by its TaskGroup; and the one way to fail it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from dqlite_py.errors import Fatal


class OwnedTasks:
    """Hands coroutines to the TaskGroup that ``bind`` named."""

    def __init__(self) -> None:
        self._group: asyncio.TaskGroup | None = None
        self._failed: asyncio.Future[None] | None = None
        self._error: BaseException | None = None

    def bind(self, group: asyncio.TaskGroup) -> None:
        """From now on tasks belong to ``group``."""
        self._group = group
        self._failed = asyncio.get_running_loop().create_future()
        if self._error is not None:
            self._failed.set_exception(self._error)

    def release(self) -> None:
        """The group has ended: what is spawned from now on does not run."""
        self._group = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` in the group; its failure fails the replica."""
        if self._group is None:
            work.close()
            return
        self._group.create_task(work)

    def fail(self, error: BaseException) -> None:
        """The replica must stop because of ``error``; the first one counts."""
        if self._error is not None:
            return
        self._error = error
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Let a Fatal error that passes through stop the replica as well."""
        try:
            yield
        except Fatal as error:
            self.fail(error)
            raise

    async def failure(self) -> None:
        """Wait for ``fail`` and raise its error."""
        assert self._failed is not None
        await self._failed

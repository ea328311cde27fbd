"""When this member may execute, and what happens when it no longer may (design rule 1).

Executing starts once the no-op of the member's own term is committed and applied: only then is
everything that earlier leaders may have committed in place. It stops at once when the role or the
term moves; what was speculated is rolled back before anything else is injected.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from dqlite_py.node.applied import AppliedIndex
from dqlite_py.node.contract import LeadershipListener
from dqlite_py.node.hosted import HostedDatabase
from dqlite_py.node.pipeline import Pipeline
from dqlite_py.raft import RawNode, Role


class Leadership:
    """Follows the core's role and runs the pipeline accordingly. Event loop only."""

    def __init__(
        self,
        raw: RawNode,
        applied: AppliedIndex,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        create_primary: Callable[[int], bool],
        lost: Callable[[], None],
        moved: Callable[[], None],
    ) -> None:
        """``create_primary(term)`` proposes the primary database's creation."""
        self._raw = raw
        self._applied = applied
        self._spawn = spawn
        self._create_primary = create_primary
        self._lost = lost
        self._moved = moved
        self._hosted: HostedDatabase | None = None
        self.pipeline: Pipeline | None = None
        self._listeners: list[LeadershipListener] = []
        self._term = 0  # the term in which the no-op was applied; 0 when not leading
        self._serving = False
        self._start_index = 0  # nothing may be executed before this index is applied
        self._creating = 0  # term in which the primary's creation was proposed
        self._seen = (0, 0)
        self.changes_seen = 0

    @property
    def serving(self) -> bool:
        """Whether this member executes writes now."""
        return self._serving

    def host(self, hosted: HostedDatabase, pipeline: Pipeline) -> None:
        """The primary database exists (again): it was created, opened or replaced."""
        self._hosted = hosted
        self.pipeline = pipeline

    def unhost(self) -> None:
        """The primary database is about to be replaced."""
        self.stop()
        self._hosted = None
        self.pipeline = None

    def add_listener(self, listener: LeadershipListener) -> None:
        """Subscribe; told at once if this member serves already."""
        self._listeners.append(listener)
        if self._serving:
            listener.leadership_started(self._term)

    # --- following the core -----------------------------------------------------------------
    def check(self) -> None:
        """Roles, terms, or the applied index may have moved."""
        raw = self._raw
        seen = (raw.term, raw.leader_id)
        if seen != self._seen:
            if seen[1] and seen[1] != self._seen[1]:
                self.changes_seen += 1
            self._seen = seen
            self._moved()
        leads = raw.role is Role.LEADER
        if self._term and (not leads or raw.term != self._term):
            self.stop()
        if leads and not self._term and self._applied.index >= raw.term_start_index:
            self._term = raw.term
            self._start_index = raw.term_start_index
        if self._term:
            self._start()

    def _start(self) -> None:
        pipeline, hosted = self.pipeline, self._hosted
        if pipeline is None or hosted is None:
            if self._creating != self._term and self._create_primary(self._term):
                self._creating = self._term
            return
        if pipeline.leading or hosted.rolling_back or not hosted.sql_open:
            return
        if self._applied.index < self._start_index or self._raw.lead_transferee:
            return
        pipeline.start(self._term, self._opened)

    def _opened(self) -> None:
        self._serving = True
        self._moved()
        for listener in self._listeners:
            listener.leadership_started(self._term)

    def stop(self) -> None:
        """Stop executing; a later ``check`` starts again if this member still leads."""
        self._term = 0
        self._pause()

    def speculation_failed(self) -> None:
        """A proposal was refused, or something not ours must be injected: roll back.

        If this member still leads, it executes again once everything it has proposed is applied.
        """
        self._start_index = self._raw.last_index
        self._pause(discard=True)

    def _pause(self, *, discard: bool = False) -> None:
        pipeline, hosted = self.pipeline, self._hosted
        was_serving, self._serving = self._serving, False
        if pipeline is not None and hosted is not None:
            speculative = pipeline.stop() or discard or bool(hosted.speculation)
            if speculative and not hosted.rolling_back:
                hosted.begin_rollback()
                self._spawn(self._roll_back(hosted))
        if was_serving:
            for listener in self._listeners:
                listener.leadership_stopped()
            self._lost()
            self._moved()

    async def _roll_back(self, hosted: HostedDatabase) -> None:
        await hosted.finish_rollback()
        self.check()

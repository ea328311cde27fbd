"""Time on the real machine."""

from __future__ import annotations

import time


class SystemClock:
    """The operating system's clocks, as ``seams.Clock``."""

    def now_s(self) -> float:
        """Return monotonic seconds; unaffected by steps of the wall clock."""
        return time.monotonic()

    def wall_s(self) -> float:
        """Return Unix seconds; may step."""
        return time.time()

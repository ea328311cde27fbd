"""A member's wall clock, which the tester sets while the server runs.

``clock_shim.c`` is loaded into the server and reads the setting from a shared file each time when
the server asks for the wall clock; it knows the same layout. The monotonic clock stays true.
"""

from __future__ import annotations

import struct
import time
from pathlib import Path

from jepsen.nodes.library import build

SOURCE = Path(__file__).with_name("clock_shim.c")
VERSION = struct.Struct("<Q")
SETTING = struct.Struct("<qqd")
SECOND_NS = 1_000_000_000


class WallClock:
    """The clock of one member; the setting is a file beside its data directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "clock"
        self._version = 0
        self._true_ns = self._shown_ns = time.time_ns()
        self._speed = 1.0
        self._path.write_bytes(bytes(VERSION.size + SETTING.size))

    def environment(self) -> dict[str, str]:
        """Return the variables that give a server this clock; raises NoCompiler."""
        return {"LD_PRELOAD": str(build(SOURCE)), "JEPSEN_CLOCK_CONTROL": str(self._path)}

    def jump(self, offset_s: float) -> None:
        """Set the clock to true time plus an offset; it runs at the true speed."""
        now_ns = time.time_ns()
        self._set(now_ns, now_ns + round(offset_s * SECOND_NS), 1.0)

    def drift(self, speed: float) -> None:
        """Let the clock go on from what it shows, at ``speed`` seconds a second."""
        now_ns = time.time_ns()
        shown_ns = self._shown_ns + round((now_ns - self._true_ns) * self._speed)
        self._set(now_ns, shown_ns, speed)

    def _set(self, true_ns: int, shown_ns: int, speed: float) -> None:
        """Write the setting so that a reader sees all of it or reads again."""
        self._true_ns, self._shown_ns, self._speed = true_ns, shown_ns, speed
        with self._path.open("r+b", buffering=0) as file:
            file.write(VERSION.pack(self._version + 1))
            file.write(SETTING.pack(true_ns, shown_ns, speed))
            self._version += 2
            file.seek(0)
            file.write(VERSION.pack(self._version))

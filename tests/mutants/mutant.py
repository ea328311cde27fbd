"""What a breakage is, and how it is put into a source tree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

SOURCES: Final = "dqlite_py"


class NotApplicable(Exception):
    """The text that a mutant replaces is not there exactly once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One realistic mistake in one place.

    ``file`` is relative to the package directory. ``slip`` says how somebody comes to write it,
    ``breaks`` which promise it breaks. ``chosen_from`` tells whether it was chosen from the design
    alone, before any test was read, or from the code. ``likely`` are the pytest node ids, from
    tests/ on, tried first; those of ``suites`` follow.
    """

    name: str
    file: str
    old: str
    new: str
    slip: str
    breaks: str
    chosen_from: Literal["design", "code"]
    likely: tuple[str, ...] = ()

    def path(self, tree: Path) -> Path:
        """Return the file in ``tree`` that this mutant changes."""
        return tree / SOURCES / self.file

    @property
    def suites(self) -> tuple[str, ...]:
        """Directories or patterns of tests that speak for this package, the nearest first."""
        return _SUITES[self.file.partition("/")[0]]

    def mutated(self, text: str) -> str:
        """Return ``text`` with the mistake in it; raises NotApplicable."""
        found = text.count(self.old)
        if found != 1 or self.old == self.new:
            raise NotApplicable(f"{self.name}: {found} places to change in {self.file}")
        return text.replace(self.old, self.new)


_RULES: Final = "tests/node/test_node_[rm]*.py"  # directed tests; the rest are long simulations
_SUITES: Final = {
    "raft": ("tests/raft", _RULES),
    "storage": ("tests/storage", _RULES),
    "seams.py": ("tests/storage", _RULES),
    "vfs": ("tests/vfs", "tests/db", _RULES),
    "db": ("tests/db", "tests/vfs", "tests/kv", _RULES),
    "node": (_RULES, "tests/node", "tests/simulation"),
    "kv": ("tests/kv", _RULES),
    "lease": ("tests/lease",),
    "watch": ("tests/watch",),
}

"""corrupt: flipped bits in the files of a minority, found at its next start.

A member that refuses to start on damaged files is right to; it is then replaced, as an operator
would do. One that starts must not serve what is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from jepsen.nemesis.nemesis import Nemesis
from jepsen.nodes.process import NeverReady, NodeProcess

MOST_FLIPS = 3
PATIENCE_S = 6.0
END_BYTES = 256
LOG, DATABASE = (".seg", ".wal"), (".sqlite", ".db")
LEFTOVERS = ("staging", "LOCK")


def _ending(endings: tuple[str, ...]) -> Callable[[Path], bool]:
    return lambda path: path.suffix in endings or path.name in endings


def _is_small(path: Path) -> bool:
    return path.suffix not in (*LOG, *DATABASE, ".base", ".tmp")


KINDS: dict[str, Callable[[Path], bool]] = {
    "log": _ending(LOG),
    "end of the log": _ending(LOG),
    "page index": _ending((".base",)),
    "small file": _is_small,
}
"""Which files are of a kind; the records that a log ends with hold term, vote and commit index."""


class FlippedBits(Nemesis):
    """Kills one member, flips bits in files of one kind, starts it; replaces it if it refuses.

    Kinds follow each other in a random order in which none comes twice before all came once, since
    of files drawn at random most would be small ones.
    """

    name = "corrupt"
    kinds: ClassVar[dict[str, Callable[[Path], bool]]] = KINDS

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._bag: list[str] = []

    def start(self) -> Any:
        (node,) = self.random.sample(self.cluster.nodes, 1)
        node.kill()
        return {"member": node.name, **self._flip(node.address.data_dir)}

    def _flip(self, data_dir: Path) -> dict[str, Any]:
        files = [
            path
            for path in sorted(data_dir.rglob("*"))
            if path.is_file() and path.stat().st_size > 0
            if not set(LEFTOVERS) & set(path.relative_to(data_dir).parts)
        ]
        for _ in self.kinds:
            kind = self._next_kind()
            chosen = [path for path in files if self.kinds[kind](path)]
            if chosen:
                flips = range(self.random.randint(1, MOST_FLIPS))
                done = [self._flip_one(self.random.choice(chosen), kind, data_dir) for _ in flips]
                return {"kind": kind, "flipped": done}
        return {"flipped": "nothing: there is no file of any kind"}

    def _next_kind(self) -> str:
        if not self._bag:
            self._bag = self.random.sample(list(self.kinds), len(self.kinds))
        return self._bag.pop()

    def _flip_one(self, path: Path, kind: str, data_dir: Path) -> str:
        used = _used_bytes(path)
        lowest = max(0, used - END_BYTES) if kind == "end of the log" else 0
        offset = self.random.randrange(lowest, used)
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ (1 << self.random.randrange(8))]))
        return f"{path.relative_to(data_dir)}@{offset}"

    def stop(self) -> Any:
        verdicts = {}
        for node in self.cluster.nodes:
            if not node.running:
                verdicts[node.name] = self._revive(node)
        return verdicts

    def _revive(self, node: NodeProcess) -> str:
        node.start()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and node.running:
            if node.answers():
                return "started"
            time.sleep(0.1)
        why = "did not serve" if node.running else f"refused to start ({node.exit_code})"
        try:
            return f"{why}; replaced by {self.cluster.replace(node.name).name}"
        except NeverReady as reason:
            return f"{why}; not replaced: {str(reason)[:300]}"


class FlippedDatabaseBits(FlippedBits):
    """The same in database files, whose pages have no checksums: nothing is promised."""

    name = "corrupt-db"
    kinds: ClassVar[dict[str, Callable[[Path], bool]]] = {"database": _ending(DATABASE)}


def _used_bytes(path: Path) -> int:
    """Return where the last byte that is not zero ends: flips in space never used say nothing."""
    return max(1, len(path.read_bytes().rstrip(b"\0")))

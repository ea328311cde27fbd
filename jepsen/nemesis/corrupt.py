"""corrupt: flipped bytes in the files of a minority, found at its next start.

A member that refuses to start on damaged files is right to; it is then replaced, as an operator
would do. One that starts must not serve what is wrong.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from jepsen.nemesis.nemesis import Nemesis
from jepsen.nodes.process import NeverReady, NodeProcess

FLIPS = 3
PATIENCE_S = 6.0


class FlippedBytes(Nemesis):
    """Kills one member, flips bytes in its files, starts it; replaces it if it refuses."""

    name = "corrupt"

    def start(self) -> Any:
        (node,) = self.random.sample(self.cluster.nodes, 1)
        node.kill()
        return {"member": node.name, "flipped": self._flip(node)}

    def _flip(self, node: NodeProcess) -> list[str]:
        files = [
            path
            for path in sorted(node.address.data_dir.rglob("*"))
            if path.is_file() and path.stat().st_size > 0 and path.name != "LOCK"
        ]
        done = []
        for _ in range(FLIPS):
            path = self.random.choice(files)
            offset = self.random.randrange(_used_bytes(path))
            with path.open("r+b") as file:
                file.seek(offset)
                byte = file.read(1)
                file.seek(offset)
                file.write(bytes([byte[0] ^ (1 << self.random.randrange(8))]))
            done.append(f"{path.relative_to(node.address.data_dir)}@{offset}")
        return done

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


def _used_bytes(path: Path) -> int:
    """Return where the last byte that is not zero ends: flips in space never used say nothing."""
    return max(1, len(path.read_bytes().rstrip(b"\0")))

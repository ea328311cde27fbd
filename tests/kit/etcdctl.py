"""Runs the unmodified etcdctl 3.5.1 and makes its output comparable."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.kit.processes import eventually, run
from tests.kit.products import etcd_binary

TIMEOUT_S = 20.0


def command(endpoint: str, arguments: Sequence[str]) -> list[str]:
    return [etcd_binary("etcdctl"), f"--endpoints={endpoint}", *arguments]


def etcdctl(endpoint: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    """Run etcdctl to its end; return exit code, standard output and standard error."""
    done = run(command(endpoint, arguments), TIMEOUT_S, input=stdin)
    return done.returncode, done.stdout, done.stderr


def etcdctl_ok(endpoint: str, *arguments: str, stdin: str = "") -> str:
    """Run etcdctl; return its standard output; fail unless it exits with 0."""
    code, out, err = etcdctl(endpoint, *arguments, stdin=stdin)
    assert code == 0, f"etcdctl {' '.join(arguments)} on {endpoint}: exit {code}\n{out}{err}"
    return out


def etcdctl_json(endpoint: str, *arguments: str) -> Any:
    """Run etcdctl with JSON output and parse it."""
    return json.loads(etcdctl_ok(endpoint, *arguments, "--write-out=json"))


class FollowedCommand:
    """An etcdctl command that does not end by itself, with its output so far."""

    def __init__(self, endpoint: str, *arguments: str) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="etcdctl-")
        self._path = Path(self._directory.name) / "out"
        with self._path.open("wb") as out:
            self._process = subprocess.Popen(
                command(endpoint, arguments),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> FollowedCommand:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()

    def text(self) -> str:
        """Return the output so far."""
        return self._path.read_text()

    def until(self, text: str, timeout_s: float = TIMEOUT_S) -> None:
        """Return as soon as the output contains ``text``."""
        eventually(lambda: text in self.text(), f"{text!r} in the output", timeout_s)

    def lines(self, count: int, timeout_s: float = TIMEOUT_S) -> list[str]:
        """Return the first ``count`` lines of output as soon as there are so many."""

        def enough() -> list[str]:
            lines = self.text().splitlines()
            return lines if len(lines) >= count else []

        return eventually(enough, f"{count} lines of output", timeout_s)[:count]


VARYING = [
    (re.compile(r'"(cluster_id|member_id|raft_term)":\d+'), r'"\1":0'),
    (re.compile(r'"(ClusterID|MemberID|RaftTerm)" : \d+'), r'"\1" : 0'),
    (re.compile(r"remaining\(\d+s\)"), "remaining(_s)"),
    (re.compile(r"127\.0\.0\.1:\d+"), "ENDPOINT"),
    (re.compile(r'"ts":"[^"]*"'), '"ts":""'),
    (re.compile(r"0x[0-9a-f]{6,}|0xc[0-9a-f]+"), "ADDRESS"),
    (re.compile(r'"attempt":\d+'), '"attempt":0'),
]

ATTACHED_KEYS = re.compile(r"(?<=attached keys\()\[([^]]*)\]")  # in no fixed order


def comparable(text: str, *ids: str) -> str:
    """Mask ids, terms, addresses and times; ``ids`` are lease ids to be masked as well."""
    for number, lease_id in enumerate(ids):
        text = text.replace(lease_id, f"LEASE{number}")
        text = text.replace(str(int(lease_id, 16)), f"LEASE{number}")
    for pattern, replacement in VARYING:
        text = pattern.sub(replacement, text)
    return ATTACHED_KEYS.sub(lambda found: f"[{' '.join(sorted(found[1].split()))}]", text)

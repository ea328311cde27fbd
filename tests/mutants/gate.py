"""Puts one breakage at a time into a copy of the tree and runs the tests against it.

The copy stands alone, so etcd-io/raft's transcripts, which lie beside the project, are not found
there: what they would notice must be noticed by a test of our own.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.mutant import Mutant

TEST_TIMEOUT_S: Final = 120  # for one test: a breakage may well make one wait for ever
RUN_TIMEOUT_S: Final = 900
_NOT_COPIED: Final = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant: ``killer`` is a test's node id, None if every test passed."""

    mutant: Mutant
    killer: str | None
    seconds: float
    trouble: str = ""

    @property
    def killed(self) -> bool:
        """Whether a test noticed that passes without the breakage."""
        return self.killer is not None and not self.trouble


class Tree:
    """A copy of the project to break."""

    def __init__(self, root: Path, path: Path) -> None:
        shutil.copytree(root, path, ignore=_NOT_COPIED)
        self.path = path

    @contextmanager
    def broken_by(self, mutant: Mutant) -> Iterator[None]:
        """Apply ``mutant``, and put the file back in the end; raises NotApplicable."""
        path = mutant.path(self.path)
        whole = path.read_text()
        self._write(path, mutant.mutated(whole))
        try:
            yield
        finally:
            self._write(path, whole)

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)
        # Python knows a changed source by size and second; both may be the same here.
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()

    def first_failure(self, targets: Sequence[str]) -> tuple[str | None, str]:
        """Run tests until one fails; return its node id, and what went wrong apart from that."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=line", "-m", "not process"]
        command += ["--timeout", str(TEST_TIMEOUT_S), *targets]
        try:
            run = subprocess.run(
                command,
                cwd=self.path,
                env=dict(os.environ, PYTHONPATH=str(self.path)),
                capture_output=True,
                text=True,
                timeout=RUN_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return None, f"the tests took more than {RUN_TIMEOUT_S} s"
        found = _FAILED.search(run.stdout)
        if found is not None:
            return found[1], ""
        if run.returncode in (0, 5):  # 5: every test was deselected
            return None, ""
        return None, (run.stdout + run.stderr)[-400:]


class Gate:
    """Judges mutants on several trees at once."""

    def __init__(self, root: Path, scratch: Path, jobs: int) -> None:
        self._trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for number in range(jobs):
            self._trees.put(Tree(root, scratch / f"tree-{number}"))
        self._sound = Tree(root, scratch / "sound")
        self._sound_lock = threading.Lock()
        self._sound_tests: dict[str, bool] = {}
        self._jobs = jobs

    def judge_all(
        self, mutants: Iterable[Mutant], told: Callable[[Verdict], None]
    ) -> list[Verdict]:
        """Judge every mutant; ``told`` hears of each verdict as it comes. In the given order."""
        ordered = list(mutants)
        with ThreadPoolExecutor(self._jobs) as pool:
            futures = {pool.submit(self._judge, mutant): mutant.name for mutant in ordered}
            found = {}
            for future in as_completed(futures):
                verdict = future.result()
                found[verdict.mutant.name] = verdict
                told(verdict)
        return [found[mutant.name] for mutant in ordered]

    def _judge(self, mutant: Mutant) -> Verdict:
        tree = self._trees.get()
        started_s = time.monotonic()
        try:
            with tree.broken_by(mutant):
                killer, trouble = self._hunt(tree, mutant)
                if killer is not None and tree.first_failure([killer])[0] is None:
                    trouble = f"{killer} fails with the breakage, but not always"
        finally:
            self._trees.put(tree)
        if killer is not None and not trouble and not self._passes_when_sound(killer):
            trouble = f"{killer} fails without the breakage too"
        return Verdict(mutant, killer, time.monotonic() - started_s, trouble)

    def _hunt(self, tree: Tree, mutant: Mutant) -> tuple[str | None, str]:
        """Try the likely tests, then suite after suite."""
        suites = [self._matching(tree, suite) for suite in mutant.suites]
        likely = [f"tests/{node_id}" for node_id in mutant.likely]
        for targets in (likely, *suites):
            if not targets:
                continue
            killer, trouble = tree.first_failure(targets)
            if killer is not None or trouble:
                return killer, trouble
        return None, ""

    @staticmethod
    def _matching(tree: Tree, suite: str) -> list[str]:
        return sorted(str(path.relative_to(tree.path)) for path in tree.path.glob(suite))

    def _passes_when_sound(self, test: str) -> bool:
        """A test that fails anyway has noticed nothing."""
        with self._sound_lock:
            if test not in self._sound_tests:
                killer, trouble = self._sound.first_failure([test])
                self._sound_tests[test] = killer is None and not trouble
            return self._sound_tests[test]


@contextmanager
def gate(root: Path, jobs: int) -> Iterator[Gate]:
    """Open a gate on copies of ``root`` in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        yield Gate(root, Path(scratch), jobs)

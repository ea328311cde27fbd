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
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
        failed, trouble = self._run(["-x", *targets])
        return (failed[0] if failed else None), trouble

    def failures(self, targets: Sequence[str]) -> set[str]:
        """Run all of these tests and return those that fail."""
        failed, trouble = self._run(targets)
        return {*failed, *(targets if trouble else ())}

    def _run(self, arguments: Sequence[str]) -> tuple[list[str], str]:
        command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-m", "not process"]
        command += ["--timeout", str(TEST_TIMEOUT_S), *arguments]
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
            return [], f"the tests took more than {RUN_TIMEOUT_S} s"
        failed = _FAILED.findall(run.stdout)
        if failed or run.returncode in (0, 5):  # 5: every test was deselected
            return failed, ""
        return [], (run.stdout + run.stderr)[-400:]


class Gate:
    """Judges mutants on several trees at once."""

    def __init__(self, root: Path, scratch: Path, jobs: int) -> None:
        self._trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for number in range(jobs):
            self._trees.put(Tree(root, scratch / f"tree-{number}"))
        self._sound = Tree(root, scratch / "sound")
        self._jobs = jobs

    def judge_all(
        self, mutants: Iterable[Mutant], told: Callable[[Verdict], None]
    ) -> list[Verdict]:
        """Judge every mutant; ``told`` hears of each as it comes. Returns them in the given order.

        In the end all killers run once without any breakage: one that fails then has noticed
        nothing.
        """
        ordered = list(mutants)
        found = {}
        with ThreadPoolExecutor(self._jobs) as pool:
            for future in as_completed([pool.submit(self._judge, one) for one in ordered]):
                verdict = future.result()
                found[verdict.mutant.name] = verdict
                told(verdict)
        verdicts = [found[mutant.name] for mutant in ordered]
        killers = sorted({verdict.killer for verdict in verdicts if verdict.killer is not None})
        unsound = self._sound.failures(killers) if killers else set()
        return [
            replace(verdict, trouble=f"{verdict.killer} fails without the breakage too")
            if verdict.killer in unsound
            else verdict
            for verdict in verdicts
        ]

    def _judge(self, mutant: Mutant) -> Verdict:
        tree = self._trees.get()
        started_s = time.monotonic()
        try:
            with tree.broken_by(mutant):
                killer, trouble = self._hunt(tree, mutant)
        finally:
            self._trees.put(tree)
        return Verdict(mutant, killer, time.monotonic() - started_s, trouble)

    def _hunt(self, tree: Tree, mutant: Mutant) -> tuple[str | None, str]:
        """Try the likely tests, then suite after suite."""
        if mutant.likely:
            killer, trouble = tree.first_failure([f"tests/{node_id}" for node_id in mutant.likely])
            if killer is not None or trouble:
                return killer, trouble
        for suite in mutant.suites:
            paths = sorted(str(path.relative_to(tree.path)) for path in tree.path.glob(suite))
            killer, trouble = tree.first_failure(paths) if paths else (None, "")
            if killer is not None and tree.first_failure([killer])[0] is None:
                # Nobody expected this test to notice: it might be one that fails now and then.
                return killer, f"{killer} does not always fail"
            if killer is not None or trouble:
                return killer, trouble
        return None, ""


@contextmanager
def gate(root: Path, jobs: int) -> Iterator[Gate]:
    """Open a gate on copies of ``root`` in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        yield Gate(root, Path(scratch), jobs)

"""Runs the tests under coverage.py and reads what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import coverage

from tests.branches.gaps import FileCoverage, measured

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("raft", "storage", "vfs", "node")
SEEDS: Final = range(1, 21)
# The transcripts lie beside the project and may be absent: the figures must not depend on them.
TESTS: Final = (
    "tests/raft",
    "tests/storage",
    "tests/vfs",
    "tests/db",
    "tests/node",
    "--ignore=tests/raft/test_raft_transcripts.py",
)
_NOTHING_IS_EXCLUDED: Final = "(?!)"


def run_everything(data_file: Path) -> None:
    """Run the tests beside the seeds of the simulation; raises CalledProcessError if one fails."""
    seeds = ["-m", "tests.branches.seeds", str(SEEDS.start), str(SEEDS.stop)]
    commands = (["-m", "pytest", "-q", *TESTS], seeds)
    parts = [data_file.with_suffix(f".{number}") for number in range(len(commands))]
    with ThreadPoolExecutor(len(commands)) as pool:
        list(pool.map(under_coverage, parts, commands))
    combined = coverage.Coverage(data_file=str(data_file), config_file=False)
    combined.combine([str(part) for part in parts])
    combined.save()


def under_coverage(data_file: Path, command: Sequence[str]) -> None:
    """Run Python with ``command`` and write to ``data_file`` what it reached."""
    with tempfile.TemporaryDirectory(prefix="branches-") as folder:
        settings = Path(folder) / "coverage.ini"
        names = ",".join(f"dqlite_py.{package}" for package in PACKAGES)
        settings.write_text(
            f"[run]\nbranch = True\nsource_pkgs = {names}\ndata_file = {data_file}\n"
            "disable_warnings = module-not-imported\n"
        )
        run = ["-m", "coverage", "run", f"--rcfile={settings}"]
        # A set's order must not decide which way a simulation goes.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        subprocess.run([sys.executable, *run, *command], cwd=ROOT, env=environment, check=True)


def found_in(data_file: Path, root: Path = ROOT) -> list[FileCoverage]:
    """Return what is in ``data_file`` for every source of the packages, in order of names."""
    folders = [root / "dqlite_py" / package for package in PACKAGES]
    with tempfile.TemporaryDirectory(prefix="branches-") as folder:
        report = Path(folder) / "report.json"
        data = coverage.Coverage(
            data_file=str(data_file), config_file=False, branch=True, source=list(map(str, folders))
        )
        data.set_option("report:exclude_lines", [_NOTHING_IS_EXCLUDED])
        data.set_option("report:partial_branches", [_NOTHING_IS_EXCLUDED])
        data.set_option("report:partial_branches_always", [_NOTHING_IS_EXCLUDED])
        data.load()
        data.json_report(outfile=str(report))
        files = json.loads(report.read_text())["files"]
    by_path = {str((Path.cwd() / name).resolve()): part for name, part in files.items()}
    found = []
    for package in folders:
        for path in sorted(package.glob("*.py")):
            part = by_path.get(str(path))
            if part is not None:
                name = str(path.relative_to(root / "dqlite_py"))
                found.append(measured(name, path.read_text(), part))
    return found

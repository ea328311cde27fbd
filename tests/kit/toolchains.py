"""Programs in other languages that tests run, built from package registries into a cache.

The cache lies outside the repository: ``DQLITE_PY_TEST_CACHE`` or ``~/.cache/dqlite-py-tests``.
A build is named by a digest of its sources, so that a change builds anew; it is made in a
temporary folder and renamed, so that a build cut short is never used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

BUILD_TIMEOUT_S = 600.0
INTEROP = Path(__file__).resolve().parents[1] / "interop"


class NotBuilt(Exception):
    """The program is not to be had: its toolchain is missing, or it may not be built now."""


def cache() -> Path:
    """Return the folder of the built programs."""
    named = os.environ.get("DQLITE_PY_TEST_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "dqlite-py-tests"


def go_program(sources: str, package: str, *, build: bool) -> Path:
    """Return the binary of ``package``, as the module in ``sources`` (below tests/interop) pins it.

    Raises NotBuilt when go is missing, or it is not in the cache and ``build`` is false.
    """

    def make(folder: Path) -> None:
        env = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false"}
        _run(["go", "build", "-o", "program", package], folder, env)

    return _built("go", sources, package, make, build=build) / "program"


def node_folder(sources: str, *, build: bool) -> Path:
    """Return a copy of ``sources`` (below tests/interop) with its node_modules.

    Raises NotBuilt when node is missing, or it is not in the cache and ``build`` is false.
    """

    def make(folder: Path) -> None:
        _run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder, dict(os.environ))

    return _built("node", sources, "", make, build=build)


def debian_program(name: str, package: str) -> str:
    """Return the path of a program of a Debian package; raise NotBuilt when it is missing."""
    found = shutil.which(name)
    if found is None:
        raise NotBuilt(f"{name} of the Debian package {package} is not installed")
    return found


def _built(
    tool: str, sources: str, package: str, make: Callable[[Path], None], *, build: bool
) -> Path:
    if shutil.which(tool) is None:
        raise NotBuilt(f"{tool} is not installed")
    origin = INTEROP / sources
    place = cache() / f"{sources}-{_digest(origin, package)}"
    if place.exists():
        return place
    if not build:
        raise NotBuilt(f"{sources} {package} is not in {cache()} yet: --long builds it")
    cache().mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=cache()))
    try:
        shutil.copytree(origin, scratch, dirs_exist_ok=True)
        make(scratch)
        scratch.rename(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return place


def _digest(origin: Path, package: str) -> str:
    found = hashlib.sha256(package.encode())
    for path in sorted(origin.rglob("*")):
        if path.is_file():
            found.update(str(path.relative_to(origin)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def _run(command: list[str], folder: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        text = f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        raise AssertionError(text)

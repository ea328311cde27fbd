"""Building the libraries that are preloaded into servers."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path


class NoCompiler(Exception):
    """A library cannot be built here."""


def build(source: Path) -> Path:
    """Compile a C source once for each of its versions; raises NoCompiler."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"jepsen-shim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{source.stem}-{digest}.so"
    if library.exists():
        return library
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise NoCompiler(f"no C compiler for {source.name}")
    fresh = library.with_suffix(f".{os.getpid()}")
    done = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", fresh, source, "-ldl", "-lpthread"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NoCompiler(f"{source.name} does not compile: {done.stderr}")
    fresh.replace(library)
    return library

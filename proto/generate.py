"""Generate dqlite_py/pb from the .proto files beside this script, or check that it is current.

Usage: ``python proto/generate.py [--check]``. With ``--check`` nothing is written and the exit
code is 1 if the checked-in code differs from what would be generated.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

SOURCES = Path(__file__).resolve().parent
ROOT = SOURCES.parent
TARGET = Path("dqlite_py/pb")


def generate(output: Path) -> None:
    """Write the generated modules and their stubs below ``output``; exit if protoc fails."""
    # protoc finds its stub generator next to the interpreter, also outside an activated venv.
    os.environ["PATH"] = str(Path(sys.executable).parent) + os.pathsep + os.environ["PATH"]
    names = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.rglob("*.proto"))
    well_known = str(resources.files("grpc_tools") / "_proto")
    code = protoc.main(
        [
            "protoc",
            f"-I{SOURCES}",
            f"-I{well_known}",
            f"--python_out={output}",
            f"--mypy_out=quiet:{output}",
            *names,
        ]
    )
    if code != 0:
        sys.exit(code)


def generated_files(root: Path) -> dict[str, bytes]:
    """Return file name -> content of the generated modules below ``root``."""
    files = [*(root / TARGET).glob("*_pb2.py"), *(root / TARGET).glob("*_pb2.pyi")]
    return {path.name: path.read_bytes() for path in files}


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__)
        return 2
    if not arguments:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, present = generated_files(Path(scratch)), generated_files(ROOT)
    stale = sorted(
        name for name in fresh.keys() | present.keys() if fresh.get(name) != present.get(name)
    )
    if stale:
        print("not current, run `python proto/generate.py`:", ", ".join(stale))
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

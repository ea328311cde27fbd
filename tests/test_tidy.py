"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULE_MAX_LINES = 400
FUNCTION_MAX_LINES = 50
BANNED_NAMES = {"utils", "util", "helpers", "helper", "manager", "common", "base", "misc"}
DESIGNED = ("cluster", "db", "http", "node", "raft", "storage", "transport", "vfs")
TEXT_SUFFIXES = {".py", ".pyi", ".md", ".toml", ".proto", ".txt", ".sh", ".json", ""}
# Spelt in pieces so that this file does not find itself.
MACHINE_PATHS = tuple("/" + name + "/" for name in ("work", "root", "home", "Users"))


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.name.endswith("_pb2.py"):
                yield path


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


ALL = list(sources("dqlite_py", "tests", "bench", "proto", "jepsen"))
PRODUCT = list(sources("dqlite_py"))


@pytest.mark.parametrize("path", ALL, ids=named)
def test_modules_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < MODULE_MAX_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length < FUNCTION_MAX_LINES, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", ALL, ids=named)
def test_names_come_from_the_field(path: Path) -> None:
    assert path.stem not in BANNED_NAMES
    assert not BANNED_NAMES & set(path.relative_to(ROOT).parts)


@pytest.mark.parametrize("path", ALL, ids=named)
def test_annotations_are_lazy(path: Path) -> None:
    tree = ast.parse(path.read_text())
    code = [node for node in tree.body if not _is_docstring(node)]
    if code:
        first = code[0]
        assert isinstance(first, ast.ImportFrom)
        assert first.module == "__future__"


@pytest.mark.parametrize("path", PRODUCT, ids=named)
def test_nothing_is_left_for_later_and_every_task_has_an_owner(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(TODO|FIXME|XXX)\b|NotImplementedError", text)
    assert not re.search(r"^\s*(import|from) (pickle|marshal|shelve|dill)\b", text, re.MULTILINE)
    assert "asyncio.create_task(" not in text


def test_no_path_of_the_developers_machine_is_written_down() -> None:
    folders = ("dqlite_py", "tests", "bench", "proto", "docs", ".ci", "jepsen")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    found = []
    for path in files:
        if path.suffix not in TEXT_SUFFIXES or "__pycache__" in path.parts or path.name == ".git":
            continue
        text = path.read_text(errors="replace")
        # A path starts at a word's beginning: `client/home/x` is none.
        found += [
            f"{named(path)}: {name}"
            for name in MACHINE_PATHS
            if re.search(rf"(?<![\w.}}\])]){name}\w", text)
        ]
    assert found == []


@pytest.mark.parametrize("package", DESIGNED)
def test_a_package_with_a_design_says_it(package: str) -> None:
    assert (ROOT / "dqlite_py" / package / "DESIGN.md").is_file()


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

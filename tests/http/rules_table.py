"""``python -m tests.http.rules_table [--check]``: write docs/http2-rules.md from the tests.

A rule is a test whose name begins with the number of its section, ``test_5_1_1_...``; what it
demands is the first sentence of its docstring or, where there is none, its name.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLE = HERE.parents[1] / "docs" / "http2-rules.md"
SOURCES = {
    "9113": ("test_rfc9113_*.py",),
    "7541": ("test_hpack_decoder_rules.py", "test_hpack_encoder_rules.py"),
}
NAME = re.compile(r"test_(?:(9113|7541)_)?(\d+(?:_\d+)*)_([a-z]\w*)")
INTRODUCTION = """# The rules of HTTP/2, each with its test

Written by `python -m tests.http.rules_table` from the tests' names and docstrings; `tests/http`
holds that it is current. A rule is one that RFC 9113 (HTTP/2) or RFC 7541 (HPACK) puts to a server
with MUST or MUST NOT, in our words. What concerns clients only is left out, and so is what a server
that never pushes cannot break. Each test talks to the state machine frame by frame; h2spec asks the
whole server (`tests/interop/test_h2spec.py`).
"""
HEADS = {
    "9113": "## RFC 9113: HTTP/2",
    "7541": "## RFC 7541: HPACK",
}


@dataclass(frozen=True)
class Rule:
    """One row."""

    document: str
    section: tuple[int, ...]
    demand: str
    test: str

    @property
    def number(self) -> str:
        return ".".join(map(str, self.section))


def rules() -> list[Rule]:
    """Return every rule that a test holds, by document and section."""
    found = [
        rule
        for document, patterns in SOURCES.items()
        for pattern in patterns
        for path in sorted(HERE.glob(pattern))
        for rule in _rules_of(path, document)
    ]
    return sorted(found, key=lambda rule: (rule.document != "9113", rule.section))


def _rules_of(path: Path, document: str) -> Iterator[Rule]:
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        match = NAME.fullmatch(node.name)
        if match is None:
            continue
        section = tuple(map(int, match[2].split("_")))
        text = ast.get_docstring(node) or match[3].replace("_", " ")
        demand = text.split("\n\n")[0].replace("\n", " ").replace("|", "\\|").rstrip(".")
        yield Rule(match[1] or document, section, demand, f"{path.name}::{node.name}")


def table() -> str:
    """Return the whole page."""
    lines = [INTRODUCTION.rstrip()]
    document = ""
    for rule in rules():
        if rule.document != document:
            document = rule.document
            lines += ["", HEADS[document], "", "| section | rule | test |", "|---|---|---|"]
        demand = rule.demand[0].upper() + rule.demand[1:]
        lines.append(f"| {rule.number} | {demand} | `{rule.test}` |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.http.rules_table", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it is current")
    if parser.parse_args().check:
        return 0 if TABLE.read_text() == table() else 1
    TABLE.write_text(table())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Parse transcript files: directives, their input, and the output they must produce.

A directive is ``command arg key=value key=(v1,v2)``, then optional input lines, then ``----`` and
the expected output up to a blank line. Lines starting with ``#`` between directives are comments.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

_SEPARATOR = "----"


@dataclass(frozen=True, slots=True)
class Directive:
    line_number: int
    text: str
    command: str
    positional: tuple[str, ...]
    named: dict[str, tuple[str, ...]] = field(default_factory=dict)
    input: str = ""
    expected: str = ""

    def one(self, key: str, default: str = "") -> str:
        values = self.named.get(key)
        return values[0] if values else default

    def flag(self, key: str) -> bool:
        return self.one(key) == "true"

    def numbers(self, key: str) -> tuple[int, ...]:
        return tuple(int(value) for value in self.named.get(key, ()))


def parse(path: Path) -> list[Directive]:
    lines = path.read_text().splitlines()
    directives = []
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        if not line or line.startswith("#"):
            at += 1
            continue
        directive, at = _parse_one(lines, at)
        directives.append(directive)
    return directives


def _parse_one(lines: list[str], at: int) -> tuple[Directive, int]:
    start = at
    text = lines[at].strip()
    at += 1
    given = []
    while lines[at] != _SEPARATOR:
        given.append(lines[at])
        at += 1
    at += 1
    expected = []
    if at < len(lines) and lines[at] == _SEPARATOR:  # doubled: the output holds blank lines
        at += 1
        while lines[at : at + 2] != [_SEPARATOR, _SEPARATOR]:
            expected.append(lines[at])
            at += 1
        at += 2
    else:
        while at < len(lines) and lines[at].strip():
            expected.append(lines[at])
            at += 1
    command, positional, named = _parse_command(text)
    directive = Directive(
        start + 1, text, command, positional, named, "\n".join(given), "\n".join(expected)
    )
    return directive, at


def _parse_command(text: str) -> tuple[str, tuple[str, ...], dict[str, tuple[str, ...]]]:
    words = _split(text)
    positional = []
    named = {}
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if not equals:
            positional.append(word)
        elif value.startswith("("):
            named[key] = tuple(part.strip() for part in value[1:-1].split(",") if part.strip())
        else:
            named[key] = (value,)
    return words[0], tuple(positional), named


def _split(text: str) -> list[str]:
    """Split at spaces outside parentheses."""
    words, word, depth = [], "", 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == " " and not depth:
            if word:
                words.append(word)
            word = ""
        else:
            word += character
    if word:
        words.append(word)
    return words

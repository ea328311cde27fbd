"""Replay recorded transcripts of etcd-io/raft verbatim, one test a file.

The files are looked for in ``../shared/raft-transcripts`` beside the project, or in the checkout
of etcd-io/raft that RAFT_TESTDATA names.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dqlite_py.raft import InvalidConfChange
from dqlite_py.raft.confchange import Changer, Configuration, ProgressMap
from dqlite_py.raft.quorum import INFINITE_INDEX, JointConfig, MajorityConfig
from tests.kit.datadriven import Directive, parse
from tests.kit.raft_environment import Environment, parse_changes

_PROJECT = Path(__file__).resolve().parents[2]
_HINT = "no transcripts: set RAFT_TESTDATA to a checkout of etcd-io/raft"


def _folder(part: str) -> Path:
    checkout = os.environ.get("RAFT_TESTDATA")
    if checkout:
        root = Path(checkout)
        return root / "testdata" if part == "interaction" else root / part / "testdata"
    return _PROJECT.parent / "shared" / "raft-transcripts" / part


def _files(part: str) -> list[object]:
    found = sorted(_folder(part).glob("*.txt")) if _folder(part).is_dir() else []
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason=_HINT), id="absent")]
    return [pytest.param(path, id=path.stem) for path in found]


def _replay(path: Path, handle: Callable[[Directive], str]) -> None:
    directives = parse(path)
    assert directives, f"{path} holds no directives"
    for directive in directives:
        actual = handle(directive)
        if actual == directive.expected:
            continue
        diff = difflib.unified_diff(
            directive.expected.split("\n"),
            actual.split("\n"),
            "expected",
            "actual",
            lineterm="",
            n=5,
        )
        where = f"{path.name}:{directive.line_number}: {directive.text}"
        pytest.fail("\n".join([where, *diff]), pytrace=False)


@pytest.mark.parametrize("path", _files("interaction"))
def test_interaction(path: Path) -> None:
    _replay(path, Environment().handle)


class _ConfChangeTable:
    """Applies changes one after the other; the last index counts the directives."""

    def __init__(self) -> None:
        self.configuration = Configuration()
        self.progress: ProgressMap = {}
        self.last_index = 0

    def handle(self, directive: Directive) -> str:
        changer = Changer(self.configuration, self.progress, self.last_index, 10, 0)
        self.last_index += 1
        changes = parse_changes(directive.input)
        try:
            if directive.command == "simple":
                result = changer.simple(changes)
            elif directive.command == "enter-joint":
                result = changer.enter_joint(changes, auto_leave=directive.flag("autoleave"))
            else:
                result = changer.leave_joint()
        except InvalidConfChange as error:
            return str(error)
        self.configuration, self.progress = result
        lines = [f"{member}: {each}" for member, each in sorted(self.progress.items())]
        return "\n".join([str(self.configuration), *lines])


@pytest.mark.parametrize("path", _files("confchange"))
def test_confchange(path: Path) -> None:
    _replay(path, _ConfChangeTable().handle)


def _members(directive: Directive, key: str) -> list[int]:
    return [int(word) for word in directive.named.get(key, ()) if word != "zero"]


def _assigned(directive: Directive, key: str) -> dict[int, str]:
    """Pair the values with the members in order of first mention; ``_`` means no value."""
    order = dict.fromkeys(_members(directive, "cfg") + _members(directive, "cfgj"))
    values = directive.named.get(key, ())
    assert len(values) == len(order)
    pairs = zip(order, values, strict=True)
    return {member: value for member, value in pairs if value != "_"}


def _picture(voters: frozenset[int], acked: dict[int, int]) -> str:
    if not voters:
        return "<empty majority quorum>"
    ranked = sorted(voters, key=lambda member: (acked.get(member, 0), member))
    bars = {ranked[0]: 0}
    for position in range(1, len(ranked)):
        before, member = ranked[position - 1], ranked[position]
        higher = acked.get(member, 0) > acked.get(before, 0)
        bars[member] = position if higher else bars[before]
    width = len(voters)
    lines = [" " * width + "    idx"]
    for member in sorted(voters):
        bar = bars[member]
        mark = "x" * bar + ">" + " " * (width - bar) if member in acked else "?" + " " * width
        lines.append(f"{mark} {acked.get(member, 0):5}    (id={member})")
    return "\n".join(lines) + "\n"


def _slow_committed(voters: MajorityConfig, acked: dict[int, int]) -> int:
    """The same answer by counting, for comparison."""
    if not voters.ids:
        return INFINITE_INDEX
    candidates = [0, *(acked.get(member, 0) for member in voters.ids)]
    need = len(voters.ids) // 2 + 1
    return max(
        index
        for index in candidates
        if sum(acked.get(member, 0) >= index for member in voters.ids) >= need
    )


def _quorum(directive: Directive) -> str:
    incoming, outgoing = _members(directive, "cfg"), _members(directive, "cfgj")
    voters = JointConfig.of(incoming, outgoing)
    swapped = JointConfig.of(outgoing, incoming)
    if directive.command == "vote":
        votes = {member: value == "y" for member, value in _assigned(directive, "votes").items()}
        result = voters.vote_result(votes)
        assert swapped.vote_result(votes) is result
        assert incoming or outgoing or result.name == "WON"
        return "Vote" + result.name.capitalize()
    acked = {member: int(value) for member, value in _assigned(directive, "idx").items()}
    index = voters.committed_index(acked)
    assert swapped.committed_index(acked) == index
    halves = (voters.incoming, voters.outgoing)
    assert index == min(_slow_committed(half, acked) for half in halves)
    return _picture(voters.ids, acked) + ("∞" if index == INFINITE_INDEX else str(index))


@pytest.mark.parametrize("path", _files("quorum"))
def test_quorum(path: Path) -> None:
    _replay(path, _quorum)

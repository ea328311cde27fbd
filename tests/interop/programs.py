"""The client programs: how each is started, and which scenarios it can do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.interop.scenarios import (
    MESSAGE_LIMIT_BYTES,
    READ_BACK_BYTES,
    Counts,
    expected,
)
from tests.kit.processes import REPOSITORY, run
from tests.kit.toolchains import go_program, node_folder

TIMEOUT_S = 300.0

Expectations = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Program:
    """A client. ``command`` gets whether it may build; ``own`` replaces common expectations."""

    name: str
    command: Callable[[bool], list[str]]
    own: Callable[[Counts], Expectations] = field(default=lambda _counts: {})
    only_own: bool = False

    def expected(self, counts: Counts) -> Expectations:
        return ({} if self.only_own else expected(counts)) | self.own(counts)


def _python(module: str) -> Callable[[bool], list[str]]:
    return lambda _build: [sys.executable, "-m", f"tests.interop.clients.{module}"]


def _go(package: str) -> Callable[[bool], list[str]]:
    return lambda build: [str(go_program("go", f"./{package}", build=build))]


def _node(script: str) -> Callable[[bool], list[str]]:
    return lambda build: ["node", str(node_folder("node", build=build) / script)]


def _etcd_go(counts: Counts) -> Expectations:
    common = expected(counts)
    kept = ("cancel", "deadline", "sequential", "concurrent")
    large = {name: seen for name, seen in common["large"].items() if name != "at_limit"}
    refused = common["unary"]["refused"]
    return {name: common[name] for name in kept} | {
        "unary": {"value": "second", "refused": refused, "moved": True},
        "bidi": {"created": 2, "events": 3, "ttl": 60, "gone": True},
        "large": large,
    }


def _etcd_node(counts: Counts) -> Expectations:
    common = expected(counts)
    return {name: common[name] for name in ("sequential", "concurrent")} | {
        "unary": {
            "value": "second",
            "refused": "3 INVALID_ARGUMENT: etcdserver: key is not provided",
            "moved": True,
        },
        "bidi": {"value": "seen", "before": "here", "after": None},
        "large": {
            "read_back": READ_BACK_BYTES,
            "put_at_limit": "3 INVALID_ARGUMENT: etcdserver: request is too large",
            "over_limit": True,
            "after": "still here",
        },
    }


PROGRAMS = {
    program.name: program
    for program in (
        Program("grpcio", _python("grpcio_sync")),
        Program("grpcio-aio", _python("grpcio_aio")),
        Program("grpclib", _python("grpclib_client")),
        Program("go-grpc", _go("grpcclient")),
        Program("go-etcd", _go("etcdclient"), _etcd_go, only_own=True),
        Program("node-grpc-js", _node("grpc_js.js")),
        Program("node-etcd3", _node("etcd3.js"), _etcd_node, only_own=True),
    )
}


def outcome(
    program: Program, endpoint: str, scenarios: Sequence[str], counts: Counts, *, build: bool
) -> Expectations:
    """Run a program to its end; return what each scenario printed.

    Raises NotBuilt when the program is not to be had.
    """
    numbers = [counts.sequential, counts.concurrent]
    if program.name.startswith(("go-", "node-")):
        numbers += [READ_BACK_BYTES, MESSAGE_LIMIT_BYTES]
    command = [*program.command(build), endpoint, ",".join(scenarios), *map(str, numbers)]
    env = {**os.environ, "DQLITE_PROTO": str(REPOSITORY / "proto")}
    done = run(command, TIMEOUT_S, env=env)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    seen = {line.pop("scenario"): line for line in lines}
    missing = set(scenarios) - set(seen)
    assert done.returncode == 0, f"{program.name}: exit {done.returncode}\n{done.stderr}"
    assert not missing, f"{program.name}: nothing about {missing}\n{done.stderr}"
    print(done.stderr)
    return seen

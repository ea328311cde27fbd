"""How a Python client program reads its orders and prints what it saw."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from dqlite_py.pb import rpc_pb2 as rpc
from tests.interop.scenarios import MESSAGE_LIMIT_BYTES, Counts

Seen = dict[str, Any]
MARGIN_BYTES = 30  # more than tags and lengths take


def orders() -> tuple[str, list[str], Counts]:
    """Return endpoint, scenarios and counts of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("scenarios")
    parser.add_argument("sequential", type=int)
    parser.add_argument("concurrent", type=int)
    given = parser.parse_args()
    names: list[str] = given.scenarios.split(",")
    return given.endpoint, names, Counts(given.sequential, given.concurrent)


def report(name: str, seen: Seen) -> None:
    print(json.dumps({"scenario": name, **seen}), flush=True)


def run(names: list[str], scenarios: dict[str, Callable[[], Seen]]) -> None:
    """Run scenarios one after the other; what one raises is what it saw."""
    for name in names:
        try:
            seen = scenarios[name]()
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            seen = {"error": repr(error)}
        report(name, seen)


async def run_async(names: list[str], scenarios: dict[str, Callable[[], Awaitable[Seen]]]) -> None:
    """Do as ``run`` does."""
    for name in names:
        try:
            seen = await scenarios[name]()
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            seen = {"error": repr(error)}
        report(name, seen)


def sized_put(size_bytes: int) -> rpc.PutRequest:
    """Return a Put whose message has exactly this size."""
    request = rpc.PutRequest(key=b"large", value=bytes(size_bytes - MARGIN_BYTES))
    request.value += bytes(size_bytes - request.ByteSize())
    assert request.ByteSize() == size_bytes
    return request


def sized_range(size_bytes: int) -> rpc.RangeRequest:
    """Return a Range whose message has exactly this size."""
    request = rpc.RangeRequest(key=b"x" * (size_bytes - MARGIN_BYTES))
    request.key += b"x" * (size_bytes - request.ByteSize())
    assert request.ByteSize() == size_bytes
    return request


AT_LIMIT = sized_range(MESSAGE_LIMIT_BYTES)
PUT_AT_LIMIT = sized_put(MESSAGE_LIMIT_BYTES)
OVER_LIMIT = sized_put(MESSAGE_LIMIT_BYTES + 1)


def watch(key: bytes, watch_id: int = 0) -> rpc.WatchRequest:
    create = rpc.WatchCreateRequest(key=key, watch_id=watch_id)
    return rpc.WatchRequest(create_request=create)
